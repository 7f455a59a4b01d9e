"""From the files of a study to what its report says; reads JSON alone and computes everything anew."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import Matches, match
from tal_bench.evaluation.mean_ap import thumos_match
from tal_bench.evaluation.significance import INTERACTION, Interval, RowSample, contrast, sample_row
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord, RunResult, StudyRecord

FACTORIAL = ("both-single", "cross-modal", "cross-structure", "self")
"""Rows of the interaction, in the order of its coefficients."""
DIFFERENCE = (1.0, -1.0)
BASELINES = {"none": frozenset({"none"}), "self": frozenset({"self", "none"})}
"""What rows are compared with, and the rows that are not: `none` to `self` is `self` to `none` mirrored."""


@dataclass(frozen=True)
class Row:
    """One row with what its ended runs give.

    Attributes:
        record: as the study keeps it.
        results: finished final runs, in the order of their seeds.
        failures: seed to error of those that failed.
        cost: of its architecture, or none.
        trials: ended tuning runs, in the order in which they were proposed.
        differences: baseline (`none`, `self`) to the paired difference, in mAP points of 0 ... 100.
        at_tiou: paired differences to `none` at each tIoU threshold, empty where there is none.
    """

    record: RowRecord
    results: tuple[RunResult, ...]
    failures: Mapping[int, str]
    cost: CostRecord | None
    trials: tuple[RunResult, ...] = ()
    differences: Mapping[str, Interval] = field(default_factory=dict)
    at_tiou: tuple[Interval, ...] = ()

    @property
    def name(self) -> str:
        """As the table shows it."""
        return self.record.name

    @property
    def expected(self) -> int:
        """Number of final runs that the row should have."""
        return len(self.record.seeds)

    @property
    def complete(self) -> bool:
        """Whether every seed has a result."""
        return 0 < self.expected == len(self.results)

    @property
    def seeds_text(self) -> str:
        """`2 of 3 seeds` for a row with missing runs, else empty."""
        return "" if self.complete else f"{len(self.results)} of {self.expected} seeds"

    @property
    def minute(self) -> float | None:
        """Seconds spent on one minute of video, end to end."""
        return sum(self.cost.minute.values()) if self.cost and self.cost.minute else None

    def minute_with(self, alternative: str) -> float | None:
        """The same with another privileged extractor, for instance `flow_tvl1` in the place of `flow`."""
        if self.cost is None or self.minute is None:
            return None
        step = alternative.partition("_")[0]
        if step not in self.cost.minute:  # a model that never extracts it costs what it costs
            return self.minute
        other = self.cost.minute_alternatives.get(alternative)
        return None if other is None else self.minute - self.cost.minute[step] + other

    def values(self, metric: str) -> list[float]:
        """A metric of every finished seed, in percent."""
        return [r.metrics[metric] for r in self.results if metric in r.metrics]

    def mean(self, metric: str = "map_avg") -> float | None:
        """Mean over finished seeds, in percent, or none without any."""
        values = self.values(metric)
        return fmean(values) if values else None

    def sd(self, metric: str = "map_avg") -> float | None:
        """Standard deviation over finished seeds (n − 1), in percent; none with fewer than two."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Study:
    """Everything that the tables and the figure show.

    Attributes:
        record: of the study.
        rows: teachers, references, students; each group in the study's own order.
        interaction: both-single − cross-modal − cross-structure + self in mAP points, when all four exist.
        warnings: what could not be computed, and why.
    """

    record: StudyRecord
    rows: tuple[Row, ...]
    interaction: Interval | None
    warnings: tuple[str, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """`map_0.30` ... of the protocol, without the average."""
        return tuple(f"map_{t:.2f}" for t in self.record.tiou)

    @property
    def beside(self) -> tuple[str, ...]:
        """`map_0.50-0.95`: averages over a second grid, where the dataset has one."""
        found = {name for row in self.rows for r in row.results for name in r.metrics}
        return tuple(sorted(name for name in found if name.startswith("map_") and "-" in name))

    @property
    def complete(self) -> bool:
        """Whether the study ended and every row has every seed."""
        return self.record.finished is not None and all(row.complete for row in self.rows)

    @property
    def environments(self) -> list[dict[str, str]]:
        """Distinct environments of the runs in the table."""
        found = [dict(r.environment) for row in self.rows for r in row.results if r.environment]
        return list({json.dumps(e, sort_keys=True): e for e in found}.values())

    def students(self) -> list[Row]:
        """Rows that are compared with each other."""
        return [row for row in self.rows if row.record.kind == "student"]


def collect(folder: Path) -> Study:
    """Summarise a study's folder, finished or not.

    Raises:
        InputError: it holds no study, or one of its files is not what it should be.
    """
    files = StudyFolder(folder)
    record = files.read_study()
    rows = collect_rows(folder)
    rows, interaction, warnings = _compare(files, record, rows)
    return Study(record, tuple(rows), interaction, tuple(warnings))


def collect_rows(folder: Path) -> list[Row]:
    """Rows with their runs, without the intervals, which take time; errors as `collect`."""
    files = StudyFolder(folder)
    records = files.read_study().rows
    order = ("teacher", "reference", "student")
    return [_row(files, row) for kind in order for row in records if row.kind == kind]


def _row(files: StudyFolder, record: RowRecord) -> Row:
    ended = {seed: files.read_run(hash_) for seed, hash_ in zip(record.seeds, record.finals, strict=False)}
    return Row(
        record=record,
        results=tuple(r for r in ended.values() if r is not None and r.status == "finished"),
        failures={s: r.error or "failed" for s, r in ended.items() if r is not None and r.status == "failed"},
        cost=files.read_cost(record.cost) if record.cost else None,
        trials=tuple(r for r in map(files.read_run, record.trials) if r is not None),
    )


def _compare(
    files: StudyFolder, record: StudyRecord, rows: Sequence[Row]
) -> tuple[list[Row], Interval | None, list[str]]:
    """Rows with their differences to each baseline, the interaction, and what hindered them."""
    try:
        truth, videos = read_ground_truth(files.path / "ground_truth.json")
    except FileNotFoundError:
        return list(rows), None, ["no ground_truth.json: differences have no interval"]
    groups = read_groups(files.path / "ground_truth.json")
    compare_to = thumos_match if record.ap_method == "thumos" else match
    enough = len(set(groups.values()) if groups else videos) > 1
    samples: dict[str, dict[int, int]] = {}
    drawn: dict[str, RowSample] = {}
    warnings: list[str] = []
    for row in rows:
        matches: dict[int, Matches] = {}
        for result in row.results:
            file = files.run_file(result.hash, ".detections.json")
            if file.is_file():
                detections = read_detections(file)
                matches[result.spec.seed] = compare_to(detections, truth, record.tiou, videos=videos)
            else:
                warnings.append(f"{row.name}, seed {result.spec.seed}: detections are missing")
        if matches and enough:
            drawn[row.name] = sample_row(list(matches.values()), groups=groups)
            samples[row.name] = {seed: place for place, seed in enumerate(matches)}
    if not enough:
        only = "videos of one group alone" if groups and len(videos) > 1 else "one test video"
        warnings.append(f"{only}: differences have no interval")

    def paired(names: Sequence[str]) -> list[RowSample]:
        """Samples of rows on the seeds that all of them have; empty where one row has none of these."""
        if any(name not in drawn for name in names):
            return []
        shared = sorted(set.intersection(*(set(samples[name]) for name in names)))
        return [drawn[n].select_seeds([samples[n][seed] for seed in shared]) for n in names] if shared else []

    def compared(row: Row) -> Row:
        differences: dict[str, Interval] = {}
        at_tiou: tuple[Interval, ...] = ()
        for base, without in BASELINES.items():
            if row.name in without or not (pair := paired((row.name, base))):
                continue
            differences[base] = _percent(contrast(pair, DIFFERENCE))
            if base == "none":
                at_tiou = tuple(
                    _percent(contrast([sample.at_threshold(k) for sample in pair], DIFFERENCE))
                    for k in range(len(record.tiou))
                )
        return replace(row, differences=differences, at_tiou=at_tiou)

    four = paired(FACTORIAL)
    interaction = _percent(contrast(four, INTERACTION)) if four else None
    return [compared(row) for row in rows], interaction, warnings


def _percent(interval: Interval) -> Interval:
    """From mAP in 0 ... 1 to points."""
    return replace(
        interval,
        estimate=100 * interval.estimate,
        standard_error=100 * interval.standard_error,
        low=100 * interval.low,
        high=100 * interval.high,
        video_variance=1e4 * interval.video_variance,
        seed_variance=1e4 * interval.seed_variance,
    )


def read_ground_truth(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Segments of an ActivityNet-style annotation file, and the names of all its videos.

    Raises:
        FileNotFoundError: as it says.
        InputError: not such a file.
    """
    try:
        database = _json(file)["database"]
        lines = [
            (video, *map(float, a["segment"]), a["label"])
            for video, entry in database.items()
            for a in entry["annotations"]
        ]
        return pd.DataFrame(lines, columns=["video", "start", "end", "label"]), sorted(database)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not ActivityNet-style annotations: {error!r}", where=file) from None


def read_groups(file: Path) -> dict[str, str] | None:
    """Group of every test video (a person, a camera), or none where videos stand for themselves.

    Raises:
        InputError: not an annotation file, or some videos have a group and some have none.
    """
    try:
        groups = {video: entry.get("group") for video, entry in _json(file)["database"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not ActivityNet-style annotations: {error!r}", where=file) from None
    named = {video: str(group) for video, group in groups.items() if group is not None}
    if named and len(named) < len(groups):
        raise InputError(f"{len(groups) - len(named)} videos without a group", where=file)
    return named or None


def read_detections(file: Path) -> pd.DataFrame:
    """Detections of an ActivityNet-style result file.

    Raises:
        InputError: not such a file.
    """
    try:
        lines = [
            (video, *map(float, d["segment"]), d["label"], float(d["score"]))
            for video, found in _json(file)["results"].items()
            for d in found
        ]
        return pd.DataFrame(lines, columns=["video", "start", "end", "label", "score"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not ActivityNet-style detections: {error!r}", where=file) from None


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
