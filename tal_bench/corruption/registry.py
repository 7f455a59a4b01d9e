"""Registry of corruptions of frames or features, and the conditions to evaluate."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import content_hash
from tal_bench.errors import InputError
from tal_bench.registry import Registry

Frame = NDArray[np.uint8]
Level = Literal["pixels", "features"]
FrameChange = Callable[[Frame, float, np.random.Generator, Frame], Frame]
"""Function of the frame [H, W, 3], the level, a random generator and the last intact frame before it."""
FeatureChange = Callable[
    [NDArray[np.float32], float, np.random.Generator, NDArray[np.float32]], NDArray[np.float32]
]
"""Function of features [N, C], the level, a random generator and the standard deviation [C] in the video."""

SHARES = (0.01, 0.05, 0.1)
"""Shares of the frames of every action (Zeng et al., CVPR 2024)."""
FULL_SHARE = 1.0
"""Share of a corruption that applies to whole videos."""
VERSION = 1
"""Version of the method; increased when the same corruption would give different features."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """Declaration of a corruption.

    Attributes:
        name: Name on the command line and in tables.
        summary: Description in one line.
        levels: Strength at severity 1, 2, 3 …, in the unit given in `summary`.
        change: Function applied to each selected frame, or to the selected features. It must not modify its
            input.
        on: What the corruption changes; `features` is for datasets without videos.
        extent: `actions` for a share of the frames in the middle of every action, `video` for all frames.
        steady: Whether all frames of an action get the same random numbers, so that for example an occluder
            does not move; otherwise every frame gets its own.
    """

    name: str
    summary: str
    levels: tuple[float, ...]
    change: FrameChange | FeatureChange
    on: Level = "pixels"
    extent: Literal["actions", "video"] = "actions"
    steady: bool = False

    @property
    def identity(self) -> str:
        """Hash of the code of `change` and of how it is applied, without name and levels."""
        try:
            code = inspect.getsource(self.change)
        except (OSError, TypeError):
            code = f"{self.change.__module__}.{getattr(self.change, '__qualname__', '')}"
        return content_hash([VERSION, code, self.on, self.extent, self.steady], 8)


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    """One corrupted version of the test videos.

    Attributes:
        corruption: Registered name.
        severity: Severity 1, 2, 3 …; 0 changes nothing.
        share: Share of the frames of every action, or `FULL_SHARE`.
    """

    corruption: str
    severity: int
    share: float

    @property
    def level(self) -> float:
        """Strength at the severity.

        Raises:
            InputError: The corruption has no such severity.
        """
        levels = corruptions.get(self.corruption).levels
        if not 1 <= self.severity <= len(levels):
            hint = f"{self.corruption} has severities 1 to {len(levels)}"
            raise InputError(f"got {self.severity}", where="--severity", hint=hint)
        return levels[self.severity - 1]

    def folder(self, seed: int) -> str:
        """Return the readable and unique name of the folder of the features of this condition."""
        entry = corruptions.get(self.corruption)
        key = content_hash([entry.identity, self.level, self.share, seed], 8)
        return f"{self.corruption}-{self.severity}-{100 * self.share:g}pc-{key}"


corruptions: Registry[Corruption] = Registry(
    "corruption", "tal_bench.corruption.pixels", "tal_bench.corruption.features"
)


def conditions(
    names: Sequence[str] = (),
    severities: Sequence[int] = (),
    shares: Sequence[float] = (),
    *,
    on: Level = "pixels",
) -> list[Condition]:
    """Return all combinations of the given corruptions, severities and shares; an empty sequence means all.

    Raises:
        InputError: A corruption is unknown or of the other level, no corruption has a severity, or a share
            lies outside (0, 1].
    """
    for share in shares:
        if not 0 < share <= 1:
            raise InputError(
                f"got {share:g}",
                where="--share",
                hint="give a share of the frames in (0, 1], for example 0.01",
            )
    chosen = [corruptions.get(name) for name in dict.fromkeys(names)]
    for entry in chosen:
        if entry.on != on:
            message = f"'{entry.name}' changes {entry.on}, but {on} are corrupted here"
            others = [n for n in corruptions if corruptions.get(n).on == on]
            raise InputError(message, where="--corruption", hint=f"choose from {', '.join(others)}")
    every = [corruptions.get(name) for name in corruptions]
    chosen = chosen or [entry for entry in every if entry.on == on]
    combinations = [
        Condition(entry.name, severity, share)
        for entry in chosen
        for severity in range(1, len(entry.levels) + 1)
        if not severities or severity in severities
        for share in ((FULL_SHARE,) if entry.extent == "video" else dict.fromkeys(shares or SHARES))
    ]
    highest = max(len(entry.levels) for entry in chosen)
    if wrong := [severity for severity in severities if not 1 <= severity <= highest]:
        raise InputError(f"got {wrong[0]}", where="--severity", hint=f"give 1 to {highest}")
    return combinations


def random_generator(seed: int, video: str, corruption: str, index: int) -> np.random.Generator:
    """Return the random generator of an action or frame, which is the same at every severity and share.

    Args:
        seed: Seed of the evaluation.
        video: Id of the video.
        corruption: Name of the corruption.
        index: Number of the action, or of the frame.
    """
    digest = hashlib.sha256(f"{seed}|{video}|{corruption}|{index}".encode()).digest()
    words: Any = np.frombuffer(digest[:16], "<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence(words))
