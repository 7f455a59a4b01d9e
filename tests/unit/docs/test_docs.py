"""The examples of docs/extend.md work; the pages are complete and refer to existing names."""

from __future__ import annotations

import ast
import re
from functools import cached_property
from pathlib import Path
from types import FunctionType

import pytest
import yaml
from processes import ForkedCommands

import tal_bench
from tal_bench import LoadedStudy, Registry, read_dataset_file

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
def test_plugins_are_short_and_listed(
    registry: str, kind: str, name: str, tmp_path: Path, commands: ForkedCommands
) -> None:
    example = next(block for block in blocks("python") if f"{registry}.add" in block)
    assert len(example.strip().splitlines()) < 20
    file = tmp_path / "plugin.py"
    file.write_text(example, encoding="utf-8")
    code, listed = commands.run(["list", kind, "--plugin", file])
    assert code == 0 and name in listed, listed


PAGES = {file.relative_to(ROOT / "docs").as_posix(): file for file in (ROOT / "docs").rglob("*.md")}


def test_every_page_is_in_the_contents() -> None:
    nav = str(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert set(re.findall(r"[\w/-]+\.md", nav)) == set(PAGES)
    notebooks = {file.name for file in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(re.findall(r"notebooks/([\w-]+\.ipynb)", nav)) == notebooks
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w/-]+\.md)", index)) == set(PAGES) - {"index.md"}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_says_first_which_question_it_answers(page: str) -> None:
    title, first, *_ = PAGES[page].read_text(encoding="utf-8").split("\n\n")
    assert re.fullmatch(r"# .+", title)
    question = re.match(r"[A-Z](?:`[^`]*`|[^.?`])*\?(?= |$)", first)
    assert question, f"the first sentence is not a question: {first[:80]}"
    assert len(question[0]) < 160


REGISTRIES = {
    *("structures", "students", "teachers", "variants", "terms", "datasets", "corruptions", "executors"),
}


def test_every_public_name_is_documented_once() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: tal_bench\.(\w+)$", text, flags=re.MULTILINE)
    assert len(documented) == text.count(":::")
    assert sorted(documented) == sorted(set(tal_bench.__all__) - REGISTRIES)
    (sentence,) = re.findall(r"^(`structures`.*) are registries", text, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", sentence)) == REGISTRIES
    assert {
        name for name in tal_bench.__all__ if isinstance(getattr(tal_bench, name), Registry)
    } == REGISTRIES


LISTS = {"COLUMNS", "COST_COLUMNS", "FIGURES"}
"""Lists of declarations, described where they are defined."""


@pytest.mark.parametrize("name", sorted(set(tal_bench.__all__) - REGISTRIES - LISTS))
def test_public_names_and_their_members_have_docstrings(name: str) -> None:
    value = getattr(tal_bench, name)
    assert value.__doc__ and not value.__doc__.startswith(f"{name}(")  # the latter is made by dataclasses
    members = {key: member for key, member in vars(value).items() if not key.startswith("_")}
    functions = {
        key: member
        for key, member in members.items()
        if isinstance(member, FunctionType | property | classmethod | cached_property)
    }
    assert not [key for key, member in functions.items() if not member.__doc__]


def test_the_overview_shows_what_studies_have() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    used = set(re.findall(r"^study\.(\w+)", text, flags=re.MULTILINE))
    assert {"runs", "table", "differences", "diagnose", "figures"} <= used <= set(dir(LoadedStudy))
    (call,) = re.findall(r"^spec = (tal_bench\.StudySpec\(.*\))$", text, flags=re.MULTILINE)
    assert eval(call, {"tal_bench": tal_bench}).name == "mine"


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
