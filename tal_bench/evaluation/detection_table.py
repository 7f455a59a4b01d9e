"""Read detections from a table (CSV), in which names are kept exactly as they are written."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.config import brief
from tal_bench.errors import DataError
from tal_bench.evaluation.matching import DETECTION_COLUMNS

ALIASES = {
    "video": ("video", "video-id", "video_id", "videoid"),
    "start": ("start", "t-start", "t_start"),
    "end": ("end", "t-end", "t_end"),
    "label": ("label", "class"),
    "score": ("score", "confidence"),
}
SEPARATORS = ",;\t"
WHOLE_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
Row = tuple[int, list[str]]


def parse_detections(text: str, path: Path) -> pd.DataFrame:
    """Parse a table of detections; see `read_detections`.

    A label is an integer if it is a whole number without quotes; every other label is a str, with all its
    spaces. Spaces after separators are dropped only where the header has them, too.

    Raises:
        DataError: A column is missing, or a value cannot be used; the message names the line.
    """
    rows = _rows(text, path)
    _, header = next(rows, (0, []))
    if not header:
        raise DataError("not a readable table: no columns", where=path, hint="give CSV or JSON")
    place = _columns(header, path)
    lines: list[int] = []
    columns: dict[str, list[str]] = {name: [] for name in DETECTION_COLUMNS}
    for number, row in rows:
        if len(row) > len(header):
            what = f"line {number} has {len(row)} fields, the header has {len(header)}"
            raise DataError(f"not a readable table: {what}", where=path, hint="quote fields with separators")
        lines.append(number)
        for name, index in place.items():
            columns[name].append(row[index] if index < len(row) else "")
    for name in ("video", "label"):
        if "" in columns[name]:
            raise DataError(f"{name} is empty in line {lines[columns[name].index('')]}", where=path)
    table = pd.DataFrame({name: columns[name] for name in DETECTION_COLUMNS})
    for name in ("start", "end", "score"):
        values = [_number(v, name, n, path) for v, n in zip(columns[name], lines, strict=True)]
        table[name] = pd.Series(values, dtype="float64")
    if any(map(WHOLE_NUMBER.fullmatch, columns["label"])) and not _is_quoted(text, place["label"]):
        labels = [int(v) if WHOLE_NUMBER.fullmatch(v) else v for v in columns["label"]]
        table["label"] = pd.Series(labels, dtype="object").infer_objects()
    return table


def _rows(text: str, path: Path) -> Iterator[Row]:
    """Yield the fields of every line that is not empty, with its number; the header is the first."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), **_layout(text))
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"not a readable table: {error}", where=path, hint="check its quotes") from None


def _layout(text: str) -> dict[str, Any]:
    """Return the arguments of `csv.reader` that the header shows."""
    header = text.lstrip().partition("\n")[0].rstrip("\r")
    separator = max(SEPARATORS, key=header.count)
    names = header.split(separator)
    return {
        "delimiter": separator,
        "skipinitialspace": len(names) > 1 and all(name.startswith(" ") for name in names[1:]),
        "strict": True,
    }


def _columns(header: Sequence[str], path: Path) -> dict[str, int]:
    """Return the index of every column."""
    present = [name.strip().lower() for name in header]
    place = {}
    for column, aliases in ALIASES.items():
        matching = [alias for alias in aliases if alias in present]
        if not matching:
            raise DataError(
                f"column {column} is missing, the file has {abbreviate(present)}",
                where=path,
                hint=f"accepted: {', '.join(aliases)}",
            )
        if present.count(matching[0]) > 1:
            raise DataError(f"column {matching[0]} is repeated", where=path, hint="remove or rename one")
        place[column] = present.index(matching[0])
    return place


def _is_quoted(text: str, column: int) -> bool:
    """Whether quotes tell text from numbers in the whole table, as in those of `tal-bench detect`."""
    lines, layout = io.StringIO(text, newline=""), _layout(text)
    next(filter(None, csv.reader(lines, **layout)))  # the header
    try:
        rows = csv.reader(lines, quoting=csv.QUOTE_NONNUMERIC, **layout)
        return all(isinstance(row[column], str) for row in rows if len(row) > column)
    except (ValueError, csv.Error):  # text without quotes
        return False


def _number(text: str, column: str, line: int, path: Path) -> float:
    try:
        if "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        value = (text if len(text) <= 40 else brief(text)) or "empty"
        hint = "write a decimal point" if re.fullmatch(r"\s*-?\d+,\d+\s*", text) else ""
        message = f"{column} is {value} in line {line}, not a number"
        raise DataError(message, where=path, hint=hint) from None


def abbreviate(names: Sequence[object], most: int = 8) -> str:
    """Return the first `most` names as text, followed by the number of omitted names."""
    shown = [text if len(text) <= 40 else f"{text[:37]}..." for text in map(str, names[:most])]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
