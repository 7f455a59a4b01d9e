"""Detections and ground truth from files into tables, every malformed file an error on one line."""

from __future__ import annotations

import io
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
EGO4D_RESULTS = "detect_results"
PICKLES = (".pkl", ".pickle")
FROM_PICKLE = "write it as CSV with the program that made it: columns video, start, end, label, score"
WHOLE_NUMBER = r"0|-?[1-9]\d{0,17}"
"""What is read as a label id rather than a name in a table of which all labels look like that."""
_GROUND_TRUTH_COLUMNS = ("video", "start", "end", "label", "label_id")


def read_detections(path: str | Path) -> pd.DataFrame:
    """Read detections from ActivityNet-style JSON or from a table.

    JSON: `{"results": {video: [{"segment": [s, e], "label": l, "score": p}]}}`, as this package, OpenTAD and
    ActivityNet's own tools write it; Ego4D's `detect_results` in place of `results`. Tables (`.csv`, `.tsv`;
    separated by comma, semicolon or tab): columns video, start, end, label, score, or their common aliases
    (video-id, t-start, t-end).

    Returns:
        Columns video (str), start, end (seconds), label, score.

    Raises:
        DataError: the file is missing or malformed, or a pickle; says where and what.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise DataError("a pickle can run code and is not opened", where=path, hint=FROM_PICKLE)
    table = _detections_table(path) if suffix in (".csv", ".tsv") else _detections_json(path)
    _check_numbers(table, ("start", "end", "score"), path)
    return table


def read_names(path: str | Path) -> tuple[str, ...]:
    """Read names of videos from a JSON list or from a text file, one a line.

    Raises:
        DataError: the file is missing, empty or no such list.
    """
    path = Path(path)
    text = _read_text(path)
    names = _parse_json(text, path) if text.lstrip().startswith(("[", "{")) else text.split("\n")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("not a list of names", where=path, hint="a JSON list, or one name a line")
    found = tuple(name.strip() for name in names if name.strip())
    if not found:
        raise DataError("holds no name", where=path, hint="a JSON list, or one name a line")
    return found


def read_ground_truth(
    path: str | Path, subset: str | None = None, *, drop_reversed: bool = False
) -> pd.DataFrame:
    """Read ground truth from ActivityNet-style JSON.

    Args:
        path: `{"database": {video: {"subset", "annotations": [{"segment", "label", "label_id"}]}}}`.
        subset: name of the subset, whatever its case; None = all videos.
        drop_reversed: leave out annotations that end before they start, as published MultiTHUMOS has a few
            and the public evaluations drop them, instead of raising; `.attrs["reversed"]` counts them.

    Returns:
        Columns video (str), start, end (seconds), label and, where every annotation has one, label_id;
        one row per annotation. `.attrs["videos"]` is the tuple of all videos of the subset, also those
        without annotations.

    Raises:
        DataError: the file is missing or malformed, or the subset is unknown.
    """
    path = Path(path)
    database = _member(_load_json(path), "database", path, "the file")
    if not isinstance(database, dict):
        raise DataError("database is not an object of videos", where=path)
    videos = _videos_of(database, subset, path)
    rows = list(_annotations(database, videos, path))
    table = pd.DataFrame(rows, columns=list(_GROUND_TRUTH_COLUMNS))
    if table["label_id"].isna().any() or table.empty:
        table = table.drop(columns="label_id")
    else:
        table = table.astype({"label_id": np.int64})
    reversed_ = table["end"] < table["start"]
    if drop_reversed:
        table = table[~reversed_].reset_index(drop=True)
    _check_numbers(table, ("start", "end"), path)
    table.attrs.update(videos=tuple(videos), reversed=int(reversed_.sum()) if drop_reversed else 0)
    return table


def _detections_json(path: Path) -> pd.DataFrame:
    content = _load_json(path)
    key = EGO4D_RESULTS if isinstance(content, dict) and EGO4D_RESULTS in content else "results"
    results = _member(content, key, path, "the file")
    if not isinstance(results, dict):
        raise DataError(f"{key} is not an object of videos", where=path)
    rows = []
    for video, found in results.items():
        if not isinstance(found, list):
            raise DataError(f"results of video {brief(video)} are not a list", where=path)
        for k, item in enumerate(found):
            place = f"detection {k} of video {brief(video)}"
            start, end = _segment(item, path, place)
            score = _number(_member(item, "score", path, place), path, f"the score of {place}")
            rows.append((video, start, end, _label(item, path, place), score))
    return pd.DataFrame(rows, columns=list(DETECTION_COLUMNS)).astype(
        {"start": np.float64, "end": np.float64, "score": np.float64}
    )


def _detections_table(path: Path) -> pd.DataFrame:
    # All as text: a video named 007 is not 7, and one named NA is not missing.
    text = _read_text(path)
    heading = text.lstrip().partition("\n")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a line of more columns than the heading
            table = pd.read_csv(
                io.StringIO(text),
                sep=max(",;\t", key=heading.count),
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
                index_col=False,
            ).fillna("")  # where a line has fewer columns
    except (ValueError, pd.errors.ParserWarning) as error:  # the parser's errors are ValueErrors
        raise DataError(f"not a readable table: {error}", where=path) from None
    present = {str(name).strip().lower(): name for name in table.columns}
    chosen = {}
    for column, aliases in ALIASES.items():
        found = [present[alias] for alias in aliases if alias in present]
        if not found:
            raise DataError(
                f"column {column} is missing, the file has {some(list(present))}",
                where=path,
                hint=f"accepted: {', '.join(aliases)}",
            )
        chosen[found[0]] = column
    table = table[list(chosen)].rename(columns=chosen)
    for column in ("video", "label"):
        table[column] = table[column].str.strip()
        empty = (table[column] == "").to_numpy()
        if empty.any():
            raise DataError(f"{column} is empty in line {int(np.argmax(empty)) + 2}", where=path)
    for column in ("start", "end", "score"):
        number = pd.to_numeric(table[column].str.strip(), errors="coerce")
        bad = number.isna().to_numpy()
        if bad.any():
            row = int(np.argmax(bad))
            value = table[column].iloc[row] or "empty"
            raise DataError(f"{column} is {value} in line {row + 2}, not a number", where=path)
        table[column] = number.astype(np.float64)
    if len(table) and table["label"].str.fullmatch(WHOLE_NUMBER).all():
        table["label"] = table["label"].astype(np.int64)
    return table[list(DETECTION_COLUMNS)]


def _videos_of(database: Mapping[str, Any], subset: str | None, path: Path) -> list[str]:
    subsets = {}
    for video, entry in database.items():
        if not isinstance(entry, dict):
            raise DataError(f"video {brief(video)} is not an object", where=path)
        subsets[video] = str(entry.get("subset", ""))
    if subset is None:
        return list(subsets)
    videos = [video for video, name in subsets.items() if name.lower() == subset.lower()]
    if not videos:
        known = ", ".join(sorted({name for name in subsets.values() if name})) or "no subsets"
        raise DataError(f"no video of subset {subset!r}", where=path, hint=f"the file has {known}")
    return videos


def _annotations(
    database: Mapping[str, Any], videos: list[str], path: Path
) -> Iterator[tuple[str, float, float, Any, Any]]:
    for video in videos:
        found = database[video].get("annotations", [])
        if not isinstance(found, list):
            raise DataError(f"annotations of video {brief(video)} are not a list", where=path)
        for k, item in enumerate(found):
            place = f"annotation {k} of video {brief(video)}"
            start, end = _segment(item, path, place)
            label_id = item.get("label_id")
            if label_id is not None and not _is_id(label_id):
                raise DataError(f"label_id of {place} is {brief(label_id)}, not a whole number", where=path)
            yield video, start, end, _label(item, path, place), label_id


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("no such file", where=path) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise DataError("not a text file", where=path, hint="give JSON or CSV in UTF-8") from None


def _load_json(path: Path) -> Any:
    return _parse_json(_read_text(path), path)


def _parse_json(text: str, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise DataError(f"{brief(twice)} is there twice", where=path, hint="only one would count")
        return value

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON at line {error.lineno}: {error.msg}", where=path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON that can be read: {error}", where=path) from None


def _member(item: Any, key: str, path: Path, place: str) -> Any:
    if not isinstance(item, dict):
        raise DataError(f"{place} is not an object", where=path)
    if key not in item:
        raise DataError(f"{place} has no {key!r}", where=path, hint=f"it has {some(list(item)) or 'nothing'}")
    return item[key]


def _segment(item: Any, path: Path, place: str) -> tuple[float, float]:
    segment = _member(item, "segment", path, place)
    if not isinstance(segment, list) or len(segment) != 2:
        raise DataError(
            f"the segment of {place} is {brief(segment)}", where=path, hint="give [start, end] in seconds"
        )
    return _number(segment[0], path, f"the start of {place}"), _number(
        segment[1], path, f"the end of {place}"
    )


def _label(item: Mapping[str, Any], path: Path, place: str) -> Any:
    label = _member(item, "label", path, place)
    if not isinstance(label, str) and not _is_id(label):
        raise DataError(
            f"the label of {place} is {brief(label)}", where=path, hint="give a name or a label id"
        )
    return label


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _number(value: Any, path: Path, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{place} is {brief(value)}, not a number", where=path)
    try:
        return float(value)
    except OverflowError:
        raise DataError(f"{place} is {brief(value)}, too large", where=path) from None


def _check_numbers(table: pd.DataFrame, columns: tuple[str, ...], path: Path) -> None:
    """DataError unless numbers are finite and no segment is reversed."""
    for column in columns:
        finite = np.isfinite(table[column].to_numpy(dtype=np.float64))
        if not finite.all():
            row = table.iloc[int(np.argmin(finite))]
            raise DataError(f"{column} is {row[column]} in a segment of video {row['video']!r}", where=path)
    reversed_ = (table["end"] < table["start"]).to_numpy()
    if reversed_.any():
        row = table.iloc[int(np.argmax(reversed_))]
        raise DataError(
            f"segment [{row['start']}, {row['end']}] of video {row['video']!r} ends before it starts",
            where=path,
        )


def some(names: Sequence[object], most: int = 8) -> str:
    """The first of some names, and how many there are besides."""
    shown = [text if len(text) <= 40 else f"{text[:37]}..." for text in map(str, names[:most])]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
