"""The dataset of a study as an input of MLflow runs."""

from __future__ import annotations

import json
from typing import Any

from tal_bench.results.records import StudyRecord


def dataset_input(record: StudyRecord, context: str) -> Any:
    """Return the MLflow dataset input with the name, fingerprint, classes and test videos of the dataset.

    Args:
        record: Record of the study.
        context: Use of the dataset: `study`, or the phase of a run.
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
