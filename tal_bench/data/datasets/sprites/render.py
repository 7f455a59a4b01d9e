"""Deterministic rendering of scenes to frames."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.sprites.scene import Episode, Scene, frame_times, track

Frames = NDArray[np.uint8]
Image = NDArray[np.uint8]

_CANVAS = 128
_TEXTURE = 40
_WORLD = 192


def render(scene: Scene, size: int, fps: int) -> Frames:
    """Draw every frame of a scene.

    Args:
        scene: Scene from ``plan_scene`` or ``plan_clip``.
        size: Height and width in pixels.
        fps: Frames per second.

    Returns:
        RGB frames [N, size, size, 3].
    """
    rng = np.random.default_rng(scene.look_seed)
    world = _background(rng)
    pan, shake = _camera(rng, scene.frames)
    gain = _illumination(rng, scene.frames)
    sigma = float(rng.uniform(4.0, 8.0))
    noise = rng.normal(0.0, sigma, size * size * 3 * 9).astype(np.float32)
    offsets = rng.integers(len(noise) - size * size * 3, size=scene.frames)
    shots = _place_sprites(scene, size, fps, shake)
    frames = np.empty((scene.frames, size, size, 3), np.uint8)
    for k in range(scene.frames):
        picture = cv2.getRectSubPix(world, (size, size), (pan[k, 0], pan[k, 1])).astype(np.float32)
        for texture, inverse, alpha in shots[k]:
            _paste(picture, texture, inverse, alpha)
        picture *= gain[k]
        picture += noise[offsets[k] : offsets[k] + picture.size].reshape(picture.shape)
        frames[k] = np.clip(picture, 0.0, 255.0, out=picture)
    return frames


Shot = tuple[NDArray[np.float32], NDArray[np.float32], float]


def _place_sprites(scene: Scene, size: int, fps: int, shake: NDArray[np.float64]) -> list[list[Shot]]:
    """Return the sprites of every frame: texture, frame-to-texture matrix and opacity."""
    times = frame_times(scene.frames, fps)
    shots: list[list[Shot]] = [[] for _ in range(scene.frames)]
    for episode in scene.episodes:
        texture = draw_sprite(episode)
        path = track(episode, times)
        scale = 0.5 * _TEXTURE / path.radius
        cos, sin = scale * np.cos(path.angle), scale * np.sin(path.angle)
        x, y = path.x - shake[:, 0], path.y - shake[:, 1]
        middle = 0.5 * (_TEXTURE - 1)
        # The texture point of frame point p is R(-angle) (p - centre) · scale + middle
        rows = np.stack(
            [cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y], axis=-1
        ).astype(np.float32)
        for k in np.flatnonzero(path.alpha > 0.0):
            shots[k].append((texture, rows[k].reshape(2, 3), float(path.alpha[k])))
    return shots


def _paste(
    picture: NDArray[np.float32], texture: NDArray[np.float32], inverse: NDArray[np.float32], alpha: float
) -> None:
    """Blend a texture into a frame, within the bounding rectangle of the sprite."""
    a, b = float(inverse[0, 0]), float(inverse[0, 1])
    reach = 0.71 * _TEXTURE / float(np.hypot(a, b)) + 1.0
    det = a * a + b * b
    middle = 0.5 * (_TEXTURE - 1)
    u, v = middle - float(inverse[0, 2]), middle - float(inverse[1, 2])
    cx, cy = (a * u - b * v) / det, (b * u + a * v) / det
    x0, y0 = max(int(cx - reach), 0), max(int(cy - reach), 0)
    x1, y1 = min(int(cx + reach) + 2, picture.shape[1]), min(int(cy + reach) + 2, picture.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    moved = inverse.copy()
    moved[:, 2] += inverse[:, 0] * x0 + inverse[:, 1] * y0
    size, flags = (x1 - x0, y1 - y0), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    colour = cv2.warpAffine(texture[0], moved, size, flags=flags)
    cover = cv2.warpAffine(texture[1], moved, size, flags=flags)
    patch = picture[y0:y1, x0:x1]
    colour -= cover * patch
    if alpha < 1.0:
        colour *= np.float32(alpha)
    patch += colour


def _background(rng: np.random.Generator) -> Image:
    """Draw a background texture of blotches and grain, [192, 192, 3]."""
    world = np.zeros((_WORLD, _WORLD, 3), np.float32)
    for sigma, weight in ((12.0, 26.0), (4.0, 18.0), (1.6, 14.0)):
        layer = rng.standard_normal((_WORLD, _WORLD, 3), dtype=np.float32)
        layer += 1.5 * rng.standard_normal((_WORLD, _WORLD, 1), dtype=np.float32)
        smooth = cv2.GaussianBlur(layer, (0, 0), sigma)
        world += weight * smooth / smooth.std()
    world += rng.uniform(85.0, 150.0)
    np.clip(world, 0.0, 255.0, out=world)
    return world.astype(np.uint8)


def _smooth_walk(rng: np.random.Generator, frames: int, keep: float) -> NDArray[np.float64]:
    """Draw a first-order autoregressive process of unit variance, [N, 2]."""
    walk = rng.standard_normal((frames, 2))
    step = float(np.sqrt(1.0 - keep * keep))
    for k in range(1, frames):
        walk[k] = keep * walk[k - 1] + step * walk[k]
    return walk


def _camera(rng: np.random.Generator, frames: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the background offset and the shake, which also moves sprites, each [N, 2] in pixels."""
    velocity = rng.uniform(0.1, 0.45) * _smooth_walk(rng, frames, 0.97) + rng.normal(0.0, 0.2, 2)
    shake = 0.2 * rng.standard_normal((frames, 2))
    for _ in range(rng.poisson(frames / 160)):
        first = int(rng.integers(frames))
        last = min(first + int(rng.integers(4, 20)), frames)
        shake[first:last] += rng.uniform(0.6, 1.6) * rng.standard_normal((last - first, 2))
    pan = _fold(rng.uniform(0, _WORLD, 2) + np.cumsum(velocity, axis=0), _WORLD / 4, 3 * _WORLD / 4) + shake
    return pan, shake


def _fold(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Reflect a walk at both ends of a range, so that the camera stays inside the texture."""
    span = high - low
    folded: NDArray[np.float64] = low + span - np.abs((values - low) % (2 * span) - span)
    return folded


def _illumination(rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
    """Draw a slowly changing gain around 1, [N]."""
    k = np.arange(frames)
    gain = np.ones(frames)
    for _ in range(3):
        period, phase = rng.uniform(60.0, 400.0), rng.uniform(0.0, 2 * np.pi)
        gain += rng.uniform(0.02, 0.1) * np.sin(2 * np.pi * k / period + phase)
    return gain.astype(np.float32)


def draw_sprite(episode: Episode) -> NDArray[np.float32]:
    """Draw a sprite's texture [2, 40, 40, 3]: premultiplied RGB (0 to 255), opacity (0 to 1) per channel."""
    rng = np.random.default_rng(episode.colour_seed)
    shape, tone = _shapes()[episode.appearance]
    hue = {"pinwheel": 0.0, "card": 0.12, "ring": 0.33, "arrow": 0.58}[episode.appearance]
    hue = (hue + float(rng.normal(0.0, 0.09))) % 1.0
    bright = _colour(hue, float(rng.uniform(0.35, 0.9)), float(rng.uniform(0.75, 1.0)))
    dark = _colour((hue + float(rng.uniform(0.3, 0.6))) % 1.0, 0.6, float(rng.uniform(0.1, 0.35)))
    colours = tone[..., None] * bright + (1.0 - tone[..., None]) * dark
    cover = np.repeat(shape[..., None], 3, axis=2)
    return np.stack([colours * cover, cover]).astype(np.float32)


def _colour(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    hsv = np.array([[[hue * 360.0, saturation, value]]], np.float32)
    rgb: NDArray[np.float32] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * 255.0
    return rgb


@lru_cache(maxsize=1)
def _shapes() -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return outline and light-or-dark texture of every appearance, [40, 40] in 0 … 1."""
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.float64) / (_CANVAS - 1) * 2 - 1
    r, theta = np.hypot(x, y), np.arctan2(y, x)
    blades = np.sin(3 * theta + 2.2 * r) > 0
    card = (np.abs(x) < 0.92) & (np.abs(y) < 0.62)
    checks = ((np.floor((x + 1) * 2.2) + np.floor((y + 1) * 2.2)) % 2) == 0
    rings = (np.floor(r * 3.6) % 2 == 0) ^ (np.hypot(x - 0.5, y) < 0.22)
    head = (np.abs(y) < 0.85 * (0.95 - x)) & (x > 0.05) & (x < 0.95)
    shaft = (np.abs(y) < 0.3) & (x > -0.92) & (x <= 0.05)
    stripes = np.floor((x + 1) * 3.0) % 2 == 0
    drawn = {
        "pinwheel": (r < 0.95, blades),
        "card": (card, checks),
        "ring": (r < 0.95, rings),
        "arrow": (head | shaft, stripes),
    }
    return {name: (_shrink(outline), _shrink(tone)) for name, (outline, tone) in drawn.items()}


def _shrink(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    small: NDArray[np.float32] = cv2.resize(
        mask.astype(np.float32), (_TEXTURE, _TEXTURE), interpolation=cv2.INTER_AREA
    )
    return small
