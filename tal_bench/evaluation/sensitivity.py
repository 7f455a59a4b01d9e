"""Measure which ground truths are missed and how average precision depends on their characteristics.

Characteristics and bins follow DETAD (Alwassel et al., ECCV 2018): length in seconds, coverage (length as a
share of the video's duration), and number of instances of the class in the video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.diagnosis import Diagnosis
from tal_bench.evaluation.files import load_json
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
"""Edges of DETAD's bins, which exclude the lower and include the upper edge."""
SIZES = ("XS", "S", "M", "L", "XL")
MIN_BIN_SHARE = 0.01
"""Smallest share of the ground truths in every bin for which `auto` accepts DETAD's bins."""
MIN_PRECISION = 0.05
"""Normalised precision above which detections count as finding ground truths, as in DETAD."""


LONGEST = 1e100
"""Seconds; greater durations are unknown ones."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Assignment of ground truths to bins of one characteristic.

    Attributes:
        characteristic: `length`, `coverage` or `instances`.
        source: Origin of the edges: `activitynet`, `thumos14` or `quantiles`.
        names: Names of the bins, with their ranges.
        index: Bin of each ground truth `[G]`; −1 if unknown (coverage in a video of unknown duration).
    """

    characteristic: str
    source: str
    names: tuple[str, ...]
    index: Ints


def read_durations(file: Path) -> dict[str, float]:
    """Read the known durations in seconds of the videos of a valid ActivityNet-style annotation file."""
    durations = {video: entry.get("duration") for video, entry in load_json(file)["database"].items()}
    return {
        str(video): float(duration)
        for video, duration in durations.items()
        if isinstance(duration, int | float) and not isinstance(duration, bool) and 0 < duration < LONGEST
    }


def characteristics(truth: pd.DataFrame, durations: Mapping[Any, float]) -> dict[str, Floats]:
    """Return length, coverage (NaN if the duration is unknown) and instances of each ground truth `[G]`."""
    length = (truth["end"] - truth["start"]).to_numpy(dtype=np.float64)
    duration = np.array([durations.get(video, np.nan) for video in truth["video"]], dtype=np.float64)
    same = truth.groupby(["video", "label"], sort=False)["start"].transform("size")
    return {
        LENGTH: length,
        COVERAGE: np.minimum(length / duration, 1.0),
        INSTANCES: same.to_numpy(dtype=np.float64),
    }


def bin_truths(values: Mapping[str, Floats], choice: BinChoice = "auto") -> list[Bins]:
    """Assign ground truths to bins of every characteristic that is known for at least one of them.

    Args:
        values: Result of `characteristics`.
        choice: `activitynet` or `thumos14` for DETAD's bins, `quantiles` of the data, or `auto`: for each
            characteristic the first of these three whose bins each have at least 1 % of the ground truths.

    Raises:
        InputError: The choice is unknown.
    """
    if choice not in ("auto", "quantiles", *EDGES):
        raise InputError(
            f"unknown bins {choice!r}", where="bins", hint=f"choose auto, quantiles, {', '.join(EDGES)}"
        )
    return [_bins(name, value, choice) for name, value in values.items() if np.isfinite(value).any()]


def _bins(name: str, value: Floats, choice: BinChoice) -> Bins:
    known = value[np.isfinite(value)]
    for source in EDGES if choice == "auto" else (choice,) if choice in EDGES else ():
        edges = np.asarray(EDGES[source][name])
        counts = np.bincount(_bin_index(known, edges), minlength=len(edges) - 1)
        if choice != "auto" or (counts >= MIN_BIN_SHARE * len(known)).all():
            return Bins(name, source, _names(name, edges), _bin_index(value, edges))
    edges = _quantiles(known, len(EDGES["thumos14"][name]) - 1)
    return Bins(name, "quantiles", _names(name, edges), _bin_index(value, edges))


def _quantiles(known: Floats, count: int) -> Floats:
    """Return edges of at most `count` bins of about equal size; fewer if values repeat."""
    inner = np.quantile(known, np.arange(1, count) / count, method="inverted_cdf")
    inner = np.unique(inner)
    return np.concatenate([[0.0], inner[inner < known.max()], [np.inf]])


def _bin_index(value: Floats, edges: Floats) -> Ints:
    """Return the bin of each value, excluding the lower and including the upper edge; −1 for NaN."""
    index = np.clip(np.searchsorted(edges, value, side="left") - 1, 0, len(edges) - 2)
    return np.where(np.isfinite(value), index, -1).astype(np.int64)


def _names(name: str, edges: Floats) -> tuple[str, ...]:
    scale, unit = {LENGTH: (1, " s"), COVERAGE: (100, " %"), INSTANCES: (1, "")}[name]
    texts = [f"{scale * edge:.3g}" for edge in edges]
    # Ranges of instances are integers: 1, 2–4, 5–8.
    lows = [str(int(edge) + 1) for edge in edges[:-1]] if name == INSTANCES else texts[:-1]
    ranges = [
        f"{high}{unit}" if low == high else f"{low}–{high}{unit}"
        for low, high in zip(lows, texts[1:], strict=True)
    ]
    if np.isinf(edges[-1]):
        ranges[-1] = f"> {texts[-2]}{unit}"
    return tuple(f"{size} ({text})" for size, text in zip(SIZES, ranges, strict=False))


def missed(matches: Matches, minimum: float = 0.0) -> Bools:
    """Return whether no detection finds the ground truth `[T, G]`.

    Args:
        matches: Matches of a run.
        minimum: Detections whose normalised precision is not above this value do not count as finding a
            ground truth. 0 counts all detections, as mAP does. DETAD uses 0.05, because some of many
            detections of low confidence are right by chance.
    """
    found = matches.gt_detection >= 0
    if minimum <= 0:
        return ~found
    total = np.bincount(matches.gt_label, minlength=len(matches.classes))
    counted = _normalised_precision(matches, matches.true_positive, total) > minimum
    return ~(found & np.take_along_axis(counted, np.maximum(matches.gt_detection, 0), axis=1))


def normalised_ap(matches: Matches, groups: Sequence[Bools]) -> Floats:
    """Compute normalised average precision AP_N of groups of ground truths (Hoiem et al., ECCV 2012; DETAD).

    Precision depends on the frequency of a class, so that groups of different size are not comparable.
    Normalised precision R·N / (R·N + FP) uses the same number N of ground truths for every class and group,
    the mean number per class of the whole set. R is the recall within the group and FP the number of false
    positives of the class. Detections matched to ground truths of other groups are ignored.

    Args:
        matches: Matches of a run.
        groups: Masks `[G]` of the ground truths of the `M` groups.

    Returns:
        AP_N `[M, T, K]`, 0 … 1; NaN for classes without ground truth in the group.
    """
    ap = np.full((len(groups), len(matches.thresholds), len(matches.classes)), np.nan)
    edges = np.searchsorted(matches.label, np.arange(len(matches.classes) + 1))
    for m, group in enumerate(groups):
        true_positive = np.zeros_like(matches.true_positive)
        level, truth = np.nonzero((matches.gt_detection >= 0) & group)
        true_positive[level, matches.gt_detection[level, truth]] = True
        total = np.bincount(matches.gt_label[group], minlength=len(matches.classes))
        precision = _normalised_precision(matches, true_positive, total)
        for k in np.flatnonzero(total):
            part = slice(int(edges[k]), int(edges[k + 1]))
            interpolated = np.maximum.accumulate(precision[:, part][:, ::-1], axis=1)[:, ::-1]
            ap[m, :, k] = (interpolated * true_positive[:, part]).sum(axis=1) / total[k]
    return ap


def group_table(diagnosis: Diagnosis, bins: Sequence[Bins]) -> pd.DataFrame:
    """Return a table with a line for all ground truths and one per bin, means over thresholds, in 0 … 1.

    Returns:
        Columns characteristic (`all` in the first line), bin, truths (number of ground truths), missed
        (DETAD's false negatives, see `missed`), never_found (`missed` with all detections counted) and map_n
        (`normalised_ap`, mean over the classes in the bin).
    """
    matches = diagnosis.matches
    all_truths = np.ones(len(matches.gt_label), dtype=bool)
    names = [("all", "all"), *((b.characteristic, name) for b in bins for name in b.names)]
    masks = [all_truths, *(b.index == k for b in bins for k in range(len(b.names)))]
    ap = iter(normalised_ap(matches, [mask for mask in masks if mask.any()]))
    missed_truths, never_found = missed(matches, MIN_PRECISION), missed(matches)
    lines = []
    for (characteristic, name), mask in zip(names, masks, strict=True):
        filled = mask.any()
        lines.append(
            {
                "characteristic": characteristic,
                "bin": name,
                "truths": int(mask.sum()),
                "missed": float(missed_truths[:, mask].mean()) if filled else np.nan,
                "never_found": float(never_found[:, mask].mean()) if filled else np.nan,
                "map_n": float(np.nanmean(next(ap))) if filled else np.nan,
            }
        )
    return pd.DataFrame(lines)


def _normalised_precision(matches: Matches, true_positive: Bools, total: Ints) -> Floats:
    """Compute R·N / (R·N + FP) at the rank of each detection `[T, N]`; 0 for classes with a total of 0."""
    mean_per_class = len(matches.gt_label) / len(matches.classes)
    found = _running_count(matches, true_positive)
    false = _running_count(matches, ~matches.true_positive)
    weight = np.divide(mean_per_class, total, out=np.zeros(len(total)), where=total > 0)[matches.label]
    normalised = found * weight
    precision: Floats = np.divide(
        normalised, normalised + false, out=np.zeros_like(normalised), where=normalised > 0
    )
    return precision


def _running_count(matches: Matches, flags: Bools) -> Floats:
    """Count the flagged detections of the class up to and including each detection `[T, N]`."""
    count = np.cumsum(flags, axis=1, dtype=np.float64)
    before = np.concatenate([np.zeros((len(flags), 1)), count], axis=1)
    first = np.searchsorted(matches.label, np.arange(len(matches.classes)))
    return np.asarray(count - before[:, first[matches.label]])
