"""Which ground truths are missed, and how average precision depends on what they are like.

Characteristics and bins after DETAD (Alwassel et al., ECCV 2018): a ground truth's length in seconds, its
coverage (length as a share of the video's), and the number of instances of its class in its video.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.diagnosis import Diagnosis
from tal_bench.evaluation.matching import Bools, Floats, Ints, Matches

LENGTH, COVERAGE, INSTANCES = "length", "coverage", "instances"
BinChoice = Literal["auto", "activitynet", "thumos14", "quantiles"]
EDGES: dict[str, dict[str, tuple[float, ...]]] = {
    "activitynet": {
        LENGTH: (0, 30, 60, 120, 180, np.inf),
        COVERAGE: (0, 0.2, 0.4, 0.6, 0.8, 1),
        INSTANCES: (0, 1, 4, 8, np.inf),
    },
    "thumos14": {
        LENGTH: (0, 3, 6, 12, 18, np.inf),
        COVERAGE: (0, 0.02, 0.04, 0.06, 0.08, 1),
        INSTANCES: (0, 1, 40, 80, np.inf),
    },
}
"""DETAD's bins, open below and closed above."""
SIZES = ("XS", "S", "M", "L", "XL")
RARE = 0.01
"""Share of the ground truths below which a bin counts as empty, when bins are chosen by the data."""
FEWEST_PRECISION = 0.05
"""Normalised precision up to which a detection is no longer counted as finding anything (DETAD's)."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Ground truths sorted into bins by one characteristic.

    Attributes:
        characteristic: `length`, `coverage` or `instances`.
        source: whose edges: `activitynet`, `thumos14` or `quantiles`.
        names: of the bins, with their ranges.
        index: bin of each ground truth `[G]`; −1 for one that cannot be told (the video's length is unknown).
    """

    characteristic: str
    source: str
    names: tuple[str, ...]
    index: Ints


def read_durations(file: Path) -> dict[str, float]:
    """Seconds of each video of a valid ActivityNet-style annotation file, as far as it tells them."""
    database = json.loads(file.read_text(encoding="utf-8"))["database"]
    return {
        str(video): float(entry["duration"])
        for video, entry in database.items()
        if isinstance(entry.get("duration"), int | float) and entry["duration"] > 0
    }


def characteristics(truth: pd.DataFrame, durations: Mapping[Any, float]) -> dict[str, Floats]:
    """Length, coverage (NaN where the duration is unknown) and instances of each ground truth `[G]`."""
    length = (truth["end"] - truth["start"]).to_numpy(dtype=np.float64)
    duration = np.array([durations.get(video, np.nan) for video in truth["video"]], dtype=np.float64)
    same = truth.groupby(["video", "label"], sort=False)["start"].transform("size")
    return {
        LENGTH: length,
        COVERAGE: np.minimum(length / duration, 1.0),
        INSTANCES: same.to_numpy(dtype=np.float64),
    }


def bin_truths(values: Mapping[str, Floats], choice: BinChoice = "auto") -> list[Bins]:
    """Bins of every characteristic that at least one ground truth has.

    Args:
        values: from `characteristics`.
        choice: DETAD's bins for ActivityNet or for THUMOS14, quantiles of the data, or `auto`: per
            characteristic the first of these three of which no bin holds less than 1 % of the ground truths.

    Raises:
        InputError: there is no such choice.
    """
    if choice not in ("auto", "quantiles", *EDGES):
        raise InputError(f"bins {choice!r}", where="bins", hint=f"auto, quantiles, {', '.join(EDGES)}")
    return [_bins(name, value, choice) for name, value in values.items() if np.isfinite(value).any()]


def _bins(name: str, value: Floats, choice: BinChoice) -> Bins:
    known = value[np.isfinite(value)]
    for source in EDGES if choice == "auto" else (choice,) if choice in EDGES else ():
        edges = np.asarray(EDGES[source][name])
        filled = np.bincount(_place(known, edges), minlength=len(edges) - 1) >= RARE * len(known)
        if choice != "auto" or filled.all():
            return Bins(name, source, _names(name, edges), _place(value, edges))
    edges = _quantiles(known, len(EDGES["thumos14"][name]) - 1)
    return Bins(name, "quantiles", _names(name, edges), _place(value, edges))


def _quantiles(known: Floats, count: int) -> Floats:
    """Edges of at most `count` bins that hold about the same number each; fewer where values repeat."""
    inner = np.quantile(known, np.arange(1, count) / count, method="inverted_cdf")
    inner = np.unique(inner)
    return np.concatenate([[0.0], inner[inner < known.max()], [np.inf]])


def _place(value: Floats, edges: Floats) -> Ints:
    """Bin of each value, open below and closed above; −1 for NaN."""
    place = np.clip(np.searchsorted(edges, value, side="left") - 1, 0, len(edges) - 2)
    return np.where(np.isfinite(value), place, -1).astype(np.int64)


def _names(name: str, edges: Floats) -> tuple[str, ...]:
    scale, unit = {LENGTH: (1, " s"), COVERAGE: (100, " %"), INSTANCES: (1, "")}[name]
    texts = [f"{scale * edge:.3g}" for edge in edges]
    # 1, 2–4, 5–8: whole numbers
    lows = [str(int(edge) + 1) for edge in edges[:-1]] if name == INSTANCES else texts[:-1]
    ranges = [
        f"{high}{unit}" if low == high else f"{low}–{high}{unit}"
        for low, high in zip(lows, texts[1:], strict=True)
    ]
    if np.isinf(edges[-1]):
        ranges[-1] = f"> {texts[-2]}{unit}"
    return tuple(f"{size} ({text})" for size, text in zip(SIZES, ranges, strict=False))


def missed(matches: Matches, minimum: float = 0.0) -> Bools:
    """Which ground truths nothing found `[T, G]`.

    Args:
        matches: of a run.
        minimum: detections from that rank of their class on where normalised precision is not above it do
            not count as finding anything. 0 counts all, as mAP does; DETAD's analysis takes 0.05, for among
            hundreds of detections of no confidence some are right by chance.
    """
    found = matches.gt_detection >= 0
    if minimum <= 0:
        return ~found
    enough = _normalised_precision(matches, matches.true_positive, _totals(matches)) > minimum
    return ~(found & np.take_along_axis(enough, np.maximum(matches.gt_detection, 0), axis=1))


def normalised_ap(matches: Matches, groups: Sequence[Bools]) -> Floats:
    """AP_N of groups of ground truths (Hoiem et al., ECCV 2012, after whom DETAD has it).

    Precision depends on how common a class is, so that groups of different size do not compare. Normalised
    precision R·N / (R·N + FP) puts for every class and group the same number N of ground truths: the mean per
    class of the whole set. R is the recall within the group, FP counts all false positives of the class,
    and detections that found ground truths of other groups count neither way.

    Args:
        matches: of a run.
        groups: which ground truths belong to each group, `M` masks `[G]`.

    Returns:
        `[M, T, K]`, 0 … 1; NaN for classes without ground truth in the group.
    """
    ap = np.full((len(groups), len(matches.thresholds), len(matches.classes)), np.nan)
    edges = np.searchsorted(matches.label, np.arange(len(matches.classes) + 1))
    for m, group in enumerate(groups):
        right = np.zeros_like(matches.true_positive)
        level, truth = np.nonzero((matches.gt_detection >= 0) & group)
        right[level, matches.gt_detection[level, truth]] = True
        total = np.bincount(matches.gt_label[group], minlength=len(matches.classes))
        precision = _normalised_precision(matches, right, total)
        for k in np.flatnonzero(total):
            part = slice(int(edges[k]), int(edges[k + 1]))
            best = np.maximum.accumulate(precision[:, part][:, ::-1], axis=1)[:, ::-1]
            ap[m, :, k] = (best * right[:, part]).sum(axis=1) / total[k]
    return ap


def group_table(diagnosis: Diagnosis, bins: Sequence[Bins]) -> pd.DataFrame:
    """A line for all ground truths and one per bin, means over thresholds, in 0 … 1.

    Returns:
        Columns characteristic (`all` in the first line), bin, truths (how many), missed (DETAD's false
        negatives, see `missed`), never_found (the same, every detection counted) and map_n (`normalised_ap`,
        mean over the classes that the bin has).
    """
    matches = diagnosis.matches
    every = np.ones(len(matches.gt_label), dtype=bool)
    names = [("all", "all"), *((one.characteristic, name) for one in bins for name in one.names)]
    masks = [every, *(one.index == k for one in bins for k in range(len(one.names)))]
    masks_filled = [mask for mask in masks if mask.any()]
    ap = iter(normalised_ap(matches, masks_filled))
    lost, never = missed(matches, FEWEST_PRECISION), missed(matches)
    lines = []
    for (characteristic, name), mask in zip(names, masks, strict=True):
        filled = mask.any()
        lines.append(
            {
                "characteristic": characteristic,
                "bin": name,
                "truths": int(mask.sum()),
                "missed": float(lost[:, mask].mean()) if filled else np.nan,
                "never_found": float(never[:, mask].mean()) if filled else np.nan,
                "map_n": float(np.nanmean(next(ap))) if filled else np.nan,
            }
        )
    return pd.DataFrame(lines)


def _totals(matches: Matches) -> Ints:
    return np.bincount(matches.gt_label, minlength=len(matches.classes))


def _normalised_precision(matches: Matches, right: Bools, total: Ints) -> Floats:
    """R·N / (R·N + FP) at the rank of each detection in its class `[T, N]`; 0 for a class without total."""
    usual = len(matches.gt_label) / len(matches.classes)
    found = _running(matches, right)
    false = _running(matches, ~matches.true_positive)
    weight = np.divide(usual, total, out=np.zeros(len(total)), where=total > 0)[matches.label]
    mass = found * weight
    precision: Floats = np.divide(mass, mass + false, out=np.zeros_like(mass), where=mass > 0)
    return precision


def _running(matches: Matches, flags: Bools) -> Floats:
    """How many detections of its class up to and with each have the flag `[T, N]`."""
    count = np.cumsum(flags, axis=1, dtype=np.float64)
    before = np.concatenate([np.zeros((len(flags), 1)), count], axis=1)
    first = np.searchsorted(matches.label, np.arange(len(matches.classes)))
    return np.asarray(count - before[:, first[matches.label]])
