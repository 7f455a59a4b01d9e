"""Tests of scenes: reproducibility, and agreement of labels and frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_bench.data.datasets.sprites.render import render
from tal_bench.data.datasets.sprites.scene import (
    Episode,
    Scene,
    frame_times,
    plan_clip,
    plan_scene,
    scene_rng,
    step_labels,
    track,
)
from tal_bench.data.datasets.sprites.settings import APPEARANCES, CLASSES, LABELS, MOTIONS, SpritesSettings
from tal_bench.errors import InputError

WORLD = SpritesSettings(min_seconds=15, max_seconds=25)


def an_episode(motion: str | None, appearance: str = "card") -> Episode:
    return Episode(
        appearance=appearance,
        motion=motion,
        label_id=None,
        enter=1.0,
        start=3.0,
        end=6.0,
        leave=8.0,
        fade=0.5,
        x=32,
        y=32,
        radius=10,
        angle=0.3,
        phase=0.0,
        speed=2.0 if motion in ("grow", "shrink") else 0.25,
        reach=4.0,
        sway=(0.0, 0.0, 0.0, 0.0),
        colour_seed=1,
    )


def test_every_class_has_a_neighbour_that_differs_only_in_motion() -> None:
    assert 9 <= len(CLASSES) == len(set(LABELS)) <= 12
    for appearance, motion in CLASSES:
        assert appearance in APPEARANCES
        assert motion in MOTIONS
        assert any(a == appearance and m != motion for a, m in CLASSES)


def test_frames_are_determined_by_the_seed() -> None:
    def frames(seed: int, index: int) -> np.ndarray:
        return render(plan_scene(scene_rng(seed, "training", index), WORLD), 64, 8)[:20]

    np.testing.assert_array_equal(frames(1, 0), frames(1, 0))
    assert not np.array_equal(frames(1, 0), frames(1, 1))
    assert not np.array_equal(frames(1, 0), frames(2, 0))
    a = plan_scene(scene_rng(1, "training", 0), WORLD)
    assert a == plan_scene(scene_rng(1, "training", 0), WORLD)
    assert a != plan_scene(scene_rng(1, "test", 0), WORLD)


@given(seed=st.integers(0, 2**32 - 1), clip=st.booleans())
@settings(max_examples=60, deadline=None)
def test_scenes_are_valid(seed: int, clip: bool) -> None:
    rng = np.random.default_rng(seed)
    scene = plan_clip(rng, WORLD, 30.0) if clip else plan_scene(rng, WORLD)
    seconds = scene.frames / WORLD.fps
    assert scene.frames % WORLD.stride == 0
    assert clip or WORLD.min_seconds <= seconds <= WORLD.max_seconds
    for e in scene.episodes:
        assert 0 <= e.enter < e.start < e.end < e.leave <= seconds
        assert e.enter + e.fade < e.start
        assert e.end < e.leave - e.fade
        assert 1.5 <= e.end - e.start <= 8.0
        assert (e.label_id is not None) == ((e.appearance, e.motion) in CLASSES)
        where = track(e, frame_times(scene.frames, WORLD.fps))
        shown = where.alpha > 0
        assert (np.abs(where.x[shown] - 32) < 36).all()
        assert (where.alpha <= 1).all()
    assert (
        max((sum(a.enter <= b.enter < a.leave for a in scene.episodes) for b in scene.episodes), default=0)
        <= 2
    )


def test_motions_change_only_their_parameter() -> None:
    times = np.linspace(3.0, 6.0, 25)
    still = track(an_episode(None), times)
    for motion, moved in {
        "rotate-cw": {"angle"},
        "rotate-ccw": {"angle"},
        "orbit": {"x", "y"},
        "shake-h": {"x"},
        "shake-v": {"y"},
        "grow": {"radius"},
        "shrink": {"radius"},
    }.items():
        acting = track(an_episode(motion), times)
        changed = {
            name
            for name in ("x", "y", "angle", "radius")
            if not np.allclose(getattr(acting, name), getattr(still, name))
        }
        assert changed == moved, motion
        rest = track(an_episode(motion), np.linspace(6.2, 7.4, 9))
        assert np.ptp(rest.x) == np.ptp(rest.radius) == 0, motion
    assert track(an_episode("grow"), times).radius[-1] == pytest.approx(20)
    assert track(an_episode("shrink"), times).radius[-1] == pytest.approx(5)
    assert track(an_episode("rotate-cw"), times).angle[-1] > still.angle[-1]


def test_the_sprite_is_drawn_where_the_track_says() -> None:
    episode = an_episode("shake-h", "ring")
    empty, full = Scene(80, (), 5), Scene(80, (episode,), 5)
    change = np.abs(render(full, 64, 8).astype(int) - render(empty, 64, 8).astype(int)).sum(-1) > 60
    where = track(episode, frame_times(80, 8))
    assert not change[where.alpha == 0].any()
    for k in np.flatnonzero(where.alpha == 1):
        y, x = np.nonzero(change[k])
        assert abs(x.mean() - where.x[k]) < 4
        assert abs(y.mean() - where.y[k]) < 4
        assert np.ptp(x) <= 2 * where.radius[k] + 2


def test_step_labels_match_the_segments() -> None:
    scene = Scene(80, (replace(an_episode("shake-h"), label_id=CLASSES.index(("card", "shake-h"))),), 0)
    seen, moving, classes = step_labels(scene, SpritesSettings())
    times = frame_times(80, 8)[::2]
    assert classes.shape == (40, len(CLASSES))
    np.testing.assert_array_equal(classes.any(1), (times >= 3) & (times <= 6))
    np.testing.assert_array_equal(moving.any(1), classes.any(1))
    assert seen[:, APPEARANCES.index("card")].sum() > classes.sum()


def test_invalid_settings_are_rejected() -> None:
    with pytest.raises(InputError, match="training videos"):
        SpritesSettings(train_videos=0)
    with pytest.raises(InputError, match="durations"):
        SpritesSettings(min_seconds=90, max_seconds=60)
    assert SpritesSettings().digest() == SpritesSettings().digest() != SpritesSettings(seed=1).digest()
