"""What MLflow is told of a run and of a study, as plain dictionaries; `tracking` sends it."""

from __future__ import annotations

import math
import re
from statistics import fmean, stdev
from typing import Any

from tal_bench.results.dataframe import run_line, teacher_names
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord, RunResult, StudyRecord

NOTE_LIMIT = 7500
"""Characters of a note; MLflow cuts tags at 8000 bytes or so, in the middle of a word."""
VALUE_LIMIT = 500
TAGGED = (
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
IDENTITY = tuple(
    f"tal_bench.{key}" for key in ("study", "fingerprint", "dataset", "student", "teacher", "budget")
)
"""A study that differs in one of them has a parent run of its own."""


def plain(name: str) -> str:
    """A name with the characters that MLflow takes in keys."""
    return re.sub(r"[^\w./ -]", "_", name)


def run_name(result: RunResult, row: str) -> str:
    """`both · seed 0 · test`; a tuning run, one of many with the same seed, by its hash."""
    if result.spec.phase == "tuning":
        return f"{row} · {result.hash[:6]} · tuning"
    return f"{row} · seed {result.spec.seed} · test"


def parent_name(record: StudyRecord) -> str:
    """`two-by-two · sprites`, and student and budget where they are not the usual ones."""
    spec, usual = record.spec, type(record.spec).model_fields
    parts = [spec.name, record.dataset]
    parts += [
        value
        for value, field in ((spec.student, "student"), (spec.budget, "budget"))
        if value != usual[field].default
    ]
    return " · ".join(parts)


def all_rows(record: StudyRecord) -> tuple[RowRecord, ...]:
    """Rows of the table, and the searches whose members some of them are."""
    return (*record.rows, *record.searches)


def early_row(result: RunResult, name: str, record: StudyRecord) -> tuple[str, RowRecord | None]:
    """Where a run belongs while its study goes on and has no finished rows.

    Args:
        result: of the run.
        record: of the study.
        name: of the row that asked for it. A variant's row asks for its teachers' runs, too; those belong to
            their models.

    Returns:
        The row's name and, for a variant, what is known of the row.
    """
    spec = result.spec
    from tal_bench.distill.variants import variants  # brings torch, which reading back does without

    declared = {row.name: row.variant for row in record.spec.every_row}
    known = [row for row in (*declared, *variants) if name == row or name.startswith(f"{row} ")]
    if not known:
        return name, None
    variant = max(known, key=len)  # a member of a front has its size behind the row's name
    if variants.get(declared.get(variant, variant)).terms and spec.distill is None:
        return spec.model, None
    teachers = {role: use.model for role, use in spec.distill.teachers.items()} if spec.distill else {}
    reads = " + ".join(spec.detector.reads)
    return name, RowRecord(name=name, kind="student", model=spec.model, modalities=reads, teachers=teachers)


def params(result: RunResult, row: RowRecord | None) -> dict[str, str]:
    """What one sorts and compares runs by; everything else is in the run's JSON file, an artifact."""
    spec, distill = result.spec, result.spec.distill
    chosen: dict[str, Any] = {
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
        del chosen["student/hallucination"]
    if row is not None and row.kind == "student":
        chosen["variant"] = row.name
    if distill is None:  # the same names in every run, so that any two can be compared
        chosen |= {"teacher": "none", "soft_weight": "0", "student_init": "random"}
    else:
        chosen |= {
            "teacher": teacher_names(spec, row),
            "soft_weight": f"{distill.soft_weight:.4g}",
            "temperature": f"{distill.temperature:.4g}",
            "student_init": distill.student_init,
        }
        chosen |= {f"weight/{use.name}": f"{use.weight:.4g}" for use in distill.terms}
    return {plain(name): str(value)[:VALUE_LIMIT] for name, value in chosen.items()}


def metrics(result: RunResult) -> list[tuple[str, float, int]]:
    """Name, value and step of everything measured in a run; a value that is no number is left out."""
    found = [(metric_name(name), value, 0) for name, value in result.metrics.items()]
    found += [(f"per_class/{name}", value, 0) for name, value in result.per_class.items()]
    found += [(f"seconds/{name}", value, 0) for name, value in result.timings.items()]
    for record in result.history:
        found += [(f"loss/{part}", value, record.epoch) for part, value in record.losses.items()]
        if record.validation_map is not None:
            found.append(("validation/mAP", record.validation_map, record.epoch))
    return [(plain(name), value, step) for name, value, step in found if math.isfinite(value)]


def metric_name(column: str) -> str:
    """`map_0.50` and `recall_1x_0.50` as MLflow takes them: `mAP/tIoU_0.5`, `recall_1x/tIoU_0.5`.

    An average over a second grid, `map_0.50-0.95`, keeps its ends: `mAP/tIoU_0.50-0.95`.
    """
    if column.startswith("recall_"):
        kind, _, at = column.rpartition("_")
        return f"{kind}/avg" if at == "avg" else f"{kind}/tIoU_{float(at):g}"
    at = column.removeprefix("map_")
    return "mAP/avg" if at == "avg" else f"mAP/tIoU_{at}" if "-" in at else f"mAP/tIoU_{float(at):g}"


def cost_metrics(cost: CostRecord) -> list[tuple[str, float, int]]:
    """Costs side by side, as `metrics` gives them."""
    found = {
        "params_M": cost.params / 1e6,
        "gmacs": cost.gmacs,
        "latency_ms": cost.latency_ms["median"],
        "peak_memory_mb": cost.peak_memory_mb,
        **({"minute_s": sum(cost.minute.values())} if cost.minute else {}),
        **{f"minute_{step}_s": seconds for step, seconds in cost.minute.items()},
    }
    return [(f"cost/{plain(name)}", float(value), 0) for name, value in found.items()]


def summary(record: StudyRecord, files: StudyFolder) -> list[tuple[str, float, int]]:
    """Mean and spread of every row's average mAP, and its seconds per minute of video, as `metrics`."""
    found: list[tuple[str, float, int]] = []
    for row in record.rows:
        ended = [files.read_run(hash_) for hash_ in row.finals]
        values = [r.metrics["map_avg"] for r in ended if r is not None and "map_avg" in r.metrics]
        name = f"rows/{plain(row.name)}"
        if values:
            found.append((f"{name}/mAP_avg", fmean(values), 0))
        if len(values) > 1:
            found.append((f"{name}/mAP_sd", stdev(values), 0))
        cost = files.read_cost(row.cost) if row.cost else None
        if cost and cost.minute:
            found.append((f"{name}/minute_s", sum(cost.minute.values()), 0))
    return found


def child_tags(result: RunResult, record: StudyRecord, name: str, row: RowRecord | None) -> dict[str, str]:
    """Tags of a run: its columns in `tal_bench.load_runs`, its phase and, if it did not finish, why.

    Args:
        result: of the run.
        record: of the study.
        name: of the row that the run is shown under.
        row: of that name, or none while no row has the run.
    """
    line = run_line(result, record, row) | {"row": name}
    tags = {f"tal_bench.{key}": str(line[key]) for key in TAGGED}
    tags |= {"tal_bench.phase": result.spec.phase, "mlflow.runName": run_name(result, name)}
    tags |= _source(record, line["commit"])
    reason = _reason(result)
    if reason:
        tags["tal_bench.reason"] = reason
    tags["mlflow.note.content"] = _describe(result, line) + (f"\n\n**{reason}**" if reason else "")
    return tags


def _reason(result: RunResult) -> str:
    """Why a run did not finish; empty where it did."""
    if result.status != "pruned":
        return (result.error or "")[:VALUE_LIMIT]
    last = result.history[-1] if result.history else None
    at = f" at epoch {last.epoch} of {result.spec.train.total_epochs}" if last else ""
    score = f", validation mAP {last.validation_map:.1f}" if last and last.validation_map else ""
    return f"pruned by the rule {result.spec.pruner}{at}{score}"


def _describe(result: RunResult, line: dict[str, Any]) -> str:
    """One sentence on a run, Markdown."""
    learns = f" distilled from `{line['teacher']}`" if result.spec.distill else " trained on labels"
    return (
        f"`{line['student']}` ({line['modalities']}){learns}, scored on the {line['split']} videos of "
        f"`{line['dataset']}`. The whole specification is in the artifact `{result.hash}.json`."
    )


def _source(record: StudyRecord, commit: str) -> dict[str, str]:
    """The tags that MLflow shows as a run's source."""
    tags = {"mlflow.source.name": record.command[:VALUE_LIMIT], "mlflow.source.type": "LOCAL"}
    if commit and commit != "unknown":
        tags["mlflow.source.git.commit"] = commit.removesuffix("+")
        tags["tal_bench.git.changes"] = str(commit.endswith("+"))
    return tags if record.command else {k: v for k, v in tags.items() if k != "mlflow.source.name"}


def study_tags(record: StudyRecord, commit: str = "") -> dict[str, str]:
    """Tags of a study's parent run; those of `IDENTITY` tell it from others.

    Args:
        record: of the study.
        commit: of the code that carries it out.
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
    } | _source(record, commit)


def note(table: str) -> str:
    """A Markdown note that fits, cut between lines."""
    if len(table) <= NOTE_LIMIT:
        return table
    end = table.rfind("\n", 0, NOTE_LIMIT)
    return table[: end if end > 0 else NOTE_LIMIT] + "\n\n… the rest is in table.md"
