"""Content of a video: which sprites appear when, their motions, and their positions over time.

A timeline is a sequence of episodes: a sprite fades in, idles, performs one action, idles and fades out. Two
timelines overlap in some videos. ``render`` draws the frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.sprites.settings import APPEARANCES, CLASSES, MOTIONS, SpritesSettings

Floats = NDArray[np.float64]
Pair = tuple[str, str | None]

SPLITS = {"training": 0, "test": 1, "pretrain": 2, "extra": 3}
DISTRACTORS: tuple[Pair, ...] = tuple((a, m) for a in APPEARANCES for m in MOTIONS if (a, m) not in CLASSES)
PAIRS: tuple[Pair, ...] = tuple((a, m) for a in APPEARANCES for m in MOTIONS)


@dataclass(frozen=True)
class Episode:
    """Episode of one sprite; times are in seconds, lengths in pixels.

    ``motion`` is None for a sprite that only idles; ``label_id`` is None unless the pair is a class.
    ``speed`` is in turns per second for rotations, cycles per second for orbits and shakes, and the ratio of
    the last to the first size for growing and shrinking; ``reach`` is the amplitude of orbits and shakes.
    """

    appearance: str
    motion: str | None
    label_id: int | None
    enter: float
    start: float
    end: float
    leave: float
    fade: float
    x: float
    y: float
    radius: float
    angle: float
    phase: float
    speed: float
    reach: float
    sway: tuple[float, float, float, float]
    colour_seed: int


@dataclass(frozen=True)
class Track:
    """Path of a sprite at M times: centre, angle (radians, clockwise), radius and opacity, each [M]."""

    x: Floats
    y: Floats
    angle: Floats
    radius: Floats
    alpha: Floats


@dataclass(frozen=True)
class Scene:
    """Content of a video: number of frames, episodes, and the seed of background, camera and noise."""

    frames: int
    episodes: tuple[Episode, ...]
    look_seed: int


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """Return the random generator of one video, determined by the dataset's seed, split and index."""
    return np.random.default_rng(np.random.SeedSequence([seed, SPLITS[split], index]))


def plan_scene(rng: np.random.Generator, settings: SpritesSettings) -> Scene:
    """Draw the scene of one video of the dataset, ``min_seconds`` to ``max_seconds`` long."""
    step = settings.stride / settings.fps
    seconds = round(rng.uniform(settings.min_seconds, settings.max_seconds) / step) * step
    timelines = 2 if rng.random() < settings.overlap else 1
    return _plan(rng, settings, seconds, timelines, uniform=False)


def plan_clip(rng: np.random.Generator, settings: SpritesSettings, seconds: float) -> Scene:
    """Draw the scene of one pretraining clip, with equally likely (appearance, motion) pairs."""
    timelines = 2 if rng.random() < settings.overlap else 1
    return _plan(rng, settings, seconds, timelines, uniform=True)


def _plan(
    rng: np.random.Generator, settings: SpritesSettings, seconds: float, timelines: int, *, uniform: bool
) -> Scene:
    episodes: list[Episode] = []
    first_side = int(rng.integers(4))
    for timeline in range(timelines):
        clock = float(rng.uniform(0.3, 5.0))
        while True:
            pair = _draw_pair(rng, settings, uniform)
            episode = _draw_episode(rng, settings, pair, clock, (timeline, timelines, first_side))
            if episode.leave > seconds - 0.3:
                break
            episodes.append(episode)
            clock = episode.leave + float(rng.uniform(0.3, 3.2))
    episodes.sort(key=lambda e: e.enter)
    return Scene(round(seconds * settings.fps), tuple(episodes), int(rng.integers(2**62)))


def _draw_pair(rng: np.random.Generator, settings: SpritesSettings, uniform: bool) -> Pair:
    chance = rng.random()
    if chance < settings.idle_only:
        return APPEARANCES[int(rng.integers(len(APPEARANCES)))], None
    if uniform:
        return PAIRS[int(rng.integers(len(PAIRS)))]
    if chance < settings.idle_only + settings.distractor:
        return DISTRACTORS[int(rng.integers(len(DISTRACTORS)))]
    return CLASSES[int(rng.integers(len(CLASSES)))]


def _draw_episode(
    rng: np.random.Generator,
    settings: SpritesSettings,
    pair: Pair,
    clock: float,
    place: tuple[int, int, int],
) -> Episode:
    appearance, motion = pair
    fade = float(rng.uniform(0.3, 0.7))
    start = clock + fade + float(rng.uniform(0.4, 2.2))
    end = start + _draw_duration(rng, motion)
    leave = end + float(rng.uniform(0.4, 2.0)) + fade
    radius = float(rng.uniform(9.5, 13.0))
    speed, reach = _draw_manner(rng, motion)
    if motion == "grow":
        radius *= 0.8
    elif motion == "shrink":
        radius *= 1.45
    x, y = _draw_place(rng, settings.size, place)
    sway = rng.uniform((0.2, 0.15, 0.2, 0.15), (1.2, 0.5, 1.2, 0.5))
    return Episode(
        appearance=appearance,
        motion=motion,
        label_id=CLASSES.index((appearance, motion)) if (appearance, motion) in CLASSES else None,
        enter=clock,
        start=start,
        end=end,
        leave=leave,
        fade=fade,
        x=x,
        y=y,
        radius=radius,
        angle=float(rng.uniform(0, 2 * np.pi)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        speed=speed,
        reach=reach,
        sway=(float(sway[0]), float(sway[1]), float(sway[2]), float(sway[3])),
        colour_seed=int(rng.integers(2**62)),
    )


def _draw_duration(rng: np.random.Generator, motion: str | None) -> float:
    """Draw a duration of 1.5 to 8 s, or 5 s for changes of size, which are invisible if slower."""
    longest = 5.0 if motion in ("grow", "shrink") else 8.0
    return 1.5 + (longest - 1.5) * float(rng.beta(1.1, 2.2))


def _draw_manner(rng: np.random.Generator, motion: str | None) -> tuple[float, float]:
    if motion in ("rotate-cw", "rotate-ccw"):
        return float(rng.uniform(0.15, 0.38)), 0.0
    if motion == "orbit":
        return float(rng.uniform(0.4, 0.75)) * float(rng.choice([-1.0, 1.0])), float(rng.uniform(3.5, 6.5))
    if motion in ("shake-h", "shake-v"):
        return float(rng.uniform(0.7, 1.4)), float(rng.uniform(2.0, 4.0))
    return float(rng.uniform(1.7, 2.3)), 0.0


def _draw_place(rng: np.random.Generator, size: int, place: tuple[int, int, int]) -> tuple[float, float]:
    """Draw a position away from the border; each of two timelines has its own half of the frame."""
    timeline, timelines, side = place
    low, high = 0.26 * size, 0.74 * size
    x, y = float(rng.uniform(low, high)), float(rng.uniform(low, high))
    if timelines == 1:
        return x, y
    near = float(rng.uniform(0.22, 0.36)) * size
    far = size - near
    along = near if (timeline + side) % 2 == 0 else far
    return (along, y) if side < 2 else (x, along)


def track(episode: Episode, times: Floats) -> Track:
    """Compute the path of a sprite at the given times [M] in seconds."""
    a, f, b, g = episode.sway
    x = episode.x + a * np.sin(2 * np.pi * f * times + episode.phase)
    y = episode.y + b * np.sin(2 * np.pi * g * times + 2.1 * episode.phase)
    angle = episode.angle + 0.08 * np.sin(2 * np.pi * 0.3 * times + 1.3 * episode.phase)
    radius = episode.radius * np.ones_like(times)
    acted = np.clip(times, episode.start, episode.end) - episode.start
    turned = 2 * np.pi * episode.speed * acted
    if episode.motion == "rotate-cw":
        angle = angle + turned
    elif episode.motion == "rotate-ccw":
        angle = angle - turned
    elif episode.motion == "orbit":
        x = x + episode.reach * (np.cos(turned + episode.phase) - np.cos(episode.phase))
        y = y + episode.reach * (np.sin(turned + episode.phase) - np.sin(episode.phase))
    elif episode.motion == "shake-h":
        x = x + episode.reach * np.sin(turned)
    elif episode.motion == "shake-v":
        y = y + episode.reach * np.sin(turned)
    elif episode.motion in ("grow", "shrink"):
        done = acted / (episode.end - episode.start)
        radius = radius * episode.speed ** (done if episode.motion == "grow" else -done)
    alpha = np.clip(np.minimum(times - episode.enter, episode.leave - times) / episode.fade, 0.0, 1.0)
    return Track(x, y, angle, radius, alpha)


def frame_times(frames: int, fps: int) -> Floats:
    """Return the middle of each frame's exposure in seconds, [N]; frame k spans k/fps to (k+1)/fps."""
    times: Floats = (np.arange(frames) + 0.5) / fps
    return times


def step_labels(scene: Scene, settings: SpritesSettings) -> tuple[NDArray[np.float32], ...]:
    """Return the labels of each feature step (the middle of frame ``i · stride``).

    Returns:
        Visible appearances [T, 4], motions [T, 7] and classes [T, K], each multi-hot.
    """
    times = frame_times(scene.frames, settings.fps)[:: settings.stride]
    seen = np.zeros((len(times), len(APPEARANCES)), np.float32)
    moving = np.zeros((len(times), len(MOTIONS)), np.float32)
    classes = np.zeros((len(times), len(CLASSES)), np.float32)
    for e in scene.episodes:
        visible = (times > e.enter + 0.5 * e.fade) & (times < e.leave - 0.5 * e.fade)
        acting = (times >= e.start) & (times <= e.end)
        seen[visible, APPEARANCES.index(e.appearance)] = 1
        if e.motion is not None:
            moving[acting, MOTIONS.index(e.motion)] = 1
        if e.label_id is not None:
            classes[acting, e.label_id] = 1
    return seen, moving, classes
