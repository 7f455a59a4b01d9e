"""Corruptions of features, for datasets without videos; not comparable with corruptions of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tal_bench.corruption.action_runs import action_runs, middle_runs
from tal_bench.corruption.registry import (
    FULL_SHARE,
    Condition,
    Corruption,
    FeatureChange,
    corruptions,
    random_generator,
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
    """Apply a corruption of features to the steps that it affects.

    Args:
        features: Features [T, C].
        condition: Corruption of features, with severity and share.
        segments: Actions [N, 2] on the feature grid, where step i is at i.
        video: Id of the video.
        seed: Seed of the random numbers.
    """
    if condition.severity == 0:
        return features
    entry = corruptions.get(condition.corruption)
    change: FeatureChange = entry.change  # type: ignore[assignment]
    runs = [(0, len(features))]
    if entry.extent == "actions" and condition.share < FULL_SHARE:
        runs = middle_runs(action_runs(segments, 1.0, offset=0.0), condition.share)
    elif entry.extent == "actions":
        runs = action_runs(segments, 1.0, offset=0.0)
    sd, out = features.std(axis=0), features.copy()
    for index, (first, end) in enumerate(runs):
        rng = random_generator(seed, video, entry.name, index)
        selected = features[first:end]
        out[first : first + len(selected)] = change(selected, condition.level, rng, sd)
    return out


for _entry in (
    Corruption(
        "dropped-steps",
        "sets a share of the steps of every action to zero",
        (1.0,),
        drop_steps,
        on="features",
    ),
    Corruption(
        "feature-noise",
        "adds noise to every step, in standard deviations of each channel",
        (0.25, 0.5, 1.0),
        add_feature_noise,
        on="features",
        extent="video",
    ),
):
    corruptions.add(_entry.name, _entry)
