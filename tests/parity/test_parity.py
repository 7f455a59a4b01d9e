"""Comparison with numbers of the original programs, for every fixture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .checks import Compared, kd, kind_of
from .conftest import EXCERPT
from .fixtures import Fixture, discover


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
    except (LookupError, AssertionError) as error:
        return str(error)
    return f"{sum(one.ok for one in compared)} of {len(compared)} comparisons agree"


def test_a_fixture_of_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "stranger.json").write_text(json.dumps({"name": "stranger", "cases": {}}))
    (fixture,) = discover(tmp_path)
    with pytest.raises(LookupError, match="no kind"):
        kind_of(fixture)


def test_nan_does_not_pass() -> None:
    assert not Compared("x", float("nan"), 1.0).ok


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        discover(tmp_path / "nowhere")


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
