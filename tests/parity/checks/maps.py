"""Average precision and recall of detections against ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.evaluation.files import read_detections, read_ground_truth
from tal_bench.evaluation.mean_ap import interpolated_ap
from tal_bench.evaluation.recall import recall_at_k

from ..fixtures import Fixture
from . import Compared, Kind

TOLERANCE = 1e-9


def check(fixture: Fixture) -> Iterator[Compared]:
    """Compare results from the files and, if the fixture has them, from the arrays; labels are label ids.

    Detections whose label has no ground truth are dropped, so the reference is the numbers of that name.
    """
    meta, tensors = fixture.meta, fixture.tensors
    truth = read_ground_truth(fixture.folder / meta["gt_json"], meta.get("split"))
    truth = truth.assign(label=truth["label_id"])
    files = read_detections(fixture.folder / meta["pred_csv"])
    suffix = "_unknown_labels_dropped" if "ap_per_class_unknown_labels_dropped" in tensors else ""
    thresholds = tensors["tiou"]
    for source, detections in (("files", files), ("arrays", _from_arrays(fixture))):
        if detections is None:
            continue
        result = interpolated_ap(detections, truth, thresholds)
        classes = np.array(result.classes)
        assert np.array_equal(classes, tensors["class_label_ids"]), f"classes {classes} of {fixture.id}"
        pairs: list[tuple[str, Any, Any]] = [
            ("ap", result.ap, tensors[f"ap_per_class{suffix}"]),
            ("mAP", result.map, tensors[f"mAP{suffix}"]),
        ]
        if f"average_mAP{suffix}" in meta:
            pairs.append(("average", result.average, meta[f"average_mAP{suffix}"]))
        if "recall_per_class" in tensors:
            recall = recall_at_k(detections, truth, thresholds, meta["top_k"])
            pairs += [
                ("recall", recall.recall, tensors["recall_per_class"]),
                ("mean recall", recall.mean, tensors["mRecall"]),
            ]
        for what, ours, theirs in pairs:
            yield Compared(f"{source}: {what}", float(np.abs(ours - theirs).max()), TOLERANCE)


def _from_arrays(fixture: Fixture) -> pd.DataFrame | None:
    arrays = fixture.tree("pred")
    if not arrays:
        return None
    videos = np.array(fixture.meta["pred_video_ids"], dtype=object)
    return pd.DataFrame(
        {
            "video": videos[arrays["video"]],
            "start": arrays["segments"][:, 0],
            "end": arrays["segments"][:, 1],
            "label": arrays["labels"],
            "score": arrays["scores"],
        }
    )


def _recognises(meta: dict[str, Any]) -> bool:
    return "gt_json" in meta and "pred_csv" in meta


KIND: Kind = Kind("maps", _recognises, check)
