"""Commands that look around: what is registered, and what this machine has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, get_args

import typer

from tal_bench.cli.options import PluginOption

Registered = Literal["datasets", "teachers", "students", "variants", "terms", "corruptions", "studies"]
Kind = Literal[Registered, "settings"]


def list_names(
    kind: Annotated[Kind | None, typer.Argument(metavar="|".join(get_args(Kind)), show_default="all")] = None,
    plugin: PluginOption = None,
) -> None:
    """Names that the other commands take."""
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    if kind == "settings":
        print_settings()
        return
    registered: tuple[Registered, ...] = (kind,) if kind else get_args(Registered)
    for one in registered:
        print_names(one, summaries(one))


def print_settings() -> None:
    """Fields of networks, training and decoding: name, default, meaning."""
    from tal_bench.config import DecodeSpec, DetectorSpec, TrainSpec
    from tal_bench.config.describe import describe

    for title, spec in (("detector", DetectorSpec), ("training", TrainSpec), ("decoding", DecodeSpec)):
        print_names(title, describe(spec))


def summaries(kind: Registered) -> list[tuple[str, str]]:
    """Name and one line of everything registered of a kind."""
    if kind == "studies":
        from tal_bench.config import read_yaml
        from tal_bench.studies.definition import shipped_studies

        return [(name, str(read_yaml(file)["description"])) for name, file in shipped_studies().items()]
    if kind == "datasets":
        from tal_bench.data.registry import datasets

        return [(name, datasets.get(name).summary) for name in datasets]
    if kind == "variants":
        from tal_bench.distill.variants import variants

        return [(name, variants.get(name).summary) for name in variants]
    if kind == "terms":
        from tal_bench.distill.terms.registry import terms

        return [(name, terms.get(name).summary) for name in terms]
    if kind == "corruptions":
        from tal_bench.corruptions.registry import corruptions

        return [(name, corruptions.get(name).summary) for name in corruptions]
    from tal_bench.models.registry import students, teachers

    models = students if kind == "students" else teachers
    return [(name, models.get(name).summary) for name in models]


def print_names(title: str, lines: Iterable[Sequence[str]]) -> None:
    """A table of names and what they are."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, title=title, title_justify="left")
    table.add_column(no_wrap=True, style="bold")
    for line in lines:
        table.add_row(*map(escape, line))
    Console().print(table)


def doctor() -> None:
    """What this machine has, what is missing, and what to do about it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tal_bench.system.doctor import report

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    for item, value, advice in report():
        table.add_row(Text(item), Text(value), Text(advice, style="yellow"))
    Console().print(table, highlight=False)
