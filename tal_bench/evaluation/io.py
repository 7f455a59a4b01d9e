"""Detections and ground truth from files into tables, every malformed file an error on one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.errors import DataError
from tal_bench.evaluation.matching import DETECTION_COLUMNS

ALIASES = {
    "video": ("video", "video-id", "video_id", "videoid"),
    "start": ("start", "t-start", "t_start"),
    "end": ("end", "t-end", "t_end"),
    "label": ("label", "class"),
    "score": ("score", "confidence"),
}
_GROUND_TRUTH_COLUMNS = ("video", "start", "end", "label", "label_id")


def read_detections(path: str | Path) -> pd.DataFrame:
    """Read detections from ActivityNet-style JSON or from CSV.

    JSON: `{"results": {video: [{"segment": [s, e], "label": l, "score": p}]}}`. CSV: columns video, start,
    end, label, score, or their common aliases (video-id, t-start, t-end).

    Returns:
        Columns video (str), start, end (seconds), label, score.

    Raises:
        DataError: the file is missing or malformed; says where and what.
    """
    path = Path(path)
    table = _detections_csv(path) if path.suffix.lower() == ".csv" else _detections_json(path)
    _check_numbers(table, ("start", "end", "score"), path)
    return table


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


def align_labels(detections: pd.DataFrame, ground_truth: pd.DataFrame, where: object = None) -> pd.DataFrame:
    """Detections with the label names of the ground truth; numeric labels are looked up in its label_id.

    Labels without ground truth stay as they are, for `match` to drop.

    Raises:
        DataError: not one detection has a label that the ground truth has.
    """
    if detections.empty:
        return detections
    known = set(ground_truth["label"])
    label = detections["label"]
    if "label_id" in ground_truth and not label.isin(known).any():
        ids = pd.to_numeric(label, errors="coerce")
        names = dict(zip(ground_truth["label_id"].tolist(), ground_truth["label"].tolist(), strict=True))
        if ids.notna().all() and ids.isin(list(names)).any():
            # The type of a name differs from that of an id: keep unknown ids apart from every name.
            return detections.assign(label=[names.get(int(k), f"label_id {int(k)}") for k in ids])
    if not label.isin(known).any():
        raise DataError(
            f"no detection has a label of the ground truth, the first has {label.iloc[0]!r}",
            where=where,
            hint=f"the ground truth has {_some(sorted(map(str, known)))}",
        )
    return detections


def _detections_json(path: Path) -> pd.DataFrame:
    results = _member(_load_json(path), "results", path, "the file")
    if not isinstance(results, dict):
        raise DataError("results is not an object of videos", where=path)
    rows = []
    for video, found in results.items():
        if not isinstance(found, list):
            raise DataError(f"results of video {video!r} are not a list", where=path)
        for k, item in enumerate(found):
            place = f"detection {k} of video {video!r}"
            start, end = _segment(item, path, place)
            score = _number(_member(item, "score", path, place), path, f"the score of {place}")
            rows.append((video, start, end, _label(item, path, place), score))
    return pd.DataFrame(rows, columns=list(DETECTION_COLUMNS)).astype(
        {"start": np.float64, "end": np.float64, "score": np.float64}
    )


def _detections_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except FileNotFoundError:
        raise DataError("no such file", where=path) from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"not a readable CSV table: {error}", where=path) from None
    present = {str(name).strip().lower(): name for name in table.columns}
    chosen = {}
    for column, aliases in ALIASES.items():
        found = [present[alias] for alias in aliases if alias in present]
        if not found:
            raise DataError(
                f"column {column} is missing, the file has {_some(list(present))}",
                where=path,
                hint=f"accepted: {', '.join(aliases)}",
            )
        chosen[found[0]] = column
    table = table[list(chosen)].rename(columns=chosen)
    for column in ("start", "end", "score"):
        number = pd.to_numeric(table[column], errors="coerce")
        bad = number.isna().to_numpy()
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"{column} is {table[column].iloc[row]} in line {row + 2}", where=path)
        table[column] = number.astype(np.float64)
    for column in ("video", "label"):
        if table[column].isna().any():
            row = int(np.argmax(table[column].isna().to_numpy()))
            raise DataError(f"{column} is empty in line {row + 2}", where=path)
    return table.assign(video=table["video"].astype(str))[list(DETECTION_COLUMNS)]


def _videos_of(database: Mapping[str, Any], subset: str | None, path: Path) -> list[str]:
    subsets = {}
    for video, entry in database.items():
        if not isinstance(entry, dict):
            raise DataError(f"video {video!r} is not an object", where=path)
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
            raise DataError(f"annotations of video {video!r} are not a list", where=path)
        for k, item in enumerate(found):
            place = f"annotation {k} of video {video!r}"
            start, end = _segment(item, path, place)
            label_id = item.get("label_id")
            if label_id is not None and (isinstance(label_id, bool) or not isinstance(label_id, int)):
                raise DataError(f"label_id of {place} is {label_id!r}, not a whole number", where=path)
            yield video, start, end, _label(item, path, place), label_id


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", where=path) from None


def _member(item: Any, key: str, path: Path, place: str) -> Any:
    if not isinstance(item, dict):
        raise DataError(f"{place} is not an object", where=path)
    if key not in item:
        raise DataError(
            f"{place} has no {key!r}", where=path, hint=f"it has {_some(list(item)) or 'nothing'}"
        )
    return item[key]


def _segment(item: Any, path: Path, place: str) -> tuple[float, float]:
    segment = _member(item, "segment", path, place)
    if not isinstance(segment, list) or len(segment) != 2:
        raise DataError(
            f"the segment of {place} is {segment!r}", where=path, hint="give [start, end] in seconds"
        )
    return _number(segment[0], path, f"the start of {place}"), _number(
        segment[1], path, f"the end of {place}"
    )


def _label(item: Mapping[str, Any], path: Path, place: str) -> Any:
    label = _member(item, "label", path, place)
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise DataError(f"the label of {place} is {label!r}", where=path, hint="give a name or a label id")
    return label


def _number(value: Any, path: Path, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{place} is {value!r}, not a number", where=path)
    return float(value)


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


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
