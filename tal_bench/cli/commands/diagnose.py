"""The command `diagnose`: error analysis of detections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tal_bench.cli.commands.evaluate import EVERY_SUBSET, column_names, parse_tiou
from tal_bench.cli.options import JsonOption, LabelsOption
from tal_bench.cli.tables import output_console, print_table
from tal_bench.cli.text import printable
from tal_bench.errors import InputError

if TYPE_CHECKING:
    from tal_bench.evaluation.label_alignment import LabelReading
    from tal_bench.report.diagnosis.source import Source
    from tal_bench.report.diagnosis.summary import DiagnosisReport

DEFAULT_TIOU = "0.3:0.7:0.1"
HEADINGS = ("mAP", "double", "label", "localization", "confusion", "background", "all", "missed")
"""Headings of the mean average precision, of the kinds of errors, of all of them, and of missed segments."""


def diagnose(
    what: Annotated[
        list[Path],
        typer.Argument(metavar="STUDY_DIR|DETECTIONS...", help="Folder of a study, or files of detections."),
    ],
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            metavar="GT.json",
            help="Annotations in the style of ActivityNet; not for a study, which has its own.",
        ),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", metavar="NAME", help="Row to diagnose; repeatable.", show_default="all"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Row to compare the others with.", show_default="none, or the first"
        ),
    ] = None,
    tiou: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH:STEP", help="tIoU thresholds.", show_default=f"the study's, or {DEFAULT_TIOU}"
        ),
    ] = None,
    subset: Annotated[
        str, typer.Option(help="With --ground-truth: subset of the videos to evaluate; all: every video.")
    ] = "test",
    bins: Annotated[
        Literal["auto", "activitynet", "thumos14", "quantiles"],
        typer.Option(
            help="Bins of length, coverage, instances; auto: DETAD's, or quantiles if one of them is empty."
        ),
    ] = "auto",
    labels: LabelsOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for tables and figures.",
            show_default="STUDY_DIR/diagnosis; none for files",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Analyze errors after DETAD: kinds of false positives, their cost in mAP, and missed segments."""
    thresholds = parse_tiou(tiou) if tiou is not None else None
    source = _source(what, ground_truth, subset, thresholds, labels)
    from tal_bench.report.diagnosis.summary import diagnose_source
    from tal_bench.report.diagnosis.tables import summary
    from tal_bench.report.diagnosis.write import write_diagnosis

    diagnosis = diagnose_source(source, rows=row or (), against=against, bins=bins)
    folder = out or (what[0] / "diagnosis" if what[0].is_dir() else None)
    written = write_diagnosis(diagnosis, folder) if folder is not None else []
    if as_json:
        typer.echo(json.dumps(summary(diagnosis), indent=1))
        return
    _print(diagnosis)
    if written:
        typer.echo(f"{len(written)} files in {folder}: {', '.join(sorted({f.stem for f in written}))}")


def _source(
    what: Sequence[Path],
    ground_truth: Path | None,
    subset: str,
    thresholds: Sequence[float] | None,
    labels: LabelReading,
) -> Source:
    from tal_bench.report.diagnosis.source import files_source, study_source

    if any(path.is_dir() for path in what):
        if len(what) > 1:
            raise InputError(f"{len(what)} paths given", where=what[0], hint="give one study, or only files")
        if ground_truth is not None:
            raise InputError(
                "a study has its own annotations", where="--ground-truth", hint="omit the option"
            )
        return study_source(what[0], thresholds)
    if ground_truth is None:
        hint = "give annotations in the style of ActivityNet"
        if not what[0].exists():
            hint = "no such file or folder"
        raise InputError(f"missing for {what[0]}", where="--ground-truth", hint=hint)
    return files_source(
        column_names(what),
        what,
        ground_truth,
        None if subset == EVERY_SUBSET else subset,
        thresholds or parse_tiou(DEFAULT_TIOU),
        labels,
    )


def _print(diagnosis: DiagnosisReport) -> None:
    from tal_bench.report.common.markup import plain

    gains = diagnosis.gain_means()
    title = f"{diagnosis.source.title}: average mAP, and points gained without the errors of a kind"
    rows = [(str(name), *(f"{points:.1f}" for points in line)) for name, line in gains.iterrows()]
    print_table(output_console(), ("row", *HEADINGS), rows, title=title)
    for note in diagnosis.source.notes:
        typer.echo(plain(note))
    changes = diagnosis.changes()
    if diagnosis.compared is not None:
        count = f"{int((changes > 0).sum())} of {len(changes)} videos, loses in {int((changes < 0).sum())}"
        typer.echo(printable(f"{diagnosis.compared} gains over {diagnosis.against} in {count}."))
