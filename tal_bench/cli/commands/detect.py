"""The command `detect`: detections in video files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tal_bench.cli.options import Device, JsonOption, PluginOption
from tal_bench.cli.tables import output_console, print_table
from tal_bench.cli.text import printable
from tal_bench.errors import DataError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from tal_bench.inference.detect import DetectionResult

SHOWN = 20
"""Number of detections per video in the table."""
THUMBNAILS = 12
THUMBNAIL = (72, 108)


def detect(
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="Video files, or folders of them.")
    ],
    model: Annotated[
        Path,
        typer.Option(metavar="RUN|FILE", help="Weights, or the .json of a run; its features are extracted."),
    ],
    as_json: JsonOption = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Table to write.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Figure to write: timelines and thumbnails.")
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(metavar="GT.json", help="Annotations to show in the figure.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Lowest score to report; use 0 for evaluation.")
    ] = 0.1,
    device: Annotated[Device, typer.Option(help="Device of the networks.")] = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes that extract features.")] = 1,
    plugin: PluginOption = None,
) -> None:
    """Detect actions in video files. The exit code is 2 if a file cannot be used."""
    _check_targets(csv, picture, ground_truth)
    from tal_bench.cli.progress import progress_bar
    from tal_bench.inference.detect import detect as run
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    truth = None if ground_truth is None else _truth(ground_truth)
    with progress_bar("reading") as progress:
        result = run(list(videos), model, threshold=threshold, device=device, jobs=jobs, progress=progress)
    for record in result.videos.values():
        if record.message:
            typer.echo(f"{record.status}: {record.file}: {record.message}", err=True)
    if csv is not None:
        _write(csv, result.csv())
    if picture is not None:
        _write(picture, draw(result, truth, picture.suffix))
    if as_json:
        typer.echo(json.dumps(result.json(), indent=1))
    else:
        _print(result, threshold)
    if failed := [record for record in result.videos.values() if record.status == "failed"]:
        raise DataError(f"{len(failed)} of {len(result.videos)} videos could not be used", where="VIDEO")


def _check_targets(csv: Path | None, picture: Path | None, ground_truth: Path | None) -> None:
    """Check before the detection whether the results can be written."""
    from tal_bench.report.common.timeline import FORMATS

    if picture is not None and picture.suffix not in FORMATS:
        raise InputError(f"got '{picture}'", where="--picture", hint=f"end it in {', '.join(FORMATS)}")
    if ground_truth is not None and picture is None:
        raise InputError("is shown only in a figure", where="--ground-truth", hint="add --picture FILE.png")
    for flag, target in (("--csv", csv), ("--picture", picture)):
        if target is not None and not target.absolute().parent.is_dir():
            raise InputError("no such folder", where=f"{flag} {target}")


def _truth(file: Path) -> pd.DataFrame:
    from tal_bench.evaluation.files import read_ground_truth

    return read_ground_truth(file, drop_reversed=True)


def draw(result: DetectionResult, truth: pd.DataFrame | None, suffix: str) -> bytes:
    """Draw the detections of all usable videos.

    Raises:
        InputError: No video is usable.
    """
    from tal_bench.extraction.decoding import thumbnails
    from tal_bench.report.common.timeline import Panel, timeline

    known = () if truth is None else truth.attrs["videos"]
    panels = [
        Panel(
            video=name,
            duration=record.duration,
            thumbnails=thumbnails(result.files[name], record.duration, THUMBNAILS, THUMBNAIL),
            detections=result.table[result.table["video"] == name],
            truth=None if truth is None or name not in known else truth[truth["video"] == name],
        )
        for name, record in result.videos.items()
        if record.status != "failed"
    ]
    if not panels:
        raise InputError("no video could be used", where="--picture", hint="see the messages above")
    return timeline(panels, suffix)


def _write(path: Path, content: str | bytes) -> None:
    from tal_bench.system.files import write_atomically

    write_atomically(path, content)


def _print(result: DetectionResult, threshold: float) -> None:
    for name, record in result.videos.items():
        if record.status == "failed":
            continue
        rows: Any = result.table[result.table["video"] == name]
        title = f"{name}  {record.duration:.1f} s"
        if rows.empty:
            typer.echo(f"{printable(title)}: no detection with a score of {threshold:g} or more")
            continue
        lines = [
            (f"{row.start:.2f}", f"{row.end:.2f}", f"{row.score:.3f}", row.label)
            for row in rows.head(SHOWN).itertuples()
        ]
        headings = ("start", "end", "score", "label")
        print_table(output_console(), headings, lines, title=title, text_columns=(3,))
        if len(rows) > SHOWN:
            typer.echo(f"and {len(rows) - SHOWN} more")
