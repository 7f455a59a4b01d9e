"""Ground truth and detections in the folder of a study, whose labels are the names of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.errors import InputError


def read_segments(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read the segments of an ActivityNet-style annotation file and the names of all its videos.

    Raises:
        FileNotFoundError: The file does not exist.
        InputError: The file is malformed.
    """
    try:
        database = _json(file)["database"]
        lines = [
            (video, *map(float, a["segment"]), a["label"])
            for video, entry in database.items()
            for a in entry["annotations"]
        ]
        return pd.DataFrame(lines, columns=["video", "start", "end", "label"]), sorted(database)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not ActivityNet-style annotations: {error!r}", where=file) from None


def read_groups(file: Path) -> dict[str, str] | None:
    """Read the group of every test video (a person, a camera); None if the videos are not grouped.

    Raises:
        InputError: The file is malformed, or only some videos have a group.
    """
    try:
        groups = {video: entry.get("group") for video, entry in _json(file)["database"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not ActivityNet-style annotations: {error!r}", where=file) from None
    grouped = {video: str(group) for video, group in groups.items() if group is not None}
    if grouped and len(grouped) < len(groups):
        raise InputError(f"{len(groups) - len(grouped)} videos without a group", where=file)
    return grouped or None


def read_result_file(file: Path) -> pd.DataFrame:
    """Read an ActivityNet-style result file.

    Raises:
        InputError: The file is malformed.
    """
    try:
        results = _json(file)["results"]
        found = [d for detections in results.values() for d in detections]
        segments = [d["segment"] for d in found]
        starts, ends = zip(*segments, strict=True) if segments else ((), ())
        return pd.DataFrame(
            {
                "video": [video for video, detections in results.items() for _ in detections],
                "start": list(map(float, starts)),
                "end": list(map(float, ends)),
                "label": [d["label"] for d in found],
                "score": [float(d["score"]) for d in found],
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not ActivityNet-style detections: {error!r}", where=file) from None


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
