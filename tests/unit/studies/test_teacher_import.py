"""Teachers from files: which streams they take, what they stand for, and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from study_parts import protocol, run_spec, run_specs
from tiny import Streams, tiny_spec

from tal_bench.config import DetectorSpec, StudySpec, parse_spec, weights_path
from tal_bench.distill.variants import variants
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import FeatureGrid, ModelCard, load_model, save_model
from tal_bench.models.detector import Detector
from tal_bench.studies.imported_teacher import ImportedTeacher, check_teaches, import_teacher
from tal_bench.studies.plan import make_plan

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


STUDENT = "conv-dw-hallucinated"


def fitted(folder: Path, streams: Streams | None = None, **changes: Any) -> ImportedTeacher:
    dataset = tiny_spec(streams) if streams else tiny_spec()
    return import_teacher(write(folder, **changes), dataset, CLASSES)


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
    brought = fitted(tmp_path, streams, whiten=None, **reads)
    assert brought.card.detector.inputs == inputs
    assert brought.serves == serves
    offered = set(streams or {"rgb", "flow"})
    assert set(brought.card.detector.reads) <= offered
    net, _ = load_model(brought.file)
    brought.save(tmp_path / "runs" / "x.safetensors", "x")
    kept, card = load_model(tmp_path / "runs" / "x.safetensors")
    assert (card.run, card.detector) == ("x", brought.card.detector)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), kept.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": 4}, "it has 4 classes, dataset 'tiny' has 3"),
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
    brought = fitted(
        tmp_path, primary={"a": 7}, privileged={"b": 7}, max_length=576, features=features, whiten=None
    )
    names, length, grid = brought.notes
    assert "a 7 + b 7 are rgb 8 + flow 6 here" in names
    assert "576 steps" in length
    assert "every 4 frames of 16" in grid
    assert "every 5 of 10" in grid


def names_of(brought: ImportedTeacher, variant: str) -> list[str]:
    spec = StudySpec(name="x", variants=(variant,), teacher=brought.name)
    return [row.name for row in make_plan(spec, run_specs(imported=brought)).rows]


def test_it_stands_where_a_variant_wants_what_it_reads(tmp_path: Path) -> None:
    brought = fitted(tmp_path)
    about = run_specs(imported=brought)
    modal = variants.get("both").teachers["modal"]
    assert about.teacher_of(modal, STUDENT, brought.name) == brought.name
    primary = next(iter(variants.get("cross-structure").teachers.values()))
    assert about.teacher_of(primary, STUDENT, brought.name) == "actionformer-primary"


def test_it_is_tested_once_and_never_trained(tmp_path: Path) -> None:
    brought = fitted(tmp_path)
    about = run_specs(imported=brought)
    runs = {
        about.on_labels(brought.name, p, s, {"lr": 2.0}).hash for p in ("tuning", "final") for s in (0, 1)
    }
    assert len(runs) == 1
    spec = about.on_labels(brought.name, "tuning", 5, {})
    assert (spec.weights, spec.phase, spec.seed) == (brought.weights, "final", 0)
    assert spec.hash != spec.model_copy(update={"weights": "0" * 16}).hash
    assert spec.hash != spec.model_copy(update={"weights": None}).hash
    study = StudySpec(name="x", variants=("both",), teacher=brought.name)
    given = protocol(study, tmp_path, imported=brought)
    names = [row.name for row in given.plan.rows]
    assert names[0] != names[1]
    assert brought.name in names
    assert "actionformer" not in names
    (job,) = next(dict(given.rows())[brought.name])
    assert job.spec == spec
    trained = protocol(study.model_copy(update={"teacher": "actionformer"}), tmp_path)
    assert len(given.plan.runs) < len(trained.plan.runs)


def test_a_teacher_that_no_row_wants_is_refused(tmp_path: Path) -> None:
    brought = fitted(tmp_path, primary={"rgb": 8}, privileged={}, inputs="all")
    names = names_of(brought, "both")
    with pytest.raises(InputError, match="replaces teachers that read primary"):
        check_teaches(brought, names)
    names = names_of(brought, "cross-structure")
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


def test_inputs_of_different_units_are_not_compared(tmp_path: Path) -> None:
    brought = fitted(tmp_path, whiten=None)
    with pytest.raises(InputError, match=r"do not whiten them alike .*'detector: \{whiten: null\}'"):
        names_of(brought, "both-single")
    assert brought.name in names_of(brought, "kd-logits"), "no inputs are compared"
    same = brought.card.detector.model_copy(update={"whiten": run_spec(STUDENT).detector.whiten})
    alike = replace(brought, card=brought.card.model_copy(update={"detector": same}))
    assert brought.name in names_of(alike, "both-single")


def test_whitening_belongs_to_streams_of_its_widths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it reads a 7"):
        fitted(tmp_path, primary={"a": 7}, privileged={"b": 7}, whiten=4)
    brought = fitted(tmp_path, primary={"a": 8}, privileged={"b": 6}, whiten=4)
    assert brought.card.detector.whiten == 4
