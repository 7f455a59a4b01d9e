"""Collect the data of a report from the JSON files of a study and compute means and intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from tal_bench.config import RunSpec
from tal_bench.evaluation.all_pairs import Comparison, compare_all_pairs
from tal_bench.evaluation.matching import Matches, match
from tal_bench.evaluation.mean_ap import thumos_match
from tal_bench.evaluation.significance import INTERACTION, Interval, RowSample, contrast, sample_row
from tal_bench.report.study.collapse import is_collapsed
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord, RunResult, StudyRecord, TrainingCost
from tal_bench.results.segment_files import read_groups, read_result_file, read_segments

FACTORIAL = ("both-single", "cross-modal", "cross-structure", "self")
"""Rows of the interaction, in the order of the coefficients in `INTERACTION`."""
KINDS = {"teacher": "Teachers", "reference": "References", "student": "Students"}
"""Headings of the kinds of rows, in the order of the tables."""
DIFFERENCE = (1.0, -1.0)
BASELINES = {"none": frozenset({"none"}), "self": frozenset({"self", "none"})}
"""Baselines, each with the rows that are not compared with it (`none` to `self` mirrors `self` to `none`)."""


@dataclass(frozen=True)
class Row:
    """A row of a study with the results of its runs.

    Attributes:
        record: Record of the row.
        results: Finished final runs, in the order of their seeds.
        failures: Error messages of failed final runs by seed.
        cost: Cost of the architecture, or None if it was not measured.
        training: Cost of a training step, or None if it was not measured.
        trials: Finished, pruned and failed tuning runs, in the order in which they were proposed.
        confirmations: Runs of the best trials with further seeds on validation.
        differences: Paired difference to each baseline (`none`, `self`), in mAP points of 0 … 100.
        at_tiou: Paired differences to `none` at each tIoU threshold; empty if there are none.
    """

    record: RowRecord
    results: tuple[RunResult, ...]
    failures: Mapping[int, str]
    cost: CostRecord | None
    trials: tuple[RunResult, ...] = ()
    confirmations: tuple[RunResult, ...] = ()
    differences: Mapping[str, Interval] = field(default_factory=dict)
    at_tiou: tuple[Interval, ...] = ()
    training: TrainingCost | None = None

    @property
    def name(self) -> str:
        """Name of the row."""
        return self.record.name

    @property
    def chosen(self) -> list[RunResult]:
        """Tuning runs with the chosen settings, one per seed; empty if the row was not tuned."""
        found = [trial for trial in self.trials if trial.hash == self.record.chosen]
        settings = [_settings(run) for run in found]
        return [*found, *(run for run in self.confirmations if _settings(run) in settings)]

    @property
    def expected(self) -> int:
        """Number of final runs of a complete row."""
        return len(self.record.seeds)

    @property
    def complete(self) -> bool:
        """Whether every seed has a result."""
        return 0 < self.expected == len(self.results)

    @property
    def seeds_text(self) -> str:
        """Number of finished seeds, such as `2 of 3 seeds`, if runs are missing; else empty."""
        return "" if self.complete else f"{len(self.results)} of {self.expected} seeds"

    @property
    def collapsed(self) -> list[int]:
        """Seeds whose final training learned nothing."""
        return [run.spec.seed for run in self.results if is_collapsed(run)]

    @property
    def label(self) -> str:
        """Name with the number of finished seeds if runs are missing, and of trainings that collapsed."""
        collapsed = f"{len(self.collapsed)} learned nothing" if self.collapsed else ""
        remarks = ", ".join(filter(None, (self.seeds_text, collapsed)))
        return f"{self.name} ({remarks})" if remarks else self.name

    @property
    def per_class(self) -> dict[str, float]:
        """Average AP of each class in percent, mean over finished seeds; empty if there are none."""
        seeds = [result.per_class for result in self.results if result.per_class]
        return {name: float(np.nanmean([own[name] for own in seeds])) for name in (seeds[0] if seeds else ())}

    @property
    def minute(self) -> float | None:
        """Seconds to process one minute of video, end to end; None if not measured."""
        return self.cost.minute_total if self.cost else None

    def minute_with(self, alternative: str) -> float | None:
        """Return `minute` with another extractor of a privileged modality, for example `flow_tvl1`."""
        return self.cost.minute_with(alternative) if self.cost else None

    def values(self, metric: str) -> list[float]:
        """Return a metric of every finished seed, in percent."""
        return [r.metrics[metric] for r in self.results if metric in r.metrics]

    def mean(self, metric: str = "map_avg") -> float | None:
        """Return the mean of a metric over finished seeds, in percent; None if there are none."""
        values = self.values(metric)
        return fmean(values) if values else None

    def sd(self, metric: str = "map_avg") -> float | None:
        """Return the standard deviation (n − 1) over finished seeds, in percent; None with fewer than two."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class ReportData:
    """Data of the tables and figures of a study's report.

    Attributes:
        record: Record of the study.
        rows: Teachers, references and students, each group in the order of the study.
        interaction: both-single − cross-modal − cross-structure + self in mAP points; None unless all four
            rows exist.
        warnings: Messages on numbers that could not be computed.
        comparison: All pairs of student rows, in mAP of 0 … 1; None if there are no intervals.
        samples: Average mAP of each row per seed, measured and bootstrapped, in 0 … 1.
    """

    record: StudyRecord
    rows: tuple[Row, ...]
    interaction: Interval | None
    warnings: tuple[str, ...]
    comparison: Comparison | None = None
    samples: Mapping[str, RowSample] = field(default_factory=dict, repr=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of the tIoU thresholds, such as `map_0.30`, without the average."""
        return tuple(f"map_{t:.2f}" for t in self.record.tiou)

    @property
    def additional_averages(self) -> tuple[str, ...]:
        """Averages over a second tIoU grid, such as `map_0.50-0.95`, if the dataset has one."""
        names = {name for row in self.rows for r in row.results for name in r.metrics}
        return tuple(sorted(name for name in names if name.startswith("map_") and "-" in name))

    @property
    def complete(self) -> bool:
        """Whether the study has ended and every row has a result of every seed."""
        return self.record.finished is not None and all(row.complete for row in self.rows)

    @property
    def environments(self) -> list[dict[str, str]]:
        """Distinct environments of the finished final runs."""
        environments = [dict(r.environment) for row in self.rows for r in row.results if r.environment]
        return list({json.dumps(e, sort_keys=True): e for e in environments}.values())

    def students(self) -> list[Row]:
        """Return the student rows, which are compared with each other."""
        return [row for row in self.rows if row.record.kind == "student"]


def collect(folder: Path) -> ReportData:
    """Read a finished or unfinished study and compute the data of its report.

    Raises:
        InputError: The folder contains no study, or one of its files is malformed.
    """
    files = StudyFolder(folder)
    record = files.read_study()
    rows = collect_rows(folder)
    return _compare(files, record, rows)


def collect_rows(folder: Path) -> list[Row]:
    """Return the rows with their runs but without intervals, which take time; errors as in `collect`."""
    files = StudyFolder(folder)
    records = files.read_study().rows
    return [_row(files, row) for kind in KINDS for row in records if row.kind == kind]


def _row(files: StudyFolder, record: RowRecord) -> Row:
    runs = {seed: files.read_run(hash_) for seed, hash_ in zip(record.seeds, record.finals, strict=False)}
    return Row(
        record=record,
        results=tuple(r for r in runs.values() if r is not None and r.status == "finished"),
        failures={s: r.error or "failed" for s, r in runs.items() if r is not None and r.status == "failed"},
        cost=files.read_cost(record.cost) if record.cost else None,
        trials=tuple(r for r in map(files.read_run, record.trials) if r is not None),
        training=files.read_training_cost(record.training) if record.training else None,
        confirmations=tuple(r for r in map(files.read_run, record.confirmations) if r is not None),
    )


def _settings(run: RunResult) -> RunSpec:
    """Return the spec of a run without what differs between a trial and its confirmations."""
    return run.spec.model_copy(update={"seed": 0, "pruner": "none"})


def _compare(files: StudyFolder, record: StudyRecord, rows: Sequence[Row]) -> ReportData:
    """Return the rows with their differences to each baseline, all pairs, the interaction, and warnings."""
    try:
        truth, videos = read_segments(files.path / "ground_truth.json")
    except FileNotFoundError:
        return ReportData(record, tuple(rows), None, ("no ground_truth.json: differences have no interval",))
    groups = read_groups(files.path / "ground_truth.json")
    match_detections = thumos_match if record.ap_method == "thumos" else match
    can_bootstrap = len(set(groups.values()) if groups else videos) > 1
    samples: dict[str, RowSample] = {}
    seed_index: dict[str, dict[int, int]] = {}  # index of each seed within the sample of a row
    warnings: list[str] = []
    for row in rows:
        matches: dict[int, Matches] = {}
        for result in row.results:
            file = files.run_file(result.hash, ".detections.json")
            if file.is_file():
                detections = read_result_file(file)
                matches[result.spec.seed] = match_detections(detections, truth, record.tiou, videos=videos)
            else:
                warnings.append(f"{row.name}, seed {result.spec.seed}: detections are missing")
        if matches and can_bootstrap:
            samples[row.name] = sample_row(list(matches.values()), groups=groups)
            seed_index[row.name] = {seed: index for index, seed in enumerate(matches)}
    if not can_bootstrap:
        reason = "only one group of videos" if groups and len(videos) > 1 else "only one test video"
        warnings.append(f"{reason}: differences have no interval")

    def paired(names: Sequence[str]) -> list[RowSample]:
        """Return samples of rows on their shared seeds; empty if there are none."""
        if any(name not in samples for name in names):
            return []
        shared = sorted(set.intersection(*(set(seed_index[name]) for name in names)))
        if not shared:
            return []
        return [samples[n].select_seeds([seed_index[n][seed] for seed in shared]) for n in names]

    def with_differences(row: Row) -> Row:
        differences: dict[str, Interval] = {}
        at_tiou: tuple[Interval, ...] = ()
        for base, excluded in BASELINES.items():
            if row.name in excluded or not (pair := paired((row.name, base))):
                continue
            differences[base] = percent(contrast(pair, DIFFERENCE))
            if base == "none":
                at_tiou = tuple(
                    percent(contrast([sample.at_threshold(k) for sample in pair], DIFFERENCE))
                    for k in range(len(record.tiou))
                )
        return replace(row, differences=differences, at_tiou=at_tiou)

    factorial = paired(FACTORIAL)
    interaction = percent(contrast(factorial, INTERACTION)) if factorial else None
    students = {row.name: samples[row.name] for row in rows if _is_compared(row, samples)}
    seeds = {name: list(index) for name, index in seed_index.items()}
    comparison = compare_all_pairs(students, seeds=seeds) if len(students) > 1 else None
    compared = tuple(with_differences(row) for row in rows)
    return ReportData(record, compared, interaction, tuple(warnings), comparison, samples)


def _is_compared(row: Row, samples: Mapping[str, RowSample]) -> bool:
    return row.record.kind == "student" and row.name in samples


def percent(interval: Interval) -> Interval:
    """Convert an interval from mAP in 0 … 1 to points of 0 … 100."""
    return replace(
        interval,
        estimate=100 * interval.estimate,
        standard_error=100 * interval.standard_error,
        low=100 * interval.low,
        high=100 * interval.high,
        video_variance=1e4 * interval.video_variance,
        seed_variance=1e4 * interval.seed_variance,
        interaction_variance=1e4 * interval.interaction_variance,
    )
