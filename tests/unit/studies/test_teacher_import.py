"""Teachers from files: which streams they take, what they stand for, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from study_parts import context, run_spec
from tiny import Streams, tiny_spec

from tal_bench.config import DetectorSpec, StudySpec, parse_spec, weights_path
from tal_bench.distill.variants import variants
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import FeatureGrid, ModelCard, load_model, save_model
from tal_bench.models.detector import Detector
from tal_bench.studies.imported_teacher import ImportedTeacher, bring, check_teaches
from tal_bench.studies.rows import expected_runs, plan_rows
from tal_bench.studies.run_specs import Context, teacher_model

CLASSES = ("jump", "run", "throw")
ACC_GYRO: Streams = {"acc": ("primary", 8), "gyro": ("privileged", 6)}
ONE: Streams = {"rgb": ("primary", 14)}


def architecture(**changes: Any) -> DetectorSpec:
    value = run_spec("actionformer").detector.model_dump() | {"width": 16, "head_width": 16} | changes
    return parse_spec(DetectorSpec, value, where="test")


def write(folder: Path, **changes: Any) -> Path:
    about = {k: changes.pop(k) for k in ("classes_named", "features") if k in changes}
    spec = architecture(**changes)
    torch.manual_seed(0)
    card = ModelCard(
        name="af", program="ActionFormer", detector=spec, classes=about.get("classes_named", ()),
        features=about.get("features"),
    )  # fmt: skip
    save_model(Detector(spec), folder / "af.safetensors", card)
    return folder / "af.safetensors"


def fitted(folder: Path, streams: Streams | None = None, **changes: Any) -> ImportedTeacher:
    dataset = tiny_spec(streams) if streams else tiny_spec()
    return bring(write(folder, **changes), dataset, CLASSES)


def test_its_row_says_where_it_comes_from(tmp_path: Path) -> None:
    brought = fitted(tmp_path)
    assert brought.name == f"af-imported-{brought.weights[:6]}"
    assert brought.serves == {"all"}
    assert brought.notes == ()


@pytest.mark.parametrize(
    ("reads", "streams", "inputs", "serves"),
    [
        ({"primary": {"rgb": 8}, "privileged": {"flow": 6}}, None, "all", {"all"}),
        ({"primary": {"rgb": 7}, "privileged": {"flow": 7}}, None, "all", {"all"}),
        ({"primary": {"rgb": 8}, "privileged": {"flow": 6}}, ACC_GYRO, "all", {"all"}),
        ({"primary": {"rgb": 4}, "privileged": {"flow": 4}}, None, "primary", {"primary"}),
        ({"primary": {"rgb": 3}, "privileged": {"flow": 3}}, None, "privileged", {"privileged"}),
        ({"primary": {"flow": 6}, "privileged": {}}, None, "privileged", {"privileged"}),
        ({"primary": {"rgb": 7}, "privileged": {"flow": 7}}, ONE, "all", {"all", "primary"}),
        (
            {"inputs": "hallucinated", "primary": {"rgb": 8}, "privileged": {"flow": 6}},
            None,
            "hallucinated",
            {"primary"},
        ),
    ],
)
def test_it_takes_the_streams_that_are_as_wide(
    reads: dict[str, Any], streams: Streams | None, inputs: str, serves: set[str], tmp_path: Path
) -> None:
    brought = fitted(tmp_path, streams, **reads)
    assert brought.card.detector.inputs == inputs
    assert brought.serves == serves
    offered = set(streams or {"rgb", "flow"})
    assert set(brought.card.detector.reads) <= offered
    net, _ = load_model(brought.file)
    brought.keep(tmp_path / "runs" / "x.safetensors", "x")
    kept, card = load_model(tmp_path / "runs" / "x.safetensors")
    assert (card.run, card.detector) == ("x", brought.card.detector)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), kept.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": 4}, "it knows 4 classes, dataset 'tiny' has 3"),
        ({"classes_named": ("run", "jump", "throw")}, "in another order: 'run' for 'jump'"),
        (
            {"primary": {"rgb": 1024}, "privileged": {"flow": 1024}},
            "it reads rgb 1024 [+] flow 1024, dataset",
        ),
        ({"temporal_attention": True, "max_length": 576}, "temporal attention is built for 576 steps"),
        ({"projection": (8, 8), "primary": {"a": 7}, "privileged": {"b": 7}}, "it reads a 7 [+] b 7"),
        ({"inputs": "hallucinated", "primary": {"rgb": 7}, "privileged": {"flow": 7}}, "it reads rgb 7"),
    ],
)
def test_what_does_not_fit_the_dataset(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected):
        fitted(tmp_path, **changes)


def test_what_differs_is_said(tmp_path: Path) -> None:
    features = FeatureGrid(stride=4, window=16)
    brought = fitted(tmp_path, primary={"a": 7}, privileged={"b": 7}, max_length=576, features=features)
    names, length, grid = brought.notes
    assert "a 7 + b 7 is rgb 8 + flow 6 here" in names
    assert "576 steps" in length
    assert "every 4 frames of 16" in grid
    assert "every 5 of 10" in grid


def given(folder: Path, brought: ImportedTeacher, **changes: Any) -> Context:
    return context(folder, brought=brought, teacher=brought.name, **changes)


def test_it_stands_where_a_variant_wants_what_it_reads(tmp_path: Path) -> None:
    brought = fitted(tmp_path)
    about = given(tmp_path, brought)
    modal = variants.get("both").teachers["modal"]
    assert teacher_model(modal, about) == brought.name
    primary = next(iter(variants.get("cross-structure").teachers.values()))
    assert teacher_model(primary, about) == "actionformer-primary"


def test_it_is_tested_once_and_never_trained(tmp_path: Path) -> None:
    brought = fitted(tmp_path)
    about = given(tmp_path, brought)
    runs = {about.run(brought.name, p, s, {"lr": 2.0}).hash for p in ("tuning", "final") for s in (0, 1)}
    assert len(runs) == 1
    spec = about.run(brought.name, "tuning", 5, {})
    assert (spec.weights, spec.phase, spec.seed) == (brought.weights, "final", 0)
    assert spec.hash != spec.model_copy(update={"weights": "0" * 16}).hash
    assert spec.hash != spec.model_copy(update={"weights": None}).hash
    study = StudySpec(name="x", variants=("both",))
    names, plans = plan_rows(study, about)
    assert names[0] != names[1]
    assert brought.name in names
    assert "actionformer" not in names
    (job,) = next(dict(plans)[brought.name])
    assert job.spec == spec
    fewer = expected_runs(study, about)
    assert fewer < expected_runs(study, context(tmp_path))


def test_a_teacher_that_no_row_wants_is_refused(tmp_path: Path) -> None:
    brought = fitted(tmp_path, primary={"rgb": 8}, privileged={}, inputs="all")
    names, _ = plan_rows(StudySpec(name="x", variants=("both",)), given(tmp_path, brought))
    with pytest.raises(InputError, match="stands for teachers that read primary"):
        check_teaches(brought, names)
    names, _ = plan_rows(StudySpec(name="x", variants=("cross-structure",)), given(tmp_path, brought))
    check_teaches(brought, names)


@pytest.mark.parametrize(
    ("name", "is_file"),
    [
        ("actionformer", False),
        ("af.safetensors", True),
        ("runs/x", True),
        ("x.pth.tar", True),
        ("x.json", True),
    ],
)
def test_names_and_files(name: str, is_file: bool) -> None:
    assert (weights_path(name) is not None) == is_file
    assert (StudySpec(name="x", teacher=name).teacher_file is not None) == is_file
