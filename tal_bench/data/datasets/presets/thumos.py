"""THUMOS14 and MultiTHUMOS: the same videos and I3D features, annotated with 20 and with 65 classes.

ActionFormer tests on the 212 videos of its annotation file. OpenTAD drops `video_test_0000270` (wrong
annotations) and `video_test_0001292` (no annotations; not in ActionFormer's file), which leaves 211.
"""

from __future__ import annotations

from typing import Any, Literal

from tal_bench.data.registry import add_preset

DROPPED = ("video_test_0000270", "video_test_0001292")
TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
I3D: dict[str, Any] = {"stride": 4, "window": 16, "max_length": 2304}
FEATURES = "{}<video>.npy  [T, 2048]: I3D RGB 1024, then flow 1024; windows of 16 frames, stride 4"


def two_streams(folder: str) -> dict[str, Any]:
    """Return the streams of I3D's RGB and flow features, which share one file per video."""

    def stream(role: Literal["primary", "privileged"], first: int) -> dict[str, Any]:
        columns = (first, first + 1024)
        return {"role": role, "folder": folder, "channels": 1024, "columns": columns, "nonnegative": True}

    return {"rgb": stream("primary", 0), "flow": stream("privileged", 1024)}


add_preset(
    "THUMOS14 with two-stream I3D features in ActionFormer's layout, 20 classes, 212 test videos",
    folders=("thumos", "thumos14", "."),
    marker="annotations/thumos14.json",
    files=("annotations/thumos14.json", FEATURES.format("i3d_features/")),
    name="thumos14",
    annotations="annotations/thumos14.json",
    modalities=two_streams("i3d_features"),
    train=("validation",),
    test=("test",),
    **I3D,
)
add_preset(
    "THUMOS14 in OpenTAD's layout and protocol, 211 test videos",
    folders=("thumos-14", "."),
    marker="annotations/thumos_14_anno.json",
    files=(
        "annotations/thumos_14_anno.json  subsets training and validation; frame instead of fps",
        FEATURES.format("features/i3d_actionformer_stride4_thumos/"),
    ),
    name="thumos14-opentad",
    annotations="annotations/thumos_14_anno.json",
    modalities=two_streams("features/i3d_actionformer_stride4_thumos"),
    train=("training",),
    test=("validation",),
    exclude=DROPPED,
    ignore_labels=("Ambiguous",),
    decoding={"max_detections": 2000},
    **I3D,
)
add_preset(
    "MultiTHUMOS, 65 classes that overlap, with THUMOS14's features, in TemporalMaxer's layout",
    folders=(".",),
    marker="multithumos/multithumos.json",
    files=("multithumos/multithumos.json", FEATURES.format("thumos/i3d_features/")),
    name="multithumos",
    annotations="multithumos/multithumos.json",
    modalities=two_streams("thumos/i3d_features"),
    train=("validation",),
    test=("test",),
    tiou=TIOU,
    training={"epochs": 60},
    decoding={"topk": 3000, "max_detections": 300},
    **I3D,
)
add_preset(
    "MultiTHUMOS in OpenTAD's layout",
    folders=(".",),
    marker="multithumos/annotations/multithumos_anno.json",
    files=(
        "multithumos/annotations/multithumos_anno.json",
        FEATURES.format("thumos-14/features/i3d_actionformer_stride4_thumos/"),
    ),
    name="multithumos-opentad",
    annotations="multithumos/annotations/multithumos_anno.json",
    modalities=two_streams("thumos-14/features/i3d_actionformer_stride4_thumos"),
    train=("training",),
    test=("validation",),
    tiou=TIOU,
    ignore_labels=("Ambiguous",),
    training={"epochs": 60},
    decoding={"topk": 8000, "max_detections": 8000},
    models={"actionformer": {"detector": {"embed_layers": 3, "stem_blocks": 0}}},
    **I3D,
)
