"""Reconcile label and video names that differ between detections and ground truth."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tal_bench.config import brief
from tal_bench.errors import DataError
from tal_bench.evaluation.files import abbreviate

VIDEO_SUFFIX = re.compile(r"\.(mp4|mkv|avi|webm|mov|m4v)$", re.IGNORECASE)


def align_labels(detections: pd.DataFrame, ground_truth: pd.DataFrame, where: object = None) -> pd.DataFrame:
    """Return detections with the label names of the ground truth, looking up numeric labels in its label_id.

    Labels without ground truth are kept; `match` drops them.

    Raises:
        DataError: No detection has a label of the ground truth.
    """
    if detections.empty:
        return detections
    known = set(ground_truth["label"])
    label = detections["label"]
    if "label_id" in ground_truth and not label.isin(known).any():
        ids = pd.to_numeric(label, errors="coerce")
        names = dict(zip(ground_truth["label_id"].tolist(), ground_truth["label"].tolist(), strict=True))
        if (np.isfinite(ids) & (ids % 1 == 0)).all() and ids.isin(list(names)).any():
            # Unknown ids become strings that cannot collide with a label name.
            return detections.assign(label=[names.get(int(k), f"label_id {int(k)}") for k in ids])
    if not label.isin(known).any():
        by_text = {str(name): name for name in known}
        if label.astype(str).isin(list(by_text)).any():  # 7 in one file, "7" in the other
            return detections.assign(label=[by_text.get(str(name), name) for name in label])
        raise DataError(
            f"no detection has a label of the ground truth, the first has {brief(str(label.iloc[0]))}",
            where=where,
            hint=f"the ground truth has {abbreviate(sorted(map(str, known)))}",
        )
    return detections


def align_videos(detections: pd.DataFrame, videos: Sequence[str], where: object = None) -> pd.DataFrame:
    """Return detections with the video names of the ground truth.

    If no name is known, names are compared without file suffixes (`.mp4`) and ActivityNet's prefix `v_`,
    which only some programs write.

    Raises:
        DataError: No detection is in any of the videos.
    """
    names = detections["video"]
    if detections.empty or names.isin(videos).any():
        return detections
    by_stem = {_stem(name): name for name in videos}
    renamed = names.map(lambda name: by_stem.get(_stem(name), name))
    if renamed.isin(videos).any():
        return detections.assign(video=renamed)
    raise DataError(
        f"no detection is in a video of the ground truth, the first is in {brief(names.iloc[0])}",
        where=where,
        hint=f"the ground truth has {abbreviate(list(videos))}; see --subset",
    )


def _stem(name: str) -> str:
    return VIDEO_SUFFIX.sub("", name).removeprefix("v_")
