"""A study by its name, and a model by the text of its path, from Python as on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_dataset

import tal_bench
from tal_bench.models.checkpoint import ModelCard, save_model
from tal_bench.models.detector import Detector
from tal_bench.studies import ablate as module
from tal_bench.studies.definition import study_spec


def test_a_study_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.yaml"
    dataset = write_dataset(tmp_path / "data")
    file.write_text(f"name: mine\ndescription: x.\nvariants: [both]\ndataset: {dataset}\nbudget: smoke\n")
    options = tal_bench.ExecutionOptions(reports=tmp_path / "reports", tracking_uri="off")
    plan = tal_bench.dry_run(str(file), options)
    assert plan == tal_bench.dry_run(study_spec(str(file), {})[0], options)
    assert plan.study == "mine" and {"none", "both"} <= {row.name for row in plan.rows}

    started = []
    monkeypatch.setattr(module, "_execute", lambda execution: started.append(execution.plan.spec.name))
    tal_bench.ablate(str(file), options)
    assert started == ["mine"]
    with pytest.raises(tal_bench.InputError, match=r"unknown study 'two-by-too' \(did you mean 'two-by-two'"):
        tal_bench.ablate("two-by-too", options)


def test_a_model_is_loaded_from_the_text_of_its_path(tmp_path: Path) -> None:
    spec = tal_bench.DetectorSpec(
        structure="conv",
        inputs="primary",
        primary={"rgb": 4},
        privileged={"flow": 4},
        classes=2,
        width=16,
        head_width=16,
        attention_window=1,
    )
    path = tmp_path / "x.safetensors"
    save_model(Detector(spec), path, ModelCard(name="x", model="conv-primary", detector=spec))
    assert tal_bench.load_model(str(path))[1] == tal_bench.load_model(path)[1]
