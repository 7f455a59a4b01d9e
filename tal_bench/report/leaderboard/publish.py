"""Publish a finished study: its report and a JSON file per row, after a check that nothing is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tal_bench.errors import InputError
from tal_bench.evaluation.significance import Interval, contrast
from tal_bench.report.leaderboard.result import RESULTS, Ends, Measured, PublishedResult, result_text
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row, collect, percent
from tal_bench.report.study.write import write_report
from tal_bench.results.choice import SMOKE
from tal_bench.results.columns import cost_columns
from tal_bench.results.folder import StudyFolder
from tal_bench.results.places import PUBLISHED
from tal_bench.system.files import write_atomically

PARTS = ("diagnosis", "robustness")
"""Folders within a study whose files are published, too, if they exist."""
COPIED = (".json", ".md", ".csv", ".png", ".svg")
"""Suffixes of the files of these folders."""


def publish(study: Path | str, out: Path | str = PUBLISHED) -> list[Path]:
    """Write the report of a finished study and a JSON file per row to `<out>/<name of the folder>/`.

    The report is made anew. JSON files of an earlier publication of the study are replaced. Weights, and the
    files of detections, ground truth and runs are not published; the timeline of the page contains the ground
    truth and the best detections of the test videos, and `runs.csv` the metrics of the runs.

    Args:
        study: Folder of a finished study.
        out: Folder of published studies.

    Returns:
        Written files.

    Raises:
        InputError: The folder contains no study, or the study is unfinished, failed, changed or of unknown
            origin; the message names every reason.
        DataError: Weights or detections of a run are damaged.
        IncompleteReportError: A figure or the page could not be made; nothing is published.
    """
    folder = Path(study)
    data = collect(folder)
    if found := list(problems(data)):
        hint = "run the command of the study again on committed code"
        raise InputError(f"cannot be published: {'; '.join(found)}", where=folder, hint=hint)
    files = StudyFolder(folder)
    for row in data.rows:
        for result in row.results:
            files.check_files(result)
    report = write_report(folder, data)
    parts = [f for part in PARTS for f in sorted((folder / part).glob("*")) if f.suffix in COPIED]
    target = Path(out) / folder.resolve().name
    contents: dict[Path, bytes | str] = {
        target / file.relative_to(folder): file.read_bytes() for file in (*report, *parts)
    }
    results = {target / RESULTS / f"{n}.json": result_text(r) for n, r in published_rows(data).items()}
    for file, content in (contents | results).items():
        write_atomically(file, content)
    for stale in set((target / RESULTS).glob("*.json")) - set(results):
        stale.unlink()
    return [*contents, *results]


def problems(study: ReportData) -> Iterator[str]:
    """Yield the reasons for which a study cannot be published, each in a few words."""
    if study.record.finished is None:
        yield "the study has not ended"
    if not study.record.fingerprint:
        yield "the data have no fingerprint"
    if study.record.spec.budget == "smoke":
        yield SMOKE
    if not study.rows:
        yield "it has no rows"
    for row in study.rows:
        yield from (f"{row.name}, seed {seed} failed: {error}" for seed, error in row.failures.items())
        if not row.complete:
            yield f"{row.name} has {row.seeds_text or 'no seeds'}"
        if row.cost is None:
            yield f"costs of {row.name} were not measured"
        if len(found := _commits(row)) > 1:
            yield f"{row.name} was trained with several commits: {', '.join(found)}"
    commits = sorted({commit for row in study.rows for commit in _commits(row)})
    for commit in commits:
        if commit.endswith("+"):
            yield f"commit {commit.rstrip('+')} had local changes"
        elif not re.fullmatch(r"[0-9a-f]{7,40}", commit):
            yield f"the commit of runs is '{commit}'"
    yield from study.warnings


def _commits(row: Row) -> list[str]:
    return sorted({run.environment.get("commit", "unknown") for run in row.results})


def published_rows(study: ReportData) -> Mapping[str, PublishedResult]:
    """Return the results of the rows of a study that has no `problems`, by the names of their files."""
    results: dict[str, PublishedResult] = {}
    for row in study.rows:
        name = re.sub(r"[^\w.-]+", "-", row.name).strip("-.") or "row"
        while name in results:
            name += "-"
        results[name] = _result(study, row)
    return results


def _result(study: ReportData, row: Row) -> PublishedResult:
    record, cost = study.record, row.cost
    metrics = (*study.metrics, *study.additional_averages, "map_avg")
    costs = {c.key: c.value(cost) for c in cost_columns([cost])} if cost else {}
    sample = study.samples.get(row.name)
    return PublishedResult(
        name=row.name,
        dataset=record.dataset,
        modalities=row.record.modalities,
        map={metric: value for metric in metrics if (value := row.mean(metric)) is not None},
        kind=row.record.kind,
        model=row.record.model,
        teachers=row.record.teachers,
        settings=row.record.settings,
        seeds=tuple(run.spec.seed for run in row.results),
        map_sd={metric: value for metric in metrics if (value := row.sd(metric)) is not None},
        interval=_ends(percent(contrast([sample], [1.0]))) if sample else None,
        differences={base: _ends(found) for base, found in row.differences.items()},
        per_class={label: ap for label, ap in row.per_class.items() if not math.isnan(ap)},
        costs={key: value for key, value in costs.items() if value is not None},
        cost_conditions=f"{cost.device}, {notes.threads(cost.threads)}, {cost.precision}" if cost else "",
        measured=Measured(
            study=record.spec.name,
            command=record.command,
            commit=_commits(row)[0],
            fingerprint=record.fingerprint,
            evaluation=record.evaluation,
            test_videos=record.test_videos,
            date=record.finished or "",
            environment=_environment(row),
        ),
    )


def _ends(interval: Interval) -> Ends:
    return Ends(estimate=interval.estimate, low=interval.low, high=interval.high)


def _environment(row: Row) -> dict[str, str]:
    """Return what all final runs of a row have in common, and the values that differ, joined."""
    values: dict[str, dict[str, None]] = {}
    for run in row.results:
        for key, value in run.environment.items():
            values.setdefault(key, {})[value] = None
    return {key: ", ".join(found) for key, found in sorted(values.items()) if key != "commit"}
