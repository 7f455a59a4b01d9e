"""The commands `data`: list, create, prepare and check datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tal_bench.cli.commands.data.init import init
from tal_bench.cli.options import DataRootOption, JsonOption, PluginOption
from tal_bench.cli.progress import progress_bar
from tal_bench.errors import DataError
from tal_bench.system.cpu_count import default_jobs

if TYPE_CHECKING:
    from tal_bench.config import DatasetSpec

app = typer.Typer(help="List, create, prepare and check datasets.")
DatasetArgument = Annotated[
    str, typer.Argument(metavar="NAME|FILE.yaml", help="Registered dataset, or dataset file.")
]
app.command()(init)


@app.command("list")
def list_datasets(data_root: DataRootOption = None, plugin: PluginOption = None) -> None:
    """List the registered datasets and where their files are."""
    from tal_bench.cli.commands.listing import print_names
    from tal_bench.data.registry import datasets, find_folder
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    lines = []
    for name in datasets:
        entry = datasets.get(name)
        if entry.source:
            state = "made from your files"
        elif entry.prepare is not None:
            state = "made when first used"
        else:
            try:
                state = f"in {find_folder(entry, data_root)}"
            except DataError:
                state = "not found"
        lines.append((name, state, entry.summary))
    print_names("datasets", lines)
    typer.echo("made from your files: pass them to tal-bench data prepare NAME --source DIR")
    typer.echo("not found: pass the folder that holds the files with --data-root DIR")


@app.command()
def prepare(
    name: DatasetArgument,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of worker processes.", show_default="from cores and memory"),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="DIR|ZIP", help="Your files, for datasets that are made from them (hapt)."),
    ] = None,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
) -> None:
    """Prepare a dataset that the package makes, or find your files of a dataset, and print its folder."""
    from tal_bench.data.registry import notices

    spec = _spec(name, data_root, plugin, jobs, source)
    typer.echo(f"{spec.name}: {spec.annotations.parent}")
    for line in notices(spec):
        typer.echo(f"  {line}")


@app.command()
def check(
    name: DatasetArgument,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Figure of lengths, classes and coverage to write (.png, .svg, .pdf)."
        ),
    ] = None,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all problems of a dataset and its statistics. The exit code is 2 if it cannot be used."""
    from tal_bench.cli.commands.data.findings import picture_file, print_report, save_picture

    drawn = None if picture is None else picture_file(picture)
    spec = _spec(name, data_root, plugin, None)
    from tal_bench.data.checks.dataset_check import check as check_dataset

    with progress_bar("checking") as progress:
        report = check_dataset(spec, progress=progress)
    if report.ok:
        from tal_bench.studies.setup import study_findings

        report = report.with_findings(study_findings(spec))
    if as_json:
        typer.echo(report.to_json())
    else:
        print_report(report)
    if drawn is not None and report.parts:
        save_picture(report, drawn)
    if not report.ok:
        errors = sum(finding.severity == "error" for finding in report.findings)
        kinds = ", ".join(dict.fromkeys(f.kind for f in report.findings if f.severity == "error"))
        raise DataError(
            f"{errors} error{'s' * (errors > 1)}: {kinds}", where=name, hint="fix the files listed"
        )


def _spec(
    name: str,
    data_root: Path | None,
    plugin: list[Path] | None,
    jobs: int | None,
    source: Path | None = None,
) -> DatasetSpec:
    from tal_bench.data.registry import load_spec
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    with progress_bar("preparing") as progress:
        return load_spec(
            name, data_root=data_root, jobs=jobs or default_jobs(), progress=progress, source=source
        )
