"""Plugins: files and entry points of installed packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from tal_bench import plugins
from tal_bench.errors import InputError
from tal_bench.plugins import load_plugins, module_name

PLUGIN = '''
"""A student with a wider stem, and a variant with one term."""
from tal_bench.config import TermUse
from tal_bench.distill.variants import TeacherRef, Variant, variants
from tal_bench.models.registry import Model, students

students.add(
    "conv-wide",
    Model("conv-wide", "conv", "hallucinated", overrides={"width": 768}, summary="a wider conv"),
)
variants.add(
    "stem-only",
    Variant(
        "stem-only",
        "nothing but the stem",
        teachers={"structure": TeacherRef("teacher", "primary")},
        terms=(TermUse(name="stem", teacher="structure", weight=0.3),),
    ),
)
'''


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_loaded", set())


def write(folder: Path, code: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(code, encoding="utf-8")
    return file


def test_declarations_of_a_file_are_listed(tmp_path: Path) -> None:
    assert len(PLUGIN.strip().splitlines()) < 20
    file = write(tmp_path, PLUGIN)
    code = (
        "from tal_bench.cli import main\n"
        f"for kind in ('variants', 'students'): assert main(['list', kind, '--plugin', {str(file)!r}]) == 0"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "stem-only" in listed
    assert "nothing but the stem" in listed
    assert "conv-wide" in listed


def test_a_file_is_imported_once(tmp_path: Path) -> None:
    file = write(tmp_path, f"from pathlib import Path\nPath({str(tmp_path / 'n')!r}).open('a').write('x')\n")
    load_plugins([file, tmp_path / "." / "mine.py"])
    load_plugins([file])
    assert (tmp_path / "n").read_text() == "x"


def test_classes_of_a_file_can_be_pickled_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, "class Thing: ...\n")
    load_plugins([file])
    assert sys.modules[module_name(file)].Thing.__module__ == module_name(file)


def test_files_of_the_same_name_are_separate_modules(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(write(tmp_path / folder, f"where = {folder!r}\n"))
    load_plugins(files)
    assert [sys.modules[module_name(file)].where for file in files] == ["a", "b"]


@pytest.mark.parametrize(
    ("code", "line", "words"),
    [
        ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError"),
        ("x = 1\n\ndef f(:\n", 3, "SyntaxError"),
        ("import nothing_of_that_name\n", 1, "ModuleNotFoundError"),
        ("\nraise SystemExit(3)\n", 2, "SystemExit"),
        (
            "from tal_bench.registry import Registry\nr = Registry('thing')\nr.add('a', 1)\nr.add('a', 2)\n",
            4,
            "thing 'a' is already registered",
        ),
    ],
)
def test_a_failing_file_is_reported_with_its_line(tmp_path: Path, code: str, line: int, words: str) -> None:
    file = write(tmp_path, code)
    with pytest.raises(InputError, match=words) as caught:
        load_plugins([file])
    assert f"{file}:{line}" in str(caught.value)
    assert module_name(file) not in sys.modules


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such plugin file"):
        load_plugins([tmp_path / "none.py"])


def test_installed_plugins_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "loaded = True\n", "installed_plugin.py")
    monkeypatch.syspath_prepend(tmp_path)
    points = [importlib.metadata.EntryPoint("mine", "installed_plugin", plugins.GROUP)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    load_plugins()
    assert sys.modules["installed_plugin"].loaded

    points[:] = [importlib.metadata.EntryPoint("broken", "no_such_plugin", plugins.GROUP)]
    with pytest.raises(InputError, match="broken = no_such_plugin"):
        load_plugins()
