"""Tests of the identity of runs and of the messages of invalid specs."""

from __future__ import annotations

from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml
from study_parts import run_spec
from tiny import tiny_spec

from tal_bench.config import (
    BUDGETS,
    Budget,
    DatasetSpec,
    DecodeSpec,
    DetectorSpec,
    DistillSpec,
    RunSpec,
    StudySpec,
    TeacherUse,
    TermUse,
    TrainSpec,
    content_hash,
    hashed_fields,
    parse_spec,
    read_yaml,
)
from tal_bench.config.run import LATER_FIELDS
from tal_bench.errors import InputError

DISTILL = DistillSpec(
    teachers={"modal": TeacherUse(run="abc", model="conv", weight=0.5)},
    terms=(TermUse(name="stem", teacher="modal", weight=1.0),),
)


def test_hash_is_independent_of_paths() -> None:
    assert run_spec(folder=Path("here")).hash == run_spec(folder=Path("elsewhere/deep")).hash


def test_hash_survives_json() -> None:
    spec = run_spec(distill=DISTILL, videos=7)
    assert RunSpec.model_validate_json(spec.model_dump_json()).hash == spec.hash


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value, 1]
    if isinstance(value, dict):
        return {**value, "another": 1}
    return "set"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        return [p for key, inner in value.items() for p in leaves(inner, (*path, key))]
    if isinstance(value, list) and value:
        return [p for i, inner in enumerate(value) for p in leaves(inner, (*path, i))]
    return [path]


def changed(value: Any, path: tuple[Any, ...]) -> Any:
    if not path:
        return other(value)
    copy: Any = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:])
    return copy


def test_hash_depends_on_every_other_field() -> None:
    spec = run_spec(distill=DISTILL)
    value = spec.model_dump(mode="json")
    assert len(leaves(value)) > 80
    for path in leaves(value):
        altered = _Loose(changed(value, path))
        same = RunSpec.hash.fget(altered) == spec.hash  # type: ignore[attr-defined]
        assert same == (path[-1] in ("folder", "also", "annotations", "scores")), path


def test_results_of_before_a_field_was_added_stay_valid() -> None:
    """The hash is that of a file without the later fields, and those have defaults when it is read."""
    value = run_spec().model_dump(mode="json")
    holders = [
        (reduce(getitem, place.split(".")[:-1], value), place, default) for place, default in LATER_FIELDS
    ]
    for holder, place, default in holders:
        holder[place.split(".")[-1]] = default
    spec = RunSpec.model_validate(value)
    for holder, place, _ in holders:
        del holder[place.split(".")[-1]]
    assert RunSpec.model_validate(value) == spec
    for key in ("annotations", "scores"):
        del value["dataset"][key]
    for modality in value["dataset"]["modalities"].values():
        del modality["folder"], modality["also"]
    assert content_hash({"version": 1, **value}) == spec.hash
    places = {place for place, _ in LATER_FIELDS}
    assert places >= {
        *("detector.standardise", "detector.whiten", "train.lr_width", "device", "deterministic"),
    }


def test_costs_of_before_a_field_was_added_stay_valid() -> None:
    spec = run_spec().detector.model_copy(update={"standardise": False, "whiten": None})
    written = {name: value for name, value in spec.model_dump(mode="json").items()
               if name not in ("standardise", "whiten")}  # fmt: skip
    assert hashed_fields(spec) == written
    changed_ = spec.model_copy(update={"standardise": True, "whiten": 8})
    assert hashed_fields(changed_) == written | {"standardise": True, "whiten": 8}


def test_runs_on_gpus_and_in_other_precisions_have_hashes_of_their_own() -> None:
    kinds = [(device, precision) for device in ("cpu", "cuda") for precision in ("fp32", "tf32", "bf16")]
    specs = [run_spec(device=device, precision=precision) for device, precision in kinds]
    specs += [run_spec(device="cuda", precision="bf16", deterministic=True)]
    assert len({spec.hash for spec in specs}) == 7


class _Loose:
    """Stand-in for a spec whose values need not be valid."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def model_dump(self, mode: str) -> Any:
        return yaml.safe_load(yaml.safe_dump(self.value))


def test_content_hash_ignores_key_order() -> None:
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})
    assert content_hash([1, 2]) != content_hash([2, 1])
    assert len(content_hash("x", digits=8)) == 8


@pytest.mark.parametrize(
    "spec",
    [run_spec(distill=DISTILL), tiny_spec(), TrainSpec(), DecodeSpec(), StudySpec(name="x"), Budget()],
    ids=lambda s: type(s).__name__,
)
def test_specs_survive_yaml(spec: Any) -> None:
    written = yaml.safe_load(yaml.safe_dump(spec.model_dump(mode="json")))
    assert parse_spec(type(spec), written, where="x.yaml") == spec


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (StudySpec, {"name": "x", "varaints": ["both"]}, "unknown key 'varaints' (did you mean 'variants'?)"),
        (StudySpec, {"name": "x", "trials": 0}, "trials: Input should be greater than or equal to 1, got 0"),
        (StudySpec, {}, "name: Field required"),
        (StudySpec, [], "(top level)"),
        (StudySpec, None, "(top level)"),
        (TrainSpec, {"lr": "fast"}, "got 'fast'"),
        (
            DatasetSpec,
            {"name": "x", "annotations": "a", "stride": 1, "window": 1,
             "modalities": {"rgb": {"role": "primary", "folder": ".", "chanels": 3, "channels": 3}}},
            "unknown key 'modalities.rgb.chanels' (did you mean 'channels'?)",
        ),
        (
            DatasetSpec,
            {"name": "x", "annotations": "a", "stride": 1, "window": 1,
             "modalities": {"flow": {"role": "privileged", "folder": ".", "channels": 3}}},
            "at least one must have role 'primary'",
        ),
        (
            DatasetSpec,
            {"name": "x", "annotations": "a", "stride": 1, "window": 1,
             "modalities": {"rgb": {"role": "primary", "folder": ".", "channels": 3, "columns": [0, 4]}}},
            "columns [0, 4] are not 3 channels wide",
        ),
    ],
)  # fmt: skip
def test_invalid_keys_and_values_are_named(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_spec(kind, value, where="x.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x.yaml: ")


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainSpec().lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [1", "not valid YAML at line 1"), (b"\xff\xfe\x00", "cannot be read"), (None, "no such file")],
)
def test_unreadable_yaml(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "x.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_yaml(file)


def test_yaml_constructs_no_objects(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(file)


def test_budgets() -> None:
    smoke, quick, full = (BUDGETS[name] for name in ("smoke", "quick", "full"))
    assert (smoke.trials, smoke.seeds, smoke.epochs, smoke.videos) == (1, 1, 2, 12)
    assert (quick.trials, quick.seeds, quick.paired_teachers, quick.teacher_lr) == (6, 8, False, ())
    assert (full.trials, full.seeds, full.paired_teachers) == (40, 5, True)
    assert 1.0 in full.teacher_lr
    assert StudySpec(name="x", budget="full", trials=3).effective_budget == full.model_copy(
        update={"trials": 3}
    )


def test_defaults_are_published_sizes() -> None:
    spec = DetectorSpec(structure="actionformer", inputs="primary", primary={"rgb": 1024}, classes=20)
    assert (spec.width, spec.levels, spec.max_length) == (512, 6, 2304)
    assert spec.regression_ranges[-1] == (64, 10000)
