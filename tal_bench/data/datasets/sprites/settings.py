"""Settings and class names of the sprites dataset."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from tal_bench.errors import InputError

GENERATOR_VERSION = 1
"""Version of the generator, increased when the same settings give other frames or features."""

APPEARANCES = ("pinwheel", "card", "ring", "arrow")
MOTIONS = ("rotate-cw", "rotate-ccw", "orbit", "shake-h", "shake-v", "grow", "shrink")

CLASSES: tuple[tuple[str, str], ...] = (
    ("pinwheel", "rotate-cw"),
    ("pinwheel", "rotate-ccw"),
    ("pinwheel", "grow"),
    ("card", "shake-h"),
    ("card", "shake-v"),
    ("card", "rotate-cw"),
    ("ring", "grow"),
    ("ring", "shrink"),
    ("ring", "orbit"),
    ("arrow", "orbit"),
    ("arrow", "rotate-ccw"),
    ("arrow", "shake-h"),
)
"""Classes as (appearance, motion) pairs; each has a neighbour that differs only in its motion."""

LABELS = tuple(f"{appearance} {motion}" for appearance, motion in CLASSES)


@dataclass(frozen=True)
class SpritesSettings:
    """Settings of the dataset, whose hash is part of the prepared folder's name.

    Times are in seconds, sizes in pixels. ``stride`` is the number of frames between two features: there are
    ``fps / stride`` features per second. ``rgb_power`` and ``flow_power`` are whitening powers p: component
    k of the PCA is divided by σ_k^p (0 keeps the variances, 1 makes them equal).
    """

    seed: int = 20260
    test_seed: int = 51966
    train_videos: int = 90
    test_videos: int = 60
    min_seconds: float = 60.0
    max_seconds: float = 120.0
    size: int = 64
    net_size: int = 48
    fps: int = 8
    stride: int = 2
    overlap: float = 0.4
    idle_only: float = 0.12
    distractor: float = 0.15
    rgb_channels: int = 96
    flow_channels: int = 32
    rgb_power: float = 0.5
    flow_power: float = 0.25

    def __post_init__(self) -> None:
        """Validate the number of videos and their durations.

        Raises:
            InputError: There are fewer than two training videos, no test video, or the range of durations is
                invalid.
        """
        if self.train_videos < 2 or self.test_videos < 1:
            raise InputError(
                f"sprites needs 2 training videos and 1 test video, got {self.train_videos} "
                f"and {self.test_videos}",
                where="SpritesSettings",
                hint="raise train_videos or test_videos",
            )
        if not 10.0 <= self.min_seconds <= self.max_seconds:
            raise InputError(
                f"durations {self.min_seconds} to {self.max_seconds} s are not a valid range",
                where="SpritesSettings",
                hint="need 10 <= min_seconds <= max_seconds",
            )

    def digest(self, *extra: str) -> str:
        """Return a short content hash of the generator's version, the settings and ``extra``."""
        text = json.dumps([GENERATOR_VERSION, asdict(self), CLASSES, *extra], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
