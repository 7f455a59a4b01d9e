"""Registration of a study's best student in the MLflow model registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tal_bench.results.columns import METRICS as COSTS
from tal_bench.results.columns import cost_columns, logged_costs
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord, RunResult, StudyRecord
from tal_bench.tracking.keys import distinct_keys, plain


def best_student(record: StudyRecord, files: StudyFolder) -> tuple[RowRecord, RunResult, RunResult] | None:
    """Return the row, first finished final run and tuning run of the student with the highest validation mAP.

    Test scores are not used. Returns None if no tuned student has a finished final run.
    """
    candidates = []
    for row in record.rows:
        tuned = files.read_run(row.chosen) if row.chosen else None
        if row.kind == "student" and tuned is not None and "map_avg" in tuned.metrics:
            finals = (files.read_run(hash_) for hash_ in row.finals)
            final = next((r for r in finals if r is not None and r.status == "finished"), None)
            if final is not None:
                candidates.append((row, final, tuned))
    return max(candidates, key=lambda candidate: candidate[2].metrics["map_avg"], default=None)


def register_best_student(
    client: Any, record: StudyRecord, files: StudyFolder, children: Mapping[tuple[str, str], str]
) -> None:
    """Register the best student as a version of a registered model, unless it has been registered before.

    Args:
        client: MLflow client.
        record: Record of a finished study.
        files: Folder of the study.
        children: MLflow run id for each row and run hash; the runs have the weights as an artifact.
    """
    best = best_student(record, files)
    if best is None:
        return
    row, final, tuned = best
    run_id = children.get((row.name, final.hash))
    weights = f"{final.hash}.safetensors"
    if run_id is None or not files.run_file(final.hash, ".safetensors").is_file():
        return
    name = plain(f"{record.dataset} {row.model}").replace("/", "_")
    if not client.search_registered_models(f"name = '{name}'"):
        description = (
            f"`{row.model}` trained on `{record.dataset}` by tal-bench: the student of each study with the "
            "highest validation mAP. The artifact is a safetensors file; "
            "`tal_bench.models.checkpoint.load_model` reads it."
        )
        client.create_registered_model(name, description=description)
    alias = plain(record.spec.name).replace("/", "_").replace(" ", "-").replace(".", "-")
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((v for v in versions if v.tags.get("hash") == final.hash and v.run_id == run_id), None)
    if version is None:
        tags = _version_tags(record, row, final, tuned, files.read_cost(row.cost) if row.cost else None)
        listing = "\n".join(f"- {key}: {value}" for key, value in tags.items())  # MLflow shows only five tags
        version = client.create_model_version(
            name,
            source=f"runs:/{run_id}/{weights}",
            run_id=run_id,
            tags=tags,
            description=f"Row `{row.name}` of `{record.spec.name}`, seed {final.spec.seed}.\n\n{listing}",
        )
    client.set_registered_model_alias(name, alias, version.version)


def _version_tags(
    record: StudyRecord, row: RowRecord, final: RunResult, tuned: RunResult, cost: CostRecord | None
) -> dict[str, str]:
    """Return the tags of a model version: provenance, accuracy and cost."""
    tags = {
        "study": record.spec.name,
        "row": row.name,
        "seed": str(final.spec.seed),
        "hash": final.hash,
        "fingerprint": record.fingerprint,
        "mAP_test": f"{final.metrics['map_avg']:.2f}",
        "mAP_validation": f"{tuned.metrics['map_avg']:.2f}",
    }
    if cost is not None:
        logged = logged_costs(cost, cost_columns([cost]))
        keys = distinct_keys(logged)
        tags |= {keys[name].removeprefix(COSTS): f"{value:.6g}" for name, value in logged.items()}
    return {key: value for key, value in tags.items() if value}
