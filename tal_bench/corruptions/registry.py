"""Corruptions by name: declarations that say what is done to a frame, or to a feature, and how strongly."""

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
"""Called with the frame [H, W, 3], the level, random numbers and the last whole frame before it."""
FeatureChange = Callable[
    [NDArray[np.float32], float, np.random.Generator, NDArray[np.float32]], NDArray[np.float32]
]
"""Called with features [N, C], the level, random numbers and the standard deviation [C] of the video's."""

SHARES = (0.01, 0.05, 0.1)
"""Of the frames of every action (Zeng et al., CVPR 2024)."""
WHOLE = 1.0
"""Share of a corruption that hits whole videos."""
PROTOCOL = 1
"""Raised when the same corruption would give other features."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """Declaration of a corruption.

    Attributes:
        name: as the command line and tables know it.
        summary: one line for lists.
        levels: strength at severity 1, 2, 3 …, in the unit that `summary` names.
        change: what is done to one frame, or to the features that are hit. It must not change its input.
        on: what it changes. `features` is for datasets whose videos nobody has.
        extent: `actions` hits a share of the frames in the middle of every action, `video` all there are.
        steady: whether all frames of one action see the same random numbers, so that what covers the picture
            stays where it is; otherwise every frame has its own.
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
        """Hash of what it does: its code and the way it is applied, not its name or its levels."""
        try:
            code = inspect.getsource(self.change)
        except (OSError, TypeError):
            code = f"{self.change.__module__}.{getattr(self.change, '__qualname__', '')}"
        return content_hash([PROTOCOL, code, self.on, self.extent, self.steady], 8)


@dataclass(frozen=True, slots=True, order=True)
class Condition:
    """One corrupted version of the test videos.

    Attributes:
        corruption: registered name.
        severity: 1, 2, 3 …; 0 changes nothing.
        share: of the frames of every action, or `WHOLE`.
    """

    corruption: str
    severity: int
    share: float

    @property
    def level(self) -> float:
        """How strong its severity is.

        Raises:
            InputError: the corruption has no such severity.
        """
        levels = corruptions.get(self.corruption).levels
        if not 1 <= self.severity <= len(levels):
            known = f"{self.corruption} has severities 1 to {len(levels)}"
            raise InputError(f"got {self.severity}", where="--severity", hint=known)
        return levels[self.severity - 1]

    def folder(self, seed: int) -> str:
        """Name of a folder for what it gives: readable, and another one when any of it changes."""
        entry = corruptions.get(self.corruption)
        key = content_hash([entry.identity, self.level, self.share, seed], 8)
        return f"{self.corruption}-{self.severity}-{100 * self.share:g}pc-{key}"


corruptions: Registry[Corruption] = Registry(
    "corruption", "tal_bench.corruptions.pixels", "tal_bench.corruptions.features"
)


def conditions(
    names: Sequence[str] = (),
    severities: Sequence[int] = (),
    shares: Sequence[float] = (),
    *,
    on: Level = "pixels",
) -> list[Condition]:
    """All versions that are asked for; nothing named stands for everything.

    Raises:
        InputError: an unknown corruption, one of the other level, a severity that none of them has, or a
            share outside (0, 1].
    """
    for share in shares:
        if not 0 < share <= 1:
            raise InputError(
                f"got {share:g}", where="--share", hint="of the frames: 0.01 is one in a hundred"
            )
    chosen = [corruptions.get(name) for name in dict.fromkeys(names)]
    for entry in chosen:
        if entry.on != on:
            what = f"'{entry.name}' changes {entry.on}, and here {on} are changed"
            others = [n for n in corruptions if corruptions.get(n).on == on]
            raise InputError(what, where="--corruption", hint=f"there are {', '.join(others)}")
    every = [corruptions.get(name) for name in corruptions]
    chosen = chosen or [entry for entry in every if entry.on == on]
    found = [
        Condition(entry.name, severity, share)
        for entry in chosen
        for severity in range(1, len(entry.levels) + 1)
        if not severities or severity in severities
        for share in ((WHOLE,) if entry.extent == "video" else dict.fromkeys(shares or SHARES))
    ]
    most = max(len(entry.levels) for entry in chosen)
    if wrong := [severity for severity in severities if not 1 <= severity <= most]:
        raise InputError(f"got {wrong[0]}", where="--severity", hint=f"give 1 to {most}")
    return found


def random_numbers(seed: int, video: str, corruption: str, place: int) -> np.random.Generator:
    """Random numbers of one place in one video: the same at every severity and share.

    Args:
        seed: of the whole evaluation.
        video: its id.
        corruption: its name.
        place: number of the action, or of the frame.
    """
    digest = hashlib.sha256(f"{seed}|{video}|{corruption}|{place}".encode()).digest()
    words: Any = np.frombuffer(digest[:16], "<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence(words))
