"""Names, params, metrics and tags of the MLflow runs of a study, as plain dictionaries."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tal_bench.errors import InputError
from tal_bench.results.columns import TRAINING_COLUMNS, CostColumn, RowCosts, cost_columns
from tal_bench.results.dataframe import RUN_COLUMNS, row_costs, run_line, teacher_names
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, RunResult, SearchRecord, StudyRecord
from tal_bench.tracking.keys import distinct_keys

RUN_NOTE_LIMIT, EXPERIMENT_NOTE_LIMIT = 7500, 4800
"""Maximum length of a note; MLflow truncates tags of runs at 8000 characters and of experiments at 5000."""
VALUE_LIMIT = 500
"""Maximum length of a param; MLflow refuses longer ones."""
TAGS = "tal_bench."
"""Start of the names of tags."""
MLFLOW_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
ARTIFACTS = (".json", ".detections.json", ".safetensors")
Metrics = Sequence[tuple[str, float, int]]
"""Name, value and step of each metric."""


@dataclass(frozen=True)
class RunState:
    """What an MLflow run of a study shows.

    Attributes:
        row: Name of the row.
        run_hash: Hash of the run; empty for the run of the row itself.
        name: Name of the MLflow run.
        status: Status of the MLflow run.
        tags: Tags.
        params: Params, which MLflow cannot change; a run whose params change is created again.
        metrics: Metrics, those of one name in the order of their steps.
        artifacts: Files, sent once.
        start, end: Milliseconds since the epoch; None for now.
    """

    row: str
    run_hash: str
    name: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: Metrics = ()
    artifacts: tuple[Path, ...] = ()
    start: int | None = None
    end: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Row and run hash."""
        return self.row, self.run_hash


def run_name(result: RunResult, row: str) -> str:
    """Return `both · seed 0 · test`, or `both · 1a2b3c · tuning` with the hash of a tuning run."""
    if result.spec.phase == "tuning":
        return f"{row} · {result.hash[:6]} · tuning"
    return f"{row} · seed {result.spec.seed} · test"


def all_rows(record: StudyRecord) -> tuple[RowRecord, ...]:
    """Return the rows of the table and the searches for fronts."""
    return (*record.rows, *record.searches)


def params(result: RunResult, row: RowRecord | None) -> dict[str, str]:
    """Return the params by which runs are sorted and compared; the artifact has the full specification."""
    spec, distill = result.spec, result.spec.distill
    values: dict[str, Any] = {
        "model": spec.model,
        "seed": spec.seed,
        "dataset": spec.dataset.name,
        "lr": f"{spec.train.lr:.4g}",
        "epochs": spec.train.total_epochs,
        "precision": spec.precision,
        "student/width": spec.detector.width,
        "student/depth": spec.detector.stem_blocks,
        "student/kernel": spec.detector.head_kernel,
        "student/hallucination": spec.detector.hallucination_width or spec.detector.privileged_channels,
    }
    if spec.detector.inputs != "hallucinated":
        del values["student/hallucination"]
    if row is not None and row.kind == "student":
        values["variant"] = row.name
    if distill is None:  # every run has the same params, so that any two can be compared
        values |= {"teacher": "none", "soft_weight": "0", "student_init": "random"}
    else:
        values |= {
            "teacher": teacher_names(spec, row),
            "soft_weight": f"{distill.soft_weight:.4g}",
            "temperature": f"{distill.temperature:.4g}",
            "student_init": distill.student_init,
        }
        values |= {f"weight/{use.name}": f"{use.weight:.4g}" for use in distill.terms}
    keys = distinct_keys(values)
    return {keys[name]: str(value)[:VALUE_LIMIT] for name, value in values.items()}


def metrics(result: RunResult) -> list[tuple[str, float, int]]:
    """Return name, value and step of all metrics of a run; values that are not finite are omitted."""
    values = [(metric_name(name), value, 0) for name, value in result.metrics.items()]
    values += [(f"per_class/{name}", value, 0) for name, value in result.per_class.items()]
    values += [(f"seconds/{name}", value, 0) for name, value in result.timings.items()]
    for record in result.history:
        values += [(f"loss/{part}", value, record.epoch) for part, value in record.losses.items()]
        if record.validation_map is not None:
            values.append(("validation/mAP", record.validation_map, record.epoch))
    keys = distinct_keys(name for name, _, _ in values)
    return [(keys[name], value, step) for name, value, step in values if math.isfinite(value)]


def metric_name(column: str) -> str:
    """Return the MLflow name of a metric, for instance `mAP/tIoU_0.5` for `map_0.50`.

    `recall_1x_0.50` becomes `recall_1x/tIoU_0.5`, and the average over a second grid, `map_0.50-0.95`,
    becomes `mAP/tIoU_0.50-0.95`.
    """
    if column.startswith("recall_"):
        kind, _, at = column.rpartition("_")
        return f"{kind}/avg" if at == "avg" else f"{kind}/tIoU_{float(at):g}"
    at = column.removeprefix("map_")
    return "mAP/avg" if at == "avg" else f"mAP/tIoU_{at}" if "-" in at else f"mAP/tIoU_{float(at):g}"


def column_of_score(metric: str) -> str:
    """Return the column with a name that `metric_name` returns; empty for other names."""
    kind, _, at = metric.partition("/")
    if kind != "mAP" and not kind.startswith("recall_"):
        return ""
    at = at.removeprefix("tIoU_")
    return f"{'map' if kind == 'mAP' else kind}_{at if at == 'avg' or '-' in at else f'{float(at):.2f}'}"


def cost_metrics(costs: RowCosts, columns: Sequence[CostColumn]) -> list[tuple[str, float, int]]:
    """Return name, value and step of the costs in columns; empty if they have not been measured."""
    keys = distinct_keys([*(c.metric for c in columns), *(c.metric for c in TRAINING_COLUMNS)])
    return [(keys[name], float(value), 0) for name, value in costs.logged(columns).items()]


def _reason(result: RunResult) -> str:
    """Return why a run was pruned or failed; empty for a finished run."""
    if result.status != "pruned":
        return (result.error or "")[:VALUE_LIMIT]
    last = result.history[-1] if result.history else None
    at = f" at epoch {last.epoch} of {result.spec.train.total_epochs}" if last else ""
    score = f", validation mAP {last.validation_map:.1f}" if last and last.validation_map else ""
    return f"pruned by the rule {result.spec.pruner}{at}{score}"


def _describe(result: RunResult, columns: Mapping[str, Any]) -> str:
    """Describe a run in Markdown."""
    training = f" distilled from `{columns['teacher']}`" if result.spec.distill else " trained on labels"
    return (
        f"`{columns['student']}` ({columns['modalities']}){training}, evaluated on the {columns['split']} "
        f"videos of `{columns['dataset']}`. The full specification is in the artifact `{result.hash}.json`."
    )


def _source_tags(record: StudyRecord, commit: str) -> dict[str, str]:
    """Return the tags that MLflow shows as the source of a run."""
    tags = {"mlflow.source.type": "LOCAL"}
    if record.command:
        tags["mlflow.source.name"] = record.command[:VALUE_LIMIT]
    if commit and commit != "unknown":
        tags["mlflow.source.git.commit"] = commit.removesuffix("+")
        tags["tal_bench.git.changes"] = str(commit.endswith("+"))
    return tags


def experiment_name(record: StudyRecord) -> str:
    """Return `two-by-two · sprites`, and what differs from the defaults: student, teacher, budget, fold."""
    spec, fields = record.spec, type(record.spec).model_fields
    parts = [spec.name, record.dataset]
    values = ((getattr(spec, name), fields[name].default) for name in ("student", "teacher", "budget"))
    parts += [str(value) for value, default in values if value != default]
    if len(spec.objective) > 1:
        parts.append("-".join(spec.objective))
    if spec.folds is not None:
        parts.append(f"fold {spec.folds}")
    return " · ".join(parts)


def study_tags(record: StudyRecord) -> dict[str, str]:
    """Return the tags of a study's experiment."""
    spec = record.spec
    columns = {name: getattr(record, name) for name in ("id", "fingerprint", "dataset", "evaluation")}
    columns |= {name: getattr(spec, name) for name in ("student", "teacher", "budget")}
    columns |= {"study": spec.name, "objective": ", ".join(spec.objective)}
    columns |= {"command": record.command[:VALUE_LIMIT]}
    return {f"tal_bench.{name}": value for name, value in columns.items()}


def states(record: StudyRecord, files: StudyFolder, study_status: str, reason: str = "") -> list[RunState]:
    """Return the states of all runs of a study: those of the rows first, then their trials and seeds.

    Args:
        record: Record of the study.
        files: Folder of the study.
        study_status: Status of the study, which rows get that have not ended.
        reason: Why the study was stopped.
    """
    results = {}
    for hash_ in files.run_times():
        with suppress(InputError):  # a damaged record is reported, and its run repeated, by the study
            results[hash_] = files.read_run(hash_)
    ended = {hash_: result for hash_, result in results.items() if result is not None}
    costs = {row.name: row_costs(files, row) for row in record.rows}
    return [
        *_row_states(record, ended, costs, study_status, reason),
        *_child_states(record, files, ended, costs),
    ]


def _row_states(
    record: StudyRecord,
    results: Mapping[str, RunResult],
    costs: Mapping[str, RowCosts],
    study_status: str,
    reason: str,
) -> list[RunState]:
    """Return the state of every row's run: means over seeds, costs, the same metric names in every row."""
    states = []
    columns_of_costs = cost_columns([cost.model for cost in costs.values() if cost.model])
    for row in all_rows(record):
        finals = [results[hash_] for hash_ in row.finals if hash_ in results]
        status = _row_status(row, results, study_status)
        columns = {"study": record.spec.name, "dataset": record.dataset, "row": row.name, "kind": row.kind}
        columns |= {"model": row.model, "modalities": row.modalities, "phase": "final"}
        columns |= {"teacher": " + ".join(row.teachers.values()), "command": record.command[:VALUE_LIMIT]}
        commits = {result.environment.get("commit", "") for result in finals}
        tags = {f"tal_bench.{name}": value for name, value in columns.items()}
        tags |= _source_tags(record, commits.pop() if len(commits) == 1 else "")
        tags["tal_bench.reason"] = reason[:VALUE_LIMIT] if status == study_status else ""
        params = {}
        if row.finals or isinstance(row, SearchRecord):  # MLflow cannot change them, so they have to be final
            params = {"model": row.model, "teacher": " + ".join(row.teachers.values()) or "none"}
            keys = distinct_keys(row.settings)
            params |= {keys[name]: f"{value:.4g}" for name, value in row.settings.items()}
        metrics = _mean_metrics(finals) + cost_metrics(costs.get(row.name, RowCosts()), columns_of_costs)
        states.append(RunState(row.name, "", row.name, status, tags, params, metrics))
    return states


def _row_status(row: RowRecord, results: Mapping[str, RunResult], study_status: str) -> str:
    """Return the MLflow status of a row: by its final runs, or by the study while they have not all ended."""
    hashes = row.trials if isinstance(row, SearchRecord) else row.finals
    ended = [results[hash_].status for hash_ in hashes if hash_ in results]
    if hashes and len(ended) == len(hashes):
        if "failed" not in ended or isinstance(row, SearchRecord):
            return "FINISHED"
        return "FAILED" if study_status == "FINISHED" else study_status  # failed runs are tried again
    begun = row.trials or row.finals
    return study_status if begun or study_status != "RUNNING" else "SCHEDULED"


def _mean_metrics(finals: Sequence[RunResult]) -> list[tuple[str, float, int]]:
    """Return the mean over seeds of every metric, and the standard deviation of the average mAP."""
    scored = [result.metrics for result in finals if "map_avg" in result.metrics]
    if not scored:
        return []
    keys = distinct_keys(map(metric_name, scored[0]))
    values = [
        (keys[metric_name(name)], fmean(metrics[name] for metrics in scored), 0)
        for name in scored[0]
        if all(name in metrics for metrics in scored)
    ]
    if len(scored) > 1:
        values.append(("mAP/avg_sd", stdev(metrics["map_avg"] for metrics in scored), 0))
    return [*values, ("seeds", float(len(scored)), 0)]


def _child_states(
    record: StudyRecord,
    files: StudyFolder,
    results: Mapping[str, RunResult],
    costs: Mapping[str, RowCosts],
) -> list[RunState]:
    """Return the states of the ended trials and final runs of every row."""
    rows = all_rows(record)
    in_rows = {hash_ for row in rows for hash_ in row.runs}
    names = {row.name for row in rows}
    without_row = {h for h, result in results.items() if h not in in_rows and result.spec.distill is None}
    columns = cost_columns([cost.model for cost in costs.values() if cost.model])
    states = []
    for row in rows:
        others = {hash_ for hash_ in without_row if _is_shown_below(row, results[hash_], names)}
        without_row -= others
        for hash_ in (*row.runs, *sorted(others)):
            if hash_ in results:
                measured = costs.get(row.name) if hash_ in in_rows else None
                cost = cost_metrics(measured or RowCosts(), columns)
                states.append(_child_state(record, row, files, results[hash_], cost))
    return states


def _child_state(
    record: StudyRecord,
    row: RowRecord,
    files: StudyFolder,
    result: RunResult,
    cost: list[tuple[str, float, int]],
) -> RunState:
    end = int(1000 * files.run_file(result.hash).stat().st_mtime)
    outputs = (files.run_file(result.hash, suffix) for suffix in ARTIFACTS)
    return RunState(
        row=row.name,
        run_hash=result.hash,
        name=run_name(result, row.name),
        status=MLFLOW_STATUS[result.status],
        tags=_child_tags(result, record, row, has_row=result.hash in row.runs),
        params=params(result, row),
        metrics=metrics(result) + cost,
        artifacts=tuple(path for path in outputs if path.is_file()),
        start=end - int(1000 * sum(result.timings.values())),
        end=end,
    )


def _is_shown_below(row: RowRecord, result: RunResult, names: Collection[str]) -> bool:
    """Whether a teacher's run that belongs to no row is shown below this row.

    That is the row of the teacher's model or, where there is none, the first row that learns from it.
    """
    model = result.spec.model
    return model == row.name or (model not in names and model in row.teachers.values())


def _child_tags(result: RunResult, record: StudyRecord, row: RowRecord, *, has_row: bool) -> dict[str, str]:
    """Return the tags of a run: its columns in `tal_bench.load_runs`, its phase and, if any, its failure."""
    columns = run_line(result, record, row if has_row else None)
    tags = {TAGS + column.key: str(columns[column.key]) for column in RUN_COLUMNS if not column.param}
    tags |= {"tal_bench.phase": result.spec.phase} | _source_tags(record, columns["commit"])
    reason = _reason(result)
    if reason:
        tags["tal_bench.reason"] = reason
    note_text = _describe(result, columns) + (f"\n\n**{reason}**" if reason else "")
    return tags | {"mlflow.note.content": note(note_text, RUN_NOTE_LIMIT)}


def note(text: str, limit: int) -> str:
    """Shorten Markdown to the maximum length of a note, cut at the end of a line."""
    if len(text) <= limit:
        return text
    end = text.rfind("\n", 0, limit)
    return text[: end if end > 0 else limit] + "\n\n… continued in table.md"
