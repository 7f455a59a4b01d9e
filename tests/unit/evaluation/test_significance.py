"""Coverage of confidence intervals on normal numbers and on simulated detections."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import Ints, Matches
from tal_bench.evaluation.significance import (
    INTERACTION,
    contrast,
    interval,
    paired_difference,
    sample_row,
    video_draws,
)

THRESHOLDS = np.array([0.3, 0.5, 0.7])
SLOW = pytest.mark.skipif(not os.environ.get("TAL_BENCH_SLOW"), reason="minutes; set TAL_BENCH_SLOW=1")


@dataclass(frozen=True)
class Simulation:
    """Parameters of a simulation.

    `per_video`, `row_on_video`, `seed` and `seed_on_video` are standard deviations of the detection quality
    in logits. If `skewed`, differences between rows on a video are distributed as the square of an
    exponential variable, so that most videos lose a little and a few gain much.
    """

    videos: int = 60
    classes: int = 4
    effect: float = 0.15
    per_video: float = 0.5
    row_on_video: float = 0.0
    seed: float = 0.0
    seed_on_video: float = 0.0
    skewed: bool = False


@dataclass(frozen=True)
class Truth:
    """Ground truths `[G]`, about eight per video in one or two classes, and background detections."""

    simulation: Simulation
    video: Ints
    label: Ints
    background: Ints
    background_label: Ints


def draw_truth(rng: np.random.Generator, simulation: Simulation) -> Truth:
    main, other = rng.integers(0, simulation.classes, (2, simulation.videos))
    video = np.repeat(np.arange(simulation.videos), np.maximum(1, rng.poisson(8, simulation.videos)))
    background = np.repeat(np.arange(simulation.videos), 12)
    elsewhere = rng.integers(0, simulation.classes, len(background))
    return Truth(
        simulation,
        video,
        np.where(rng.random(len(video)) < 0.7, main[video], other[video]),
        background,
        np.where(rng.random(len(background)) < 0.5, main[background], elsewhere),
    )


def draw_run(rng: np.random.Generator, truth: Truth, quality: np.ndarray) -> Matches:
    """Simulate the matches of a run from the quality per video `[V]`.

    Each ground truth has a detection that overlaps it, with higher tIoU and score for higher quality. Most
    have a second, double detection, and background is detected with low scores.
    """
    n_truth, n_other = len(truth.video), len(truth.video) + len(truth.background)
    here = quality[truth.video]
    tiou = np.exp(-0.8 * np.exp(-here) * np.abs(rng.normal(size=n_truth)))
    first, second = rng.normal(here, 1.2), rng.normal(here - 0.7, 1.2)
    score = np.concatenate([first, second, rng.normal(-1.0, 1.0, len(truth.background))])
    label = np.concatenate([truth.label, truth.label, truth.background_label])
    late = np.flatnonzero(rng.random(n_truth) < 0.4) + n_truth
    order = np.lexsort((-score, label))
    order = order[~np.isin(order, late)]
    right = np.concatenate([tiou >= THRESHOLDS[:, None], np.zeros((3, n_other), dtype=bool)], axis=1)
    place = np.argsort(np.concatenate([order, late]))[:n_truth]
    return Matches(
        thresholds=THRESHOLDS,
        classes=tuple(range(truth.simulation.classes)),
        videos=tuple(range(truth.simulation.videos)),
        video=np.concatenate([truth.video, truth.video, truth.background])[order],
        label=label[order],
        score=score[order],
        row=order,
        true_positive=right[:, order],
        ignored=None,
        gt_video=truth.video,
        gt_label=truth.label,
        gt_detection=np.where(right[:, :n_truth], place, -1),
        ap_method="activitynet",
    )


def draw_rows(rng: np.random.Generator, simulation: Simulation, seeds: int) -> list[list[Matches]]:
    """Simulate two rows of `seeds` runs on one sample of test videos; the second is better by the effect."""
    truth = draw_truth(rng, simulation)
    base = rng.normal(0.3, simulation.per_video, simulation.videos)
    rows = []
    for effect in (0.0, simulation.effect):
        own = rng.normal(0, 1, simulation.videos)
        if simulation.skewed and effect:
            own = (rng.exponential(1, simulation.videos) ** 2 - 2) / np.sqrt(20)
        mean = base + effect + simulation.row_on_video * own
        rows.append(
            [
                draw_run(
                    rng,
                    truth,
                    mean
                    + rng.normal(0, simulation.seed)
                    + rng.normal(0, simulation.seed_on_video, simulation.videos),
                )
                for _ in range(seeds)
            ]
        )
    return rows


def coverage(simulation: Simulation, seeds: int, repetitions: int, draws: int) -> dict[str, float]:
    """Return how often the interval of the difference covers its mean over all repetitions."""
    rng = np.random.default_rng([seeds, *random_seed_of(simulation)])
    found = []
    for repetition in range(repetitions):
        a, b = draw_rows(rng, simulation, seeds)
        found.append(paired_difference(b, a, draws=draws, random_seed=repetition))
    estimates = np.array([one.estimate for one in found])
    truth = float(estimates.mean())
    return {
        "coverage": float(np.mean([one.low <= truth <= one.high for one in found])),
        "truth": truth,
        "sd": float(estimates.std(ddof=1)),
        "standard_error": float(np.sqrt(np.mean([one.standard_error**2 for one in found]))),
        "half_width": float(np.mean([one.high - one.low for one in found])) / 2,
    }


def random_seed_of(simulation: Simulation) -> list[int]:
    """Return the random seed of a simulation."""
    return [
        round(100 * value) for value in (simulation.row_on_video, simulation.seed, simulation.seed_on_video)
    ]


SIMULATIONS = {
    "seeds are equal": Simulation(),
    "seeds differ a little": Simulation(row_on_video=0.25, seed=0.03, seed_on_video=0.15),
    "seeds differ like videos": Simulation(row_on_video=0.25, seed=0.08, seed_on_video=0.25),
    "seeds differ a lot": Simulation(row_on_video=0.25, seed=0.2, seed_on_video=0.1),
    "seeds are all that differs": Simulation(row_on_video=0.1, seed=0.4),
    "skewed videos": Simulation(row_on_video=0.5, seed=0.05, seed_on_video=0.1, skewed=True),
    "skewed videos, seeds differ a lot": Simulation(
        row_on_video=0.5, seed=0.2, seed_on_video=0.1, skewed=True
    ),
    "a large difference": Simulation(effect=0.8, row_on_video=0.4, seed=0.12, seed_on_video=0.1),
}


@SLOW
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("name", SIMULATIONS)
def test_coverage_on_simulated_studies(name: str, seeds: int) -> None:
    result = coverage(SIMULATIONS[name], seeds, repetitions=500, draws=200)
    print(f"{name}, {seeds} seeds:", {key: round(value, 4) for key, value in result.items()})
    assert 0.92 <= result["coverage"] <= 0.98
    # Counting the interaction twice would make this 1.4 in the first simulation.
    assert 0.9 <= result["standard_error"] / result["sd"] <= 1.2


@pytest.mark.parametrize("name", ["seeds are equal", "seeds differ a lot"])
def test_coverage_on_a_few_simulated_studies(name: str) -> None:
    result = coverage(replace(SIMULATIONS[name], videos=40, classes=3), 3, repetitions=80, draws=100)
    # 80 intervals that cover 95 % hold the truth 70 times or more, but for one run in a hundred.
    assert result["coverage"] >= 70 / 80
    assert 0.8 <= result["standard_error"] / result["sd"] <= 1.35


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("video", "seed", "both"), [(1, 0, 1), (0, 0, 1), (1, 0.1, 0), (0, 0.1, 1), (1, 0.1, 1), (0.5, 0.2, 1)]
)
def test_coverage_with_normal_numbers(seeds: int, video: float, seed: float, both: float) -> None:
    rng = np.random.default_rng(5)
    n_videos, repetitions = 60, 1500
    weights = video_draws(n_videos, 400, 0) / n_videos
    held = 0
    for _ in range(repetitions):
        score = rng.normal(0, video, n_videos) + rng.normal(0, seed, (seeds, 1))
        score = score + rng.normal(0, both, (seeds, n_videos))
        held += not interval(score.mean(axis=1), score @ weights.T, n_videos=n_videos).excludes_zero
    assert 0.925 <= held / repetitions <= 0.98


def test_contrast_is_linear() -> None:
    rng = np.random.default_rng(1)
    truth = draw_truth(rng, Simulation(videos=12, classes=3))
    rows = [
        [draw_run(rng, truth, np.full(12, quality)) for _ in range(3)] for quality in (0.0, 0.2, 0.4, 0.9)
    ]
    samples = [sample_row(row, draws=50) for row in rows]
    both = contrast(samples, INTERACTION)
    averages = [sample.average.mean() for sample in samples]
    assert both.estimate == pytest.approx(averages[0] - averages[1] - averages[2] + averages[3])
    assert both == contrast(rows, INTERACTION, draws=50)
    forth, back = contrast(samples[:2], [1, -1]), contrast(samples[:2], [-1, 1])
    assert forth.estimate == -back.estimate and forth.low == pytest.approx(-back.high)
    assert forth == paired_difference(rows[0], rows[1], draws=50)
    assert both.low < both.estimate < both.high and both.videos == 12 and both.seeds == 3


def test_difference_of_a_row_to_itself_is_zero() -> None:
    (row, _) = draw_rows(np.random.default_rng(0), Simulation(videos=8, classes=3), 2)
    same = paired_difference(row, row, draws=20)
    assert same.estimate == same.low == same.high == 0.0 and not same.excludes_zero


def test_interval_of_one_seed() -> None:
    a, b = draw_rows(np.random.default_rng(0), Simulation(videos=10, classes=3), 1)
    one = paired_difference(a, b, draws=50)
    assert np.isnan(one.seed_variance) and one.degrees_of_freedom == pytest.approx(9)
    assert one.standard_error == pytest.approx(one.video_variance**0.5)


def test_unpaired_rows_raise() -> None:
    rng = np.random.default_rng(0)
    a, b = draw_rows(rng, Simulation(videos=8, classes=3), 2)
    other, _ = draw_rows(rng, Simulation(videos=9, classes=3), 2)
    with pytest.raises(InputError, match="different videos"):
        paired_difference(a, other, draws=5)
    with pytest.raises(InputError, match="2 and 1 seeds"):
        paired_difference(a, b[:1], draws=5)
    with pytest.raises(InputError, match="coefficients"):
        contrast([a, b], [1.0], draws=5)
    with pytest.raises(InputError, match="has no seeds"):
        contrast([a, []], [1.0, -1.0], draws=5)
    with pytest.raises(InputError, match="bootstrapped with"):
        contrast([sample_row(a, draws=5), sample_row(b, draws=6)], [1.0, -1.0])
