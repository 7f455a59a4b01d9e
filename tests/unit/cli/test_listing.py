"""`tal-bench list` shows every registered name, models as a grid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tal_bench.cli import main
from tal_bench.distill.terms.registry import terms
from tal_bench.models.registry import students, teachers
from tal_bench.registry import Registry

SUFFIXES = ("", "-ta", "-small", "-ta-small")
PLUGIN = """
from tal_bench.models.registry import Model, students

students.add("listed-wide", Model("listed-wide", "conv", "hallucinated", summary="a wider conv"))
students.add("listed-primary", Model("listed-primary", "listed", "primary", summary="another structure"))
"""


@pytest.fixture
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which the grid of names fits; on a narrow one the names stand one under the other."""
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def _restored() -> Iterator[None]:
    """Restore the registry of students after the test."""
    entries = {name: students.get(name) for name in students}
    yield
    students._entries.clear()
    students._entries.update(entries)


def listed(kind: str, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["list", *([kind] if kind else []), *flags]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize(("kind", "registry"), [("students", students), ("teachers", teachers)])
def test_every_name_is_composed_from_the_grid(
    kind: str, registry: Registry[object], capsys: pytest.CaptureFixture[str]
) -> None:
    output = listed(kind, capsys)
    assert f"{kind}: <structure>[-inputs][-ta][-small]\n" in output
    assert "-ta: temporal attention; -small: " in output
    names = {f"{word}{suffix}" for word in output.split() for suffix in SUFFIXES}
    assert set(registry) <= names
    assert len(output.splitlines()) < 12


def test_a_narrow_terminal_shows_every_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = listed("students", capsys).splitlines()
    assert max(map(len, lines)) <= 80
    assert {f"{word}{suffix}" for line in lines for word in line.split() for suffix in SUFFIXES} >= set(
        students
    )


@pytest.mark.usefixtures("_wide")
def test_the_grid_has_a_line_per_structure(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in listed("students", capsys).splitlines()]
    assert ["structure", "-primary", "-hallucinated", "-decomposed"] in lines
    assert [
        "conv-dw",
        *(f"conv-dw-{inputs}" for inputs in ("primary", "hallucinated", "decomposed")),
    ] in lines
    lines = [line.split() for line in listed("teachers", capsys).splitlines()]
    assert ["structure", "no", "suffix", "-privileged"] in lines
    assert ["tridet", "tridet", "tridet-privileged"] in lines


@pytest.mark.usefixtures("_restored")
def test_students_of_a_plugin_are_listed_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "listed_plugin.py"
    file.write_text(PLUGIN)
    output = listed("students", capsys, "--plugin", str(file))
    assert re.search(r"^listed-wide +a wider conv", output, re.MULTILINE)
    assert re.search(r"^listed-primary +another structure", output, re.MULTILINE)


@pytest.mark.usefixtures("_restored", "_wide")
def test_missing_combinations_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "conv-primary-ta" in students  # loads the registry
    for name in ("conv-primary-ta", *(f"tridet-primary{suffix}" for suffix in SUFFIXES)):
        students._entries.pop(name)
    output = listed("students", capsys)
    assert "conv-primary (missing: -ta)" in output
    assert re.search(r"^tridet +missing +tridet-hallucinated", output, re.MULTILINE)


def test_terms_are_listed_with_formula_and_paper(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    lines = listed("terms", capsys).splitlines()
    for name in terms:
        (line,) = (line for line in lines if line.split()[0] == name)
        term = terms.get(name)
        assert term.formula
        assert term.formula in line
        assert term.paper in line


def test_a_term_without_a_formula_is_listed_with_its_summary(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    term = replace(terms.get("stem"), name="listed-term", formula="", paper="", summary="a summary")
    monkeypatch.setitem(terms._entries, "listed-term", term)
    assert re.search(r"^listed-term +a summary", listed("terms", capsys), re.MULTILINE)


def test_all_kinds_are_listed_with_the_grids(capsys: pytest.CaptureFixture[str]) -> None:
    output = listed("", capsys)
    assert "students: <structure>" in output
    assert "actionformer-hallucinated-ta-small" not in output
    assert "sprites" in output
    assert "two-by-two" in output
