"""Corruptions of pixels.

The first five are those of THUMOS14-C and ActivityNet-v1.3-C (Zeng et al., "Benchmarking the Robustness of
Temporal Action Detection Models Against Temporal Corruptions", CVPR 2024). There, the severity is the share
of corrupted frames, and each corruption has one fixed strength. Here both vary. The last two corruptions
apply to every frame of a video, at the levels 1, 3 and 5 of ImageNet-C (Hendrycks & Dietterich, ICLR 2019).
Sizes are relative to the picture, so that they fit 64 × 64 as well as 340 × 256 pixels.

The source code of these functions is part of the key of cached features: any edit of it, comments included,
invalidates the cache.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from tal_bench.corruption.registry import Corruption, Frame, corruptions

MACROBLOCKS = 8
"""Number of rows of macroblocks in a picture: 8 pixels each at a height of 64, 28 at 224."""


def as_pixels(values: NDArray[np.floating]) -> Frame:
    """Round and clip values to 0 … 255."""
    pixels: Frame = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


def darken(frame: Frame, level: float, rng: np.random.Generator, before: Frame) -> Frame:
    """Take away a share of the light; all of it leaves a black frame."""
    return as_pixels(frame * np.float32(1.0 - level))


def motion_blur(frame: Frame, level: float, rng: np.random.Generator, before: Frame) -> Frame:
    """Average along a line of a random direction, as long as that share of the picture's height."""
    length = max(1.0, level * frame.shape[0])
    angle = rng.uniform(0.0, math.pi)
    size = 2 * math.ceil(length / 2) + 1
    along = np.linspace(-length / 2, length / 2, 8 * size)
    x, y = (size // 2 + along * f(angle) for f in (math.cos, math.sin))
    kernel = np.zeros((size + 1, size + 1), np.float32)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    for right in (0, 1):  # every point of the line is shared by the four pixels around it
        for below in (0, 1):
            weight = np.abs(1 - right - (x - column)) * np.abs(1 - below - (y - row))
            np.add.at(kernel, (row + below, column + right), weight.astype(np.float32))
    kernel = kernel[:size, :size] / kernel[:size, :size].sum()
    blurred: Frame = cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return blurred


def overexpose(frame: Frame, level: float, rng: np.random.Generator, before: Frame) -> Frame:
    """Add light to all channels, which burns out what was bright."""
    return as_pixels(frame.astype(np.float32) + np.float32(255.0 * level))


def occlude(frame: Frame, level: float, rng: np.random.Generator, before: Frame) -> Frame:
    """Hold a disc of one dull colour before the camera, that share of the picture in area."""
    height, width = frame.shape[:2]
    y, x = rng.uniform(0.3, 0.7, 2) * (height, width)
    colour = rng.uniform(40.0, 160.0) + rng.uniform(-20.0, 20.0, 3)
    rows, columns = np.ogrid[:height, :width]
    covered = np.hypot(rows + 0.5 - y, columns + 0.5 - x) <= math.sqrt(level * height * width / math.pi)
    out = frame.copy()
    out[covered] = as_pixels(colour)
    return out


def lose_packets(frame: Frame, level: float, rng: np.random.Generator, before: Frame) -> Frame:
    """Lose a share of the macroblocks, in slices; a decoder fills them from the last whole frame, shifted.

    A slice is a row of macroblocks from a random place on. What stands in for it comes from the frame before
    with a wrong motion vector of up to one macroblock.
    """
    height, width = frame.shape[:2]
    side = max(2, math.ceil(height / MACROBLOCKS))
    columns = math.ceil(width / side)
    out = frame.copy()
    for top in range(0, height, side):
        start, longer = int(rng.integers(columns)), rng.uniform(0.75, 1.25)
        shift = [int(v) for v in rng.integers(-side, side, 2, endpoint=True)]
        lost = (start + np.arange(min(columns, round(level * longer * columns)))) % columns
        stale = np.roll(before, shift, (0, 1))
        for left in (lost * side).tolist():
            block = np.s_[top : top + side, left : left + side]
            out[block] = stale[block]
    return out


def add_noise(frame: Frame, level: float, rng: np.random.Generator, before: Frame) -> Frame:
    """Add Gaussian noise of that standard deviation, 1 being white, to every value."""
    noise = rng.standard_normal(frame.shape, np.float32)
    return as_pixels(frame + np.float32(255.0 * level) * noise)


def brighten(frame: Frame, level: float, rng: np.random.Generator, before: Frame) -> Frame:
    """Add to the value of hue, saturation and value, 1 being white."""
    pixels = frame.astype(np.float32)
    value = pixels.max(axis=2, keepdims=True)
    brighter = np.minimum(value + np.float32(255.0 * level), 255.0)
    gain = np.where(value > 0, brighter / np.maximum(value, 1.0), 0.0)
    return as_pixels(np.where(value > 0, pixels * gain, brighter))


for _entry in (
    Corruption("black-frame", "darkens frames: share of the light lost", (0.75, 0.9, 1.0), darken),
    Corruption(
        "motion-blur",
        "blurs frames along a line: its length relative to the height",
        (0.05, 0.1, 0.2),
        motion_blur,
        steady=True,
    ),
    Corruption("overexposure", "adds light to all channels, 1 = white", (0.2, 0.4, 0.6), overexpose),
    Corruption(
        "occlusion",
        "covers frames with a disc: share of the area",
        (0.15, 0.3, 0.6),
        occlude,
        steady=True,
    ),
    Corruption(
        "packet-loss", "replaces slices by an earlier frame: share of the area", (0.2, 0.4, 0.7), lose_packets
    ),
    Corruption(
        "gaussian-noise",
        "adds noise to every frame: standard deviation, 1 = white",
        (0.08, 0.18, 0.38),
        add_noise,
        extent="video",
    ),
    Corruption(
        "brightness", "brightens every frame: added to its value, 1 = white", (0.1, 0.3, 0.5), brighten,
        extent="video",
    ),
):  # fmt: skip
    corruptions.add(_entry.name, _entry)
