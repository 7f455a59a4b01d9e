"""The command `evaluate`: mean average precision of one or several files of detections."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tal_bench.cli.options import JsonOption, LabelsOption
from tal_bench.cli.tables import output_console, print_table
from tal_bench.cli.text import printable
from tal_bench.errors import InputError
from tal_bench.system.files import distinct_names

if TYPE_CHECKING:
    from tal_bench.evaluation.evaluate import Evaluated

EVERY_SUBSET = "all"
APMethod = Literal["activitynet", "thumos"]


def evaluate(
    ground_truth: Annotated[
        Path, typer.Option(metavar="GT.json", help="Annotations in the style of ActivityNet.")
    ],
    detections: Annotated[
        list[Path],
        typer.Option(
            metavar="DET.json|csv",
            help="Detections: JSON in the style of ActivityNet (as OpenTAD writes it), or a table.",
        ),
    ],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="DET", help="Further files of detections.")
    ] = None,
    tiou: Annotated[
        str, typer.Option(metavar="LOW:HIGH:STEP", help="tIoU thresholds, or a list such as 0.5,0.75.")
    ] = "0.3:0.7:0.1",
    subset: Annotated[str, typer.Option(help="Subset of the videos to evaluate; all: every video.")] = "test",
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VIDEO|FILE", help="Video to leave out, or file with a list of videos; repeatable."
        ),
    ] = None,
    ap_method: Annotated[
        APMethod, typer.Option(help="Method of computing AP; results of the two are not comparable.")
    ] = "activitynet",
    labels: LabelsOption = "auto",
    per_class: Annotated[bool, typer.Option("--per-class", help="Show the AP of every class.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute the mean average precision of detections of any program; compare several files."""
    thresholds = parse_tiou(tiou)
    files = [*detections, *(more or ())]
    names = column_names(files)
    from tal_bench.evaluation.evaluate import evaluate_file, select_ground_truth

    truth = select_ground_truth(ground_truth, None if subset == EVERY_SUBSET else subset, exclude or ())
    evaluated = {
        name: evaluate_file(file, truth, thresholds, ap_method, labels)
        for name, file in zip(names, files, strict=True)
    }
    counts = {"videos": len(truth.attrs["videos"]), "ground_truths": len(truth)}
    if as_json:
        values = {
            name: {**file.result.as_dict(), **counts, "detections": file.detections}
            for name, file in evaluated.items()
        }
        typer.echo(json.dumps(values if len(files) > 1 else values[names[0]], indent=1))
        return
    title = f"{ground_truth.name}, subset {subset}, {ap_method} AP"
    if per_class and len(files) > 1:
        title += "; AP of a class: mean over thresholds"
    _print(evaluated, counts, title, per_class)
    _notes(evaluated, truth.attrs["reversed"])


def parse_tiou(text: str) -> list[float]:
    """Parse thresholds such as `0.3:0.7:0.1` (both ends included) or `0.5,0.75`.

    Raises:
        InputError: The thresholds are not numbers in (0, 1] or not an increasing grid.
    """
    invalid = InputError(
        f"got '{text}'", where="--tiou", hint="give LOW:HIGH:STEP or a list, numbers in (0, 1]"
    )
    try:
        numbers = [float(part) for part in re.split("[:,]", text)]
    except ValueError:
        raise invalid from None
    if ":" in text:
        if len(numbers) != 3 or "," in text:
            raise invalid
        low, high, step = numbers
        if not (step >= 0.001 and 0 < low <= high <= 1):
            raise invalid
        numbers = [round(low + k * step, 6) for k in range(int((high - low) / step + 1e-6) + 1)]
    if not all(0 < number <= 1 for number in numbers):
        raise invalid
    return sorted(set(numbers))


def column_names(files: Sequence[Path]) -> list[str]:
    """Return a unique name for each file: its stem, preceded by as many of its folders as necessary.

    Raises:
        InputError: A file is given twice.
    """
    paths = [Path(os.path.realpath(file)) for file in files]  # unlike `resolve`, accepts a loop of links
    for file in paths:
        if paths.count(file) > 1:
            raise InputError("given twice", where=f"--detections {file}", hint="name each file once")
    stems = [file.with_suffix("") for file in paths]
    return distinct_names(stems if len(set(stems)) == len(stems) else paths)  # else a.json and a.csv


def _print(evaluated: Mapping[str, Evaluated], counts: dict[str, int], title: str, per_class: bool) -> None:
    """Print a column per threshold for one file, and a column per file for several."""
    from rich.text import Text

    first, *others = evaluated.values()
    columns, rows = _by_file(evaluated, per_class) if others else _by_threshold(first, per_class)
    lines = []
    for name, values in rows:
        style = "bold" if name in ("all classes", "average") else ""
        cells = (printable(name), *(f"{100 * value:.2f}" for value in values))
        lines.append([Text(cell, style=style) for cell in cells])
    if others:
        lines.append([Text("detections"), *(Text(str(file.detections)) for file in evaluated.values())])
    else:
        counts = {**counts, "detections": first.detections}
    print_table(output_console(), ["mAP in percent", *columns], lines, title=title)
    typer.echo(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()))


Rows = list[tuple[str, list[float]]]


def _by_threshold(file: Evaluated, per_class: bool) -> tuple[list[str], Rows]:
    value: dict[str, Any] = file.result.as_dict()
    rows: Rows = [("all classes", [*value["map"].values(), value["average_map"]])]
    if per_class:
        each = value["per_class"].items()
        rows = [(label, [*ap.values(), sum(ap.values()) / len(ap)]) for label, ap in each] + rows
    return [*value["map"], "average"], rows


def _by_file(evaluated: Mapping[str, Evaluated], per_class: bool) -> tuple[list[str], Rows]:
    values: list[dict[str, Any]] = [file.result.as_dict() for file in evaluated.values()]
    first = values[0]
    rows: Rows = []
    if per_class:  # the classes of the ground truth, the same in every file
        for label in first["per_class"]:
            each = [value["per_class"][label].values() for value in values]
            rows.append((label, [sum(ap) / len(ap) for ap in each]))
    rows += [(f"tIoU {key}", [value["map"][key] for value in values]) for key in first["map"]]
    rows.append(("average", [value["average_map"] for value in values]))
    return list(evaluated), rows


def _notes(evaluated: Mapping[str, Evaluated], reversed_: int) -> None:
    """Print to standard error how many annotations and detections are ignored or count as wrong."""
    counts = [("annotations that end before they start, ignored", reversed_)]
    for name, file in evaluated.items():
        prefix = f"{name}: " if len(evaluated) > 1 else ""
        counts += [
            (f"{prefix}detections in videos outside the subset, counted as wrong", file.stray),
            (f"{prefix}detections whose label is not in the ground truth, ignored", file.unknown),
        ]
    for text, count in counts:
        if count:
            typer.echo(f"note: {text}: {count}", err=True)
