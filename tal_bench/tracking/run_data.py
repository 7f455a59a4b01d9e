"""Names, params, metrics and tags of the MLflow runs of a study, as plain dictionaries."""

from __future__ import annotations

import math
import re
from statistics import fmean, stdev
from typing import Any

from tal_bench.results.dataframe import run_line, teacher_names
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord, RunResult, StudyRecord

NOTE_LIMIT = 7500
"""Maximum length of a note in characters; MLflow truncates tags at about 8000 bytes."""
VALUE_LIMIT = 500
TAG_COLUMNS = (
    "study",
    "dataset",
    "row",
    "kind",
    "variant",
    "teacher",
    "modalities",
    "split",
    "status",
    "commit",
    "hash",
)
IDENTITY_TAGS = tuple(
    f"tal_bench.{key}" for key in ("study", "fingerprint", "dataset", "student", "teacher", "budget")
)
"""Studies that differ in one of these tags have separate parent runs."""


def plain(name: str) -> str:
    """Replace the characters that MLflow does not accept in keys."""
    return re.sub(r"[^\w./ -]", "_", name)


def run_name(result: RunResult, row: str) -> str:
    """Return `both · seed 0 · test`, or `both · 1a2b3c · tuning` with the hash of a tuning run."""
    if result.spec.phase == "tuning":
        return f"{row} · {result.hash[:6]} · tuning"
    return f"{row} · seed {result.spec.seed} · test"


def parent_name(record: StudyRecord) -> str:
    """Return `two-by-two · sprites`, followed by student and budget if they are not the defaults."""
    spec, fields = record.spec, type(record.spec).model_fields
    parts = [spec.name, record.dataset]
    parts += [
        value
        for value, field in ((spec.student, "student"), (spec.budget, "budget"))
        if value != fields[field].default
    ]
    return " · ".join(parts)


def all_rows(record: StudyRecord) -> tuple[RowRecord, ...]:
    """Return the rows of the table and the searches for fronts."""
    return (*record.rows, *record.searches)


def early_row(result: RunResult, name: str, record: StudyRecord) -> tuple[str, RowRecord | None]:
    """Return the row of a run while the study is in progress and its record has no finished row for the run.

    Args:
        result: Result of the run.
        name: Name of the row that requested the run. A variant's row also requests the runs of its teachers,
            which belong to the rows of their models.
        record: Record of the study.

    Returns:
        The row's name and, for a variant, a preliminary record of the row.
    """
    spec = result.spec
    from tal_bench.distill.variants import variants  # imports torch, which reading results does not need

    declared = {row.name: row.variant for row in record.spec.every_row}
    matches = [row for row in (*declared, *variants) if name == row or name.startswith(f"{row} ")]
    if not matches:
        return name, None
    variant = max(matches, key=len)  # the name of a front's member is the row's name followed by its size
    if variants.get(declared.get(variant, variant)).terms and spec.distill is None:
        return spec.model, None
    teachers = {role: use.model for role, use in spec.distill.teachers.items()} if spec.distill else {}
    reads = " + ".join(spec.detector.reads)
    return name, RowRecord(name=name, kind="student", model=spec.model, modalities=reads, teachers=teachers)


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
    return {plain(name): str(value)[:VALUE_LIMIT] for name, value in values.items()}


def metrics(result: RunResult) -> list[tuple[str, float, int]]:
    """Return name, value and step of all metrics of a run; values that are not finite are omitted."""
    values = [(metric_name(name), value, 0) for name, value in result.metrics.items()]
    values += [(f"per_class/{name}", value, 0) for name, value in result.per_class.items()]
    values += [(f"seconds/{name}", value, 0) for name, value in result.timings.items()]
    for record in result.history:
        values += [(f"loss/{part}", value, record.epoch) for part, value in record.losses.items()]
        if record.validation_map is not None:
            values.append(("validation/mAP", record.validation_map, record.epoch))
    return [(plain(name), value, step) for name, value, step in values if math.isfinite(value)]


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


def cost_metrics(cost: CostRecord) -> list[tuple[str, float, int]]:
    """Return name, value and step of the costs."""
    values = {
        "params_M": cost.params / 1e6,
        "gmacs": cost.gmacs,
        "latency_ms": cost.latency_ms["median"],
        "peak_memory_mb": cost.peak_memory_mb,
        **({"minute_s": sum(cost.minute.values())} if cost.minute else {}),
        **{f"minute_{step}_s": seconds for step, seconds in cost.minute.items()},
    }
    return [(f"cost/{plain(name)}", float(value), 0) for name, value in values.items()]


def summary(record: StudyRecord, files: StudyFolder) -> list[tuple[str, float, int]]:
    """Return the metrics of the parent run: mAP mean and SD, and seconds per minute of video, of each row."""
    values: list[tuple[str, float, int]] = []
    for row in record.rows:
        finals = [files.read_run(hash_) for hash_ in row.finals]
        scores = [r.metrics["map_avg"] for r in finals if r is not None and "map_avg" in r.metrics]
        name = f"rows/{plain(row.name)}"
        if scores:
            values.append((f"{name}/mAP_avg", fmean(scores), 0))
        if len(scores) > 1:
            values.append((f"{name}/mAP_sd", stdev(scores), 0))
        cost = files.read_cost(row.cost) if row.cost else None
        if cost and cost.minute:
            values.append((f"{name}/minute_s", sum(cost.minute.values()), 0))
    return values


def child_tags(result: RunResult, record: StudyRecord, name: str, row: RowRecord | None) -> dict[str, str]:
    """Return the tags of a run: its columns in `tal_bench.load_runs`, its phase and, if any, its failure.

    Args:
        result: Result of the run.
        record: Record of the study.
        name: Name of the row that the run is shown under.
        row: Record of that row, or None while no row has the run.
    """
    columns = run_line(result, record, row) | {"row": name}
    tags = {f"tal_bench.{key}": str(columns[key]) for key in TAG_COLUMNS}
    tags |= {"tal_bench.phase": result.spec.phase, "mlflow.runName": run_name(result, name)}
    tags |= _source_tags(record, columns["commit"])
    reason = _reason(result)
    if reason:
        tags["tal_bench.reason"] = reason
    tags["mlflow.note.content"] = _describe(result, columns) + (f"\n\n**{reason}**" if reason else "")
    return tags


def _reason(result: RunResult) -> str:
    """Return why a run was pruned or failed; empty for a finished run."""
    if result.status != "pruned":
        return (result.error or "")[:VALUE_LIMIT]
    last = result.history[-1] if result.history else None
    at = f" at epoch {last.epoch} of {result.spec.train.total_epochs}" if last else ""
    score = f", validation mAP {last.validation_map:.1f}" if last and last.validation_map else ""
    return f"pruned by the rule {result.spec.pruner}{at}{score}"


def _describe(result: RunResult, columns: dict[str, Any]) -> str:
    """Describe a run in Markdown."""
    training = f" distilled from `{columns['teacher']}`" if result.spec.distill else " trained on labels"
    return (
        f"`{columns['student']}` ({columns['modalities']}){training}, evaluated on the {columns['split']} "
        f"videos of `{columns['dataset']}`. The full specification is in the artifact `{result.hash}.json`."
    )


def _source_tags(record: StudyRecord, commit: str) -> dict[str, str]:
    """Return the tags that MLflow shows as the source of a run."""
    tags = {"mlflow.source.name": record.command[:VALUE_LIMIT], "mlflow.source.type": "LOCAL"}
    if commit and commit != "unknown":
        tags["mlflow.source.git.commit"] = commit.removesuffix("+")
        tags["tal_bench.git.changes"] = str(commit.endswith("+"))
    return tags if record.command else {k: v for k, v in tags.items() if k != "mlflow.source.name"}


def study_tags(record: StudyRecord, commit: str = "") -> dict[str, str]:
    """Return the tags of a study's parent run; `IDENTITY_TAGS` identify it.

    Args:
        record: Record of the study.
        commit: Commit of the code that runs the study.
    """
    spec = record.spec
    return {
        "tal_bench.study": spec.name,
        "tal_bench.fingerprint": record.fingerprint,
        "tal_bench.dataset": record.dataset,
        "tal_bench.student": spec.student,
        "tal_bench.teacher": spec.teacher,
        "tal_bench.budget": spec.budget,
        "tal_bench.evaluation": record.evaluation,
        "tal_bench.objective": ", ".join(spec.objective),
        "tal_bench.command": record.command[:VALUE_LIMIT],
    } | _source_tags(record, commit)


def note(table: str) -> str:
    """Shorten a Markdown table to the maximum length of a note, cut at the end of a line."""
    if len(table) <= NOTE_LIMIT:
        return table
    end = table.rfind("\n", 0, NOTE_LIMIT)
    return table[: end if end > 0 else NOTE_LIMIT] + "\n\n… continued in table.md"
