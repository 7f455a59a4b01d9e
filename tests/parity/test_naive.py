"""The losses against formulas written a second time, on random shapes and settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .checks import kd
from .conftest import EXCERPT
from .fixtures import Fixture
from .naive import FORMULAS
from .naive_fixtures import MAKERS, Made, run, write


def test_every_method_has_a_second_formula() -> None:
    assert set(FORMULAS) == set(MAKERS) == set(kd.METHODS)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_second_formulas_give_the_numbers_of_the_originals(name: str) -> None:
    fixture = Fixture(EXCERPT, f"kd_{name}")
    for case, facts in fixture.meta["cases"].items():
        made = Made(facts["settings"], *(fixture.tree(f"{case}/{group}") for group in ("in", "param")))
        outputs, gradients = run(name, made, np.float64)
        compared = [(k, outputs[k], v) for k, v in fixture.tree(f"{case}/out64").items() if k in outputs]
        zero = facts["zero_gradients"]
        theirs = fixture.tree(f"{case}/grad64").items()
        compared += [(k, gradients[k], v) for k, v in theirs if k not in zero and k in gradients]
        assert {"loss"} < {what for what, _, _ in compared}
        for what, ours, expected in compared:
            error = np.abs(ours - expected).max() / (np.abs(expected).max() or 1.0)
            assert error < 1e-10, (case, what, error)


@pytest.mark.parametrize("name", MAKERS)
def test_random_cases_agree_with_the_second_formulas(name: str, tmp_path: Path) -> None:
    write(tmp_path, name, seed=1, cases=6)
    compared = list(kd.check(Fixture(tmp_path, f"kd_{name}")))
    assert {one.what.split()[2][:7] for one in compared} == {"float64", "float32"}
    failed = [one for one in compared if not one.ok]
    assert not failed
