"""The examples of docs/extend.md work; the pages are complete and refer to existing names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tal_bench.data.registry import read_dataset_file

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_dataset_file_can_be_read(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(example, encoding="utf-8")
    spec = read_dataset_file(file)
    assert spec.channels("primary") == {"rgb": 96}
    assert spec.annotations == tmp_path / "annotations.json"


@pytest.mark.parametrize(
    ("registry", "kind", "name"),
    [
        ("variants", "variants", "stem-only"),
        ("terms", "terms", "stem-l1"),
        ("students", "students", "conv-wide"),
        ("structures", "students", "steps-hallucinated"),
        ("structures", "teachers", "steps-privileged"),
        ("datasets", "datasets", "mine"),
    ],
)
def test_plugins_are_short_and_listed(registry: str, kind: str, name: str, tmp_path: Path) -> None:
    example = next(block for block in blocks("python") if f"{registry}.add" in block)
    assert len(example.strip().splitlines()) < 20
    file = tmp_path / "plugin.py"
    file.write_text(example, encoding="utf-8")
    command = [sys.executable, "-m", "tal_bench", "list", kind, "--plugin", str(file)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert name in listed


def test_every_page_is_in_the_contents() -> None:
    pages = {file.name for file in (ROOT / "docs").glob("*.md")}
    assert (
        set(re.findall(r"[\w-]+\.md", str(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))) == pages
    )
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w-]+\.md)", index)) == pages - {"index.md"}


def test_the_python_interface_exists_and_has_docstrings() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    entries = re.findall(
        r"^::: ([\w.]+)\n(?:    options:\n      members: \[(.*)\])?", text, flags=re.MULTILINE
    )
    assert len(entries) > 10
    for module, members in entries:
        place = ROOT.joinpath(*module.split("."))
        files = (
            [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else sorted(place.glob("*.py"))
        )
        bodies = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
        found = {
            node.name: ast.get_docstring(node)
            for node in bodies
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        for name in filter(None, re.split(r",\s*", members)):
            assert found.get(name), f"{module}.{name} does not exist or has no docstring"


def test_the_walk_from_the_command_to_the_table_is_the_code() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    stations = re.findall(r"^\| \d+ \| `([\w/]+\.py)` \| `(\w+)` \|", text, flags=re.MULTILINE)
    assert 8 <= len(stations) <= 12
    sources = [(ROOT / "tal_bench" / file).read_text(encoding="utf-8") for file, _ in stations]
    for (file, function), source in zip(stations, sources, strict=True):
        names = {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)}
        assert function in names, f"{file} has no function {function}"
    for file in re.findall(r"`((?:[\w]+/)+\w+\.py|(?:[\w]+/)+)`", text):
        assert (ROOT / "tal_bench" / file).exists() or (ROOT / file).exists(), file
