"""The commands `publish` and `leaderboard`: results of finished studies for others, and their table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tal_bench.cli.options import PluginOption
from tal_bench.results.places import PUBLISHED

StudiesArgument = Annotated[
    list[Path], typer.Argument(metavar="STUDY_DIR...", help="Folders of finished studies.")
]
PlacesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[DIR|FILE.json]...",
        help="Folders of published studies, and JSON files of single results.",
        show_default=str(PUBLISHED),
    ),
]


def publish(
    study_dir: StudiesArgument,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of published studies; one folder per study is written."),
    ] = PUBLISHED,
    plugin: PluginOption = None,
) -> None:
    """Check finished studies, and write the report and a JSON file per row of each."""
    from tal_bench.plugins import load_plugins

    load_plugins(tuple(plugin or ()))
    import tal_bench

    for folder in study_dir:
        written = tal_bench.publish(folder, out)
        target = out / folder.resolve().name
        rows = sum(file.parent.name == "results" and file.suffix == ".json" for file in written)
        typer.echo(f"{target}: {rows} results, {len(written) - rows} files of the report")
    typer.echo(f"to publish: add {out} to the repository; tal-bench leaderboard {out} makes the table")


def leaderboard(
    places: PlacesArgument = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE.html", help="Page to write; one file that needs no network.")
    ] = Path("leaderboard.html"),
    plugin: PluginOption = None,
) -> None:
    """Write published results, and those of the literature, to a page that sorts and filters them."""
    from tal_bench.plugins import load_plugins

    load_plugins(tuple(plugin or ()))
    import tal_bench

    results = tal_bench.write_leaderboard(places or (PUBLISHED,), out)
    measured = sum(result.measured is not None for result in results)
    typer.echo(f"{out}: {measured} measured results, {len(results) - measured} reported ones")
