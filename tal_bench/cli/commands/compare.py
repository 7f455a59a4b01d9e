"""The command `compare`: several studies, and detections of other programs, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tal_bench.cli.options import JsonOption, LabelsOption, PluginOption
from tal_bench.errors import InputError


def compare(
    study_dir: Annotated[
        list[Path], typer.Argument(metavar="STUDY_DIR...", help="Folders of studies, of any datasets.")
    ],
    detections: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Detections of another program, as a row NAME; repeatable, NAME once per dataset.",
        ),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row",
            metavar="NAME",
            help="Row to show and compare, of any kind; repeatable.",
            show_default="all are shown, students and detections compared",
        ),
    ] = None,
    labels: LabelsOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for page, tables and figures.", show_default="none"),
    ] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare all rows of several studies, and detections of other programs, on the same test videos."""
    files = named_files(detections or ())
    from tal_bench.plugins import load_plugins

    load_plugins(tuple(plugin or ()))
    from tal_bench.report.comparison.collect import compare as compare_studies
    from tal_bench.report.comparison.documents import summary
    from tal_bench.report.comparison.terminal import print_comparison
    from tal_bench.report.comparison.write import check_folder, write_comparison

    if out is not None:
        check_folder(out)
    comparison = compare_studies(study_dir, detections=files, rows=row or (), labels=labels)
    if as_json:
        typer.echo(json.dumps(summary(comparison), indent=1))
    else:
        print_comparison(comparison)
    if out is not None:
        written = write_comparison(comparison, out)
        if not as_json:
            typer.echo(f"\n{len(written)} files in {out}: {', '.join(sorted({f.stem for f in written}))}")


def named_files(texts: Sequence[str]) -> dict[str, list[Path]]:
    """Parse `NAME=FILE`; a name may occur several times.

    Raises:
        InputError: A text has no name or no file.
    """
    files: dict[str, list[Path]] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if not name or not file:
            hint = "write NAME=FILE, such as opentad=result_detection.json"
            raise InputError(f"got '{text}'", where="--detections", hint=hint)
        files.setdefault(name, []).append(Path(file))
    return files
