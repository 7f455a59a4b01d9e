"""Comparison with numbers of the original programs, for every fixture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from .checks import Compared, kd, kind_of
from .checks.kd.case import Case, Named
from .conftest import EXCERPT
from .fixtures import Fixture, FixtureError, discover

Arrays = dict[str, np.ndarray[Any, Any]]


def test_parity(fixture: Fixture, record: dict[str, list[Compared]]) -> None:
    if fixture.informational:
        pytest.skip(f"informational: {_agreement(fixture)}")
    kind = kind_of(fixture)
    if kind.check is None:
        pytest.skip(f"{kind.name}: not compared yet")
    compared = record[kind.name] = list(kind.check(fixture))
    assert compared, f"{fixture.id}: nothing was compared"
    failed = [comparison for comparison in compared if not comparison.ok]
    lines = "\n".join(f"{c.what}: {c.error:.3e} > {c.tolerance:.0e}" for c in failed[:20])
    assert not failed, f"{fixture.id}: {len(failed)} of {len(compared)} comparisons failed\n{lines}"


def _agreement(fixture: Fixture) -> str:
    """Describe the agreement of an informational fixture, which need not be of a known kind or covered."""
    try:
        kind = kind_of(fixture)
        compared = list(kind.check(fixture)) if kind.check else []
    except (LookupError, AssertionError, FixtureError) as error:
        return str(error)
    return f"{sum(one.ok for one in compared)} of {len(compared)} comparisons agree"


def test_a_fixture_of_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "stranger.json").write_text(json.dumps({"name": "stranger", "cases": {}}))
    (fixture,) = discover(tmp_path)
    with pytest.raises(LookupError, match="no kind"):
        kind_of(fixture)


def test_nan_does_not_pass() -> None:
    assert not Compared("x", float("nan"), 1.0).ok


def test_a_folder_without_fixtures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FixtureError, match="nowhere: no such folder"):
        discover(tmp_path / "nowhere")
    (tmp_path / "README.md").write_text("kd_at")
    (tmp_path / "kd").mkdir()
    with pytest.raises(FixtureError, match="no fixture"):
        discover(tmp_path)


def test_ground_truth_of_any_name_is_no_fixture(tmp_path: Path) -> None:
    for suffix in (".json", ".safetensors"):
        shutil.copy(EXCERPT / f"map_60x20{suffix}", tmp_path)
    meta = json.loads((tmp_path / "map_60x20.json").read_text()) | {"gt_json": "truth.json"}
    (tmp_path / "map_60x20.json").write_text(json.dumps(meta))
    shutil.copy(EXCERPT / "map_60x20_gt.json", tmp_path / "truth.json")
    shutil.copy(EXCERPT / "map_60x20_pred.csv", tmp_path)
    (fixture,) = discover(tmp_path)
    assert all(compared.ok for compared in kind_of(fixture).check(fixture))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "a.json: not JSON"),
        ("a.json", "[]", "a.json: the JSON is not an object"),
        ("a.safetensors", "", "a.json: no such file"),
    ],
)
def test_a_fixture_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    (fixture,) = discover(tmp_path)
    with pytest.raises(FixtureError, match=message):
        kind_of(fixture)


def test_a_fixture_without_its_arrays_is_named(tmp_path: Path) -> None:
    shutil.copy(EXCERPT / "kd_at.json", tmp_path)
    (fixture,) = discover(tmp_path)
    with pytest.raises(FixtureError, match=r"kd_at.safetensors: no such file"):
        list(kd.check(fixture))
    (tmp_path / "kd_at.safetensors").write_bytes(b"12345678")
    with pytest.raises(FixtureError, match=r"kd_at.safetensors: not readable"):
        list(kd.check(Fixture(tmp_path, "kd_at")))


def kd_fixture(tmp_path: Path, name: str, renamed: str) -> Fixture:
    """Return a distillation fixture of the excerpt under another name."""
    meta = json.loads((EXCERPT / f"kd_{name}.json").read_text()) | {"name": renamed}
    (tmp_path / f"{renamed}.json").write_text(json.dumps(meta))
    (tmp_path / f"{renamed}.safetensors").write_bytes((EXCERPT / f"kd_{name}.safetensors").read_bytes())
    return Fixture(tmp_path, renamed)


def test_a_distillation_method_that_is_not_implemented_fails(tmp_path: Path) -> None:
    fixture = kd_fixture(tmp_path, "mars", "kd_venus")
    (compared,) = kind_of(fixture).check(fixture)  # type: ignore[misc]
    assert not compared.ok
    assert "kd_venus" in compared.what
    assert "not implemented" in compared.what


def test_a_distillation_fixture_may_have_a_longer_name(tmp_path: Path) -> None:
    assert all(compared.ok for compared in kd.check(kd_fixture(tmp_path, "mars", "kd_mars_other_seeds")))


def changed_kd(tmp_path: Path, name: str, change: Callable[[dict[str, Any], Arrays], None]) -> Fixture:
    """Return a distillation fixture of the excerpt whose JSON and arrays were changed in place."""
    meta = json.loads((EXCERPT / f"kd_{name}.json").read_text())
    arrays = load_file(EXCERPT / f"kd_{name}.safetensors")
    change(meta, arrays)
    (tmp_path / f"kd_{name}.json").write_text(json.dumps(meta))
    save_file(arrays, tmp_path / f"kd_{name}.safetensors")
    return Fixture(tmp_path, f"kd_{name}")


def test_a_missing_setting_or_array_of_a_distillation_case_is_named(tmp_path: Path) -> None:
    def without_teacher(meta: dict[str, Any], arrays: Arrays) -> None:
        del arrays["case1/in/teacher"]

    fixture = changed_kd(tmp_path, "cwd", lambda meta, arrays: meta["cases"]["case1"]["settings"].pop("tau"))
    with pytest.raises(LookupError, match="kd_cwd/case1: the setting 'tau' is missing; there are on, loss"):
        list(kd.check(fixture))
    fixture = changed_kd(tmp_path, "cwd", without_teacher)
    with pytest.raises(LookupError, match="kd_cwd/case1: the array in/ 'teacher' is missing"):
        list(kd.check(fixture))
    fixture = changed_kd(tmp_path, "cwd", lambda meta, arrays: meta["tolerances"].clear())
    with pytest.raises(AssertionError, match="no tolerances float64_against_out64"):
        list(kd.check(fixture))


def test_a_distillation_case_without_numbers_in_float64_is_compared_in_float32(tmp_path: Path) -> None:
    def rounded(meta: dict[str, Any], arrays: Arrays) -> None:
        for name in [*arrays]:
            if "64/" in name:
                arrays[name.replace("64/", "/")] = arrays.pop(name).astype(np.float32)

    compared = list(kd.check(changed_kd(tmp_path, "mars", rounded)))
    assert compared
    assert all(one.ok and "float32" in one.what for one in compared)


def test_rounding_errors_of_a_gradient_that_is_zero_are_not_compared(tmp_path: Path) -> None:
    def noise(meta: dict[str, Any], arrays: Arrays) -> None:
        case = meta["cases"]["masked"]
        assert case["zero_gradients"]
        case["zero_gradients"].clear()
        arrays["masked/grad64/conv.bias"][:] = 1e-16

    assert all(one.ok for one in kd.check(changed_kd(tmp_path, "fitnet", noise)))


def test_levels_of_a_distillation_case_may_have_masks_of_their_own() -> None:
    names = ("student_0", "teacher_0", "student_1", "teacher_1")
    inputs = {name: torch.zeros(2, 3, 8 if name.endswith("0") else 4) for name in names}
    masks = {f"mask_{i}": torch.arange(length) < length // 2 for i, length in enumerate((8, 4))}
    masks = {name: mask.expand(2, -1) for name, mask in masks.items()}
    case = Case(Named("setting", {"levels": 2}), Named("array", inputs | masks), Named("array", {}))
    assert [mask.sum(dim=1).tolist() for _, _, mask in case.levels()] == [[4, 4], [2, 2]]


def test_a_slightly_wrong_distillation_loss_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = kd.METHODS["mars"]
    monkeypatch.setattr(
        kd, "METHODS", {"mars": lambda case: {k: x * (1 + 1e-8) for k, x in right(case).items()}}
    )
    failed = {one.what for one in kd.check(kd_fixture(tmp_path, "mars", "kd_mars")) if not one.ok}
    assert {"case1 in float64: loss", "case1 in float64: gradient of student"} <= failed


def test_every_distillation_method_is_in_the_excerpt() -> None:
    assert {f.name.removeprefix("kd_") for f in discover(EXCERPT) if f.name.startswith("kd_")} == set(
        kd.METHODS
    )
