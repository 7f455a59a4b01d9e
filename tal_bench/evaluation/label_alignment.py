"""Names of labels and videos that two programs write differently."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tal_bench.config import brief
from tal_bench.errors import DataError
from tal_bench.evaluation.files import some

MEDIA = re.compile(r"\.(mp4|mkv|avi|webm|mov|m4v)$", re.IGNORECASE)


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
        if (np.isfinite(ids) & (ids % 1 == 0)).all() and ids.isin(list(names)).any():
            # The type of a name differs from that of an id: keep unknown ids apart from every name.
            return detections.assign(label=[names.get(int(k), f"label_id {int(k)}") for k in ids])
    if not label.isin(known).any():
        spelled = {str(name): name for name in known}
        if label.astype(str).isin(list(spelled)).any():  # one file says 7, the other "7"
            return detections.assign(label=[spelled.get(str(name), name) for name in label])
        raise DataError(
            f"no detection has a label of the ground truth, the first has {brief(str(label.iloc[0]))}",
            where=where,
            hint=f"the ground truth has {some(sorted(map(str, known)))}",
        )
    return detections


def align_videos(detections: pd.DataFrame, videos: Sequence[str], where: object = None) -> pd.DataFrame:
    """Detections with the video names of the ground truth.

    Where not one name is known, a file ending (`.mp4`) and ActivityNet's prefix `v_`, which some programs
    write and others do not, are left out of account.

    Raises:
        DataError: not one detection is in any of the videos.
    """
    found = detections["video"]
    if detections.empty or found.isin(videos).any():
        return detections
    plain = {_plain(name): name for name in videos}
    renamed = found.map(lambda name: plain.get(_plain(name), name))
    if renamed.isin(videos).any():
        return detections.assign(video=renamed)
    raise DataError(
        f"no detection is in a video of the ground truth, the first is in {brief(found.iloc[0])}",
        where=where,
        hint=f"the ground truth has {some(list(videos))}; see --subset",
    )


def _plain(name: str) -> str:
    return MEDIA.sub("", name).removeprefix("v_")
