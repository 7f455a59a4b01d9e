"""What can be done to features where nobody has the videos; not comparable with corrupted pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tal_bench.corruptions.action_runs import action_runs, middles
from tal_bench.corruptions.registry import (
    WHOLE,
    Condition,
    Corruption,
    FeatureChange,
    corruptions,
    random_numbers,
)

Features = NDArray[np.float32]


def drop_steps(features: Features, level: float, rng: np.random.Generator, sd: Features) -> Features:
    """Set features to zero."""
    return features * np.float32(1.0 - level)


def add_feature_noise(features: Features, level: float, rng: np.random.Generator, sd: Features) -> Features:
    """Add Gaussian noise of that many standard deviations of each channel."""
    return features + np.float32(level) * sd * rng.standard_normal(features.shape, np.float32)


def corrupt_features(
    features: Features, condition: Condition, segments: NDArray[np.floating], *, video: str, seed: int
) -> Features:
    """Features with those of the hit steps changed.

    Args:
        features: [T, C].
        condition: of a corruption of features.
        segments: [N, 2] actions on the feature grid, where step i is at i.
        video: its id.
        seed: of the random numbers.
    """
    if condition.severity == 0:
        return features
    entry = corruptions.get(condition.corruption)
    change: FeatureChange = entry.change  # type: ignore[assignment]
    runs = [(0, len(features))]
    if entry.extent == "actions" and condition.share < WHOLE:
        runs = middles(action_runs(segments, 1.0, offset=0.0), condition.share)
    elif entry.extent == "actions":
        runs = action_runs(segments, 1.0, offset=0.0)
    sd, out = features.std(axis=0), features.copy()
    for place, (first, after) in enumerate(runs):
        rng = random_numbers(seed, video, entry.name, place)
        hit = features[first:after]
        out[first : first + len(hit)] = change(hit, condition.level, rng, sd)
    return out


for _entry in (
    Corruption(
        "dropped-steps", "steps set to zero, a share of every action's", (1.0,), drop_steps, on="features"
    ),
    Corruption(
        "feature-noise",
        "noise on every step, in standard deviations of each channel",
        (0.25, 0.5, 1.0),
        add_feature_noise,
        on="features",
        extent="video",
    ),
):
    corruptions.add(_entry.name, _entry)
