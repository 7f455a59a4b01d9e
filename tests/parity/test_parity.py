"""Comparison with numbers of the original programs, for every fixture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .checks import Compared, kind_of
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
