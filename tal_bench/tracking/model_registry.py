"""What a study's pages in MLflow hold besides numbers: the dataset, the surroundings, the best student."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import distributions
from typing import Any

from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord, RunResult, StudyRecord
from tal_bench.system.environment import git_state
from tal_bench.tracking.run_data import plain


def dataset_input(record: StudyRecord, context: str) -> Any:
    """The dataset as MLflow's input of a run: its name, its fingerprint, and what was tested on.

    Args:
        record: of the study.
        context: what the run used it for.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {"dataset": record.spec.dataset, "fingerprint": record.fingerprint}
    profile = {
        "classes": len(record.classes),
        "test_videos": record.test_videos,
        "skipped_videos": len(record.skipped),
        "evaluation": record.evaluation,
    }
    schema = {"classes": list(record.classes), "tiou": list(record.tiou)}
    dataset = Dataset(
        name=record.dataset,
        digest=record.fingerprint[:36],
        source_type="tal_bench",
        source=json.dumps(source),
        schema=json.dumps(schema),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def surroundings() -> dict[str, Any]:
    """State of the source tree and versions of all installed packages."""
    packages = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {"git": git_state(), "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower()))}


def best_row(record: StudyRecord, files: StudyFolder) -> tuple[RowRecord, RunResult, RunResult | None] | None:
    """The student with the highest mAP on validation: its row, its first finished run, the tuning run.

    No test score takes part. Of rows without tuning, and where all failed, there is none.
    """
    found = []
    for row in record.rows:
        tuned = files.read_run(row.chosen) if row.chosen else None
        if row.kind == "student" and tuned is not None and "map_avg" in tuned.metrics:
            finals = (files.read_run(hash_) for hash_ in row.finals)
            final = next((r for r in finals if r is not None and r.status == "finished"), None)
            if final is not None:
                found.append((tuned.metrics["map_avg"], row, final, tuned))
    if not found:
        return None
    _, row, final, tuned = max(found, key=lambda one: one[0])
    return row, final, tuned


def register(
    client: Any, record: StudyRecord, files: StudyFolder, children: Mapping[tuple[str, str], str]
) -> None:
    """Make the study's best student a version of a registered model, once, with its cost as tags.

    Args:
        client: of MLflow.
        record: of a finished study.
        files: of it.
        children: row and hash of a run to its MLflow run, which has the weights as an artifact.
    """
    found = best_row(record, files)
    if found is None:
        return
    row, final, tuned = found
    run_id = children.get((row.name, final.hash))
    weights = f"{final.hash}.safetensors"
    if run_id is None or not files.run_file(final.hash, ".safetensors").is_file():
        return
    name = plain(f"{record.dataset} {row.model}").replace("/", "_")
    if not client.search_registered_models(f"name = '{name}'"):
        about = (
            f"`{row.model}` trained on `{record.dataset}` by tal-bench: of every study the student with the "
            "highest mAP on validation. The artifact is a safetensors file; "
            "`tal_bench.models.checkpoint.load_model` reads it."
        )
        client.create_registered_model(name, description=about)
    alias = plain(record.spec.name).replace("/", "_").replace(" ", "-").replace(".", "-")
    versions = client.search_model_versions(f"name = '{name}'")
    known = next((v for v in versions if v.tags.get("hash") == final.hash and v.run_id == run_id), None)
    if known is None:
        facts = _facts(record, row, final, tuned, files.read_cost(row.cost) if row.cost else None)
        listed = "\n".join(f"- {key}: {value}" for key, value in facts.items())  # tags show five at a time
        known = client.create_model_version(
            name,
            source=f"runs:/{run_id}/{weights}",
            run_id=run_id,
            tags=facts,
            description=f"Row `{row.name}` of `{record.spec.name}`, seed {final.spec.seed}.\n\n{listed}",
        )
    client.set_registered_model_alias(name, alias, known.version)


def _facts(
    record: StudyRecord, row: RowRecord, final: RunResult, tuned: RunResult | None, cost: CostRecord | None
) -> dict[str, str]:
    """Tags of a version: where it comes from, how good it is and what it costs."""
    facts = {
        "study": record.spec.name,
        "row": row.name,
        "seed": str(final.spec.seed),
        "hash": final.hash,
        "fingerprint": record.fingerprint,
        "mAP_test": f"{final.metrics['map_avg']:.2f}",
        "mAP_validation": f"{tuned.metrics['map_avg']:.2f}" if tuned else "",
    }
    if cost is not None:
        facts |= {
            "params_M": f"{cost.params / 1e6:.3f}",
            "gmacs": f"{cost.gmacs:.3f}",
            "latency_ms": f"{cost.latency_ms['median']:.2f}",
            "peak_memory_mb": f"{cost.peak_memory_mb:.0f}",
        }
        if cost.minute:
            facts["minute_s"] = f"{sum(cost.minute.values()):.3f}"
    return {key: value for key, value in facts.items() if value}
