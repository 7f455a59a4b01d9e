"""The commands `list` and `doctor`: what is registered, and what this machine has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from tal_bench.cli.options import PluginOption
from tal_bench.cli.tables import output_console, print_table

if TYPE_CHECKING:
    from tal_bench.config import Inputs
    from tal_bench.models.registry import Model
    from tal_bench.registry import Registry

Registered = Literal[
    "datasets", "teachers", "students", "variants", "terms", "corruptions", "executors", "studies"
]
Kind = Literal[Registered, "columns", "figures", "settings"]

SUFFIXES = "-ta: temporal attention; -small: small network, otherwise the dataset's size"


def list_names(
    kind: Annotated[Kind | None, typer.Argument(metavar="|".join(get_args(Kind)), show_default="all")] = None,
    plugin: PluginOption = None,
) -> None:
    """List the names that other commands take."""
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    if kind in ("settings", "columns", "figures"):
        {"settings": print_settings, "columns": print_columns, "figures": print_figures}[kind]()
        return
    registered: tuple[Registered, ...] = (kind,) if kind else get_args(Registered)
    for position, one in enumerate(registered):
        if position:
            typer.echo()
        if one in ("teachers", "students"):
            print_models(one)
        elif one == "terms":
            print_terms()
        else:
            print_names(one, summaries(one))


def print_settings() -> None:
    """Print the name, default and meaning of every field of networks, training and decoding."""
    from tal_bench.config import DecodeSpec, DetectorSpec, TrainSpec
    from tal_bench.config.describe import describe

    for title, spec in (("detector", DetectorSpec), ("training", TrainSpec), ("decoding", DecodeSpec)):
        if spec is not DetectorSpec:
            typer.echo()
        print_names(title, describe(spec))


def print_columns() -> None:
    """Print the keys of all columns, what they hold, and where else the values are."""
    from tal_bench.report.study.column_list import column_list

    for position, (title, lines) in enumerate(column_list().items()):
        if position:
            typer.echo()
        print_names(f"columns of {title}", [(keys, text.replace("`", ""), at) for keys, text, at in lines])


def print_figures() -> None:
    """Print the name, section and caption of every figure of a report."""
    from tal_bench.report.study.figures import FIGURES

    print_names("figures", [(figure.name, figure.section, figure.caption) for figure in FIGURES])


def summaries(kind: Registered) -> list[tuple[str, str]]:
    """Return the name and the summary of every registered entry of a kind other than models and terms."""
    if kind == "studies":
        from tal_bench.config import read_yaml
        from tal_bench.studies.definition import shipped_studies

        return [(name, str(read_yaml(file)["description"])) for name, file in shipped_studies().items()]
    if kind == "datasets":
        from tal_bench.data.registry import datasets

        return [(name, datasets.get(name).summary) for name in datasets]
    if kind == "variants":
        from tal_bench.distill.variants import variants

        declared = [variants.get(name) for name in variants]
        return [(v.name, f"{v.summary}; {v.reference}" if v.reference else v.summary) for v in declared]
    if kind == "executors":
        from tal_bench.execution.registry import executors

        return [(name, executors.get(name).summary) for name in executors]
    from tal_bench.corruption.registry import corruptions

    return [(name, corruptions.get(name).summary) for name in corruptions]


def print_terms() -> None:
    """Print formula, features and paper of every term; the summary of a term that states no formula."""
    from rich.text import Text

    from tal_bench.distill.terms.registry import terms

    rows = []
    for term in map(terms.get, terms):
        facts = (term.paper, term.reads_text and f"reads {term.reads_text}")
        name = Text(term.name, style="bold")
        rows.append((name, term.formula or term.summary, "; ".join(filter(None, facts))))
    print_table(output_console(), ("term", "formula", "paper"), rows, title="terms", text_columns=range(3))


def print_models(kind: Literal["teachers", "students"]) -> None:
    """Print a grid of the models that exist for every structure, and a list of all others."""
    from tal_bench.models.registry import students, teachers
    from tal_bench.models.structures import structures

    registry = students if kind == "students" else teachers
    composed = _composed_names(registry)
    summary = {read: registry.get(next(iter(names))).summary for (_, read), names in composed.items()}
    suffix = {read: "no suffix" if read == "all" else f"-{read}" for read in summary}
    headings = ["structure", *suffix.values()]
    rows = [
        [structure, *(_grid_cell(structure, read, composed.get((structure, read), ())) for read in summary)]
        for structure in structures
    ]
    title = f"{kind}: <structure>[-inputs][-ta][-small]"
    print_table(output_console(), headings, rows, title=title, text_columns=range(len(headings)))
    for read, text in summary.items():
        typer.echo(f"{suffix[read]}: {text}")
    typer.echo(SUFFIXES)
    in_grid = {name for names in composed.values() for name in names}
    if others := [(name, registry.get(name).summary) for name in registry if name not in in_grid]:
        print_names(f"further {kind}", others)


def _composed_names(registry: Registry[Model]) -> dict[tuple[str, Inputs], list[str]]:
    """Return the registered names that are composed of structure, inputs and suffixes, by the first two."""
    from tal_bench.models.registry import model_name
    from tal_bench.models.structures import structures

    names: dict[tuple[str, Inputs], list[str]] = {}
    for name in registry:
        model = registry.get(name)
        composed = model_name(
            model.structure, model.inputs, temporal_attention=model.temporal_attention, size=model.size
        )
        if name == composed and model.structure in structures:
            names.setdefault((model.structure, model.inputs), []).append(name)
    return names


def _grid_cell(structure: str, inputs: Inputs, registered: Collection[str]) -> str:
    """Return the name without `-ta` and `-small`, and which of the names with them are missing."""
    from tal_bench.models.registry import model_name

    name = model_name(structure, inputs)
    suffixes = ("", "-ta", "-small", "-ta-small")
    missing = [suffix for suffix in suffixes if f"{name}{suffix}" not in registered]
    if len(missing) == len(suffixes):
        return "missing"
    return f"{name} (missing: {', '.join(suffix or 'no suffix' for suffix in missing)})" if missing else name


def print_names(title: str, lines: Iterable[Sequence[str]]) -> None:
    """Print a table of names and their descriptions."""
    from rich.text import Text

    rows: list[list[str | Text]] = [[Text(name, style="bold"), *rest] for name, *rest in lines]
    columns = len(rows[0]) if rows else 0
    print_table(output_console(), [""] * columns, rows, title=title, text_columns=range(columns))


def doctor() -> None:
    """Show what this machine has, what is missing, and what to do about it."""
    from rich.text import Text

    from tal_bench.system.doctor import report

    rows = []
    for item, value, advice in report():
        cell = Text(value)
        if advice:
            cell.append(f"\n{advice}", style="yellow")
        rows.append((item, cell))
    print_table(output_console(), ["", ""], rows, text_columns=(0, 1))
