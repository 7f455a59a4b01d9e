"""Written pages of the documentation are what commands, specs and registries say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tal_bench import datasets, structures, terms, variants
from tal_bench.cli.app import app
from tal_bench.cli.reference import PAGES
from tal_bench.config import DatasetSpec, DetectorSpec, StudySpec, TrainSpec

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_written_page_is_current(name: str) -> None:
    command = "python -m tal_bench.cli.reference docs"
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), (
        f"a declaration has changed: run {command}"
    )


def test_every_reference_page_is_written() -> None:
    assert {f"reference/{file.name}" for file in (DOCS / "reference").iterdir()} == {*PAGES} - {"methods.md"}


def headings(page: str) -> set[str]:
    return set(re.findall(r"^## (.+)$", PAGES[page](), flags=re.MULTILINE))


def test_every_registered_name_is_on_its_page() -> None:
    assert headings("reference/structures.md") == {*structures}
    assert headings("reference/datasets.md") == {*datasets}
    assert headings("methods.md") == {*terms}
    assert set(re.findall(r"^\| `([^`]+)` \|", PAGES["reference/variants.md"](), re.MULTILINE)) == {*variants}
    settings = PAGES["reference/settings.md"]()
    for spec in (StudySpec, DatasetSpec, DetectorSpec, TrainSpec):
        assert all(f"| `{name}` |" in settings for name in spec.model_fields)


def commands(command: Any, path: tuple[str, ...] = ("tal-bench",)) -> Iterator[tuple[str, Any]]:
    """Yield the commands that Typer made, by what a person types."""
    found = getattr(command, "commands", None)
    if found is None:
        yield " ".join(path), command
    for name, inner in (found or {}).items():
        yield from commands(inner, (*path, name))


def test_every_option_of_every_command_is_on_the_page() -> None:
    """Typer's own view of the commands, against the page that is written from our declarations."""
    sections = dict(
        re.findall(r"^## (tal-bench .+)\n((?:(?!## ).*\n)*)", PAGES["reference/commands.md"](), re.MULTILINE)
    )
    made = dict(commands(typer.main.get_command(app)))
    assert set(sections) == set(made)
    for name, command in made.items():
        options = {
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--")
        }
        listed = set(re.findall(r"`(--[\w-]+)`", sections[name]))
        assert options - {"--help"} <= listed, name
