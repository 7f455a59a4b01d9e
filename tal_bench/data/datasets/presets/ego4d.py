"""Ego4D Moment Queries: features of several networks, and Recall@kx in addition to the mAP.

Students read SlowFast's features, teachers also those of Omnivore and EgoVLP, so that a student saves two
networks.
"""

from __future__ import annotations

from typing import Any, Literal

from tal_bench.data.registry import add_preset

RANGES = [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 128], [64, 10000]]
COMMON: dict[str, Any] = {
    "stride": 16,
    "window": 32,
    "fps": 30,
    "max_length": 1024,
    "missing": "skip",
    "tiou": (0.1, 0.2, 0.3, 0.4, 0.5),
    "recall": (1, 5),
    "training": {"epochs": 10, "truncation": 0.3},
    "decoding": {"topk": 5000, "max_detections": 2000, "nms_sigma": 0.9},
}
DETECTOR: dict[str, Any] = {
    "width": 1024,
    "head_width": 1024,
    "attention_heads": 16,
    "attention_window": 9,
    "branch_blocks": 6,
    "regression_ranges": RANGES,
    "position_embedding": True,
}


def stream(
    folder: str, channels: int, role: Literal["primary", "privileged"], *, nonnegative: bool = False
) -> dict[str, Any]:
    """Return the stream of one network's features."""
    return {"role": role, "folder": folder, "channels": channels, "nonnegative": nonnegative}


add_preset(
    "Ego4D Moment Queries, SlowFast, Omnivore and EgoVLP features in ActionFormer's layout, 110 classes",
    folders=("ego4d", "."),
    marker="annotations/ego4d.json",
    files=(
        "annotations/ego4d.json  one entry per clip",
        "slowfast_features/<clip>.npy  [T, 2304]: windows of 32 frames at 30 fps, stride 16",
        "omnivore_features/<clip>.npy  [T, 1536]",
        "egovlp_features/<clip>.npy  [T, 256]",
    ),
    name="ego4d-mq",
    annotations="annotations/ego4d.json",
    modalities={
        "slowfast": stream("slowfast_features", 2304, "primary", nonnegative=True),
        "omnivore": stream("omnivore_features", 1536, "privileged"),
        "egovlp": stream("egovlp_features", 256, "privileged"),
    },
    train=("training",),
    test=("validation",),
    detector=DETECTOR,
    **COMMON,
)
add_preset(
    "Ego4D Moment Queries with SlowFast features in OpenTAD's layout",
    folders=("ego4d", "."),
    marker="annotations/ego4d_v2_220429_feature.json",
    files=(
        "annotations/ego4d_v2_220429_feature.json  subsets train and val",
        "features/mq_slowfast/<clip>.npy  [T, 2304]: windows of 32 frames at 30 fps, stride 16",
    ),
    name="ego4d-mq-opentad",
    annotations="annotations/ego4d_v2_220429_feature.json",
    modalities={"slowfast": stream("features/mq_slowfast", 2304, "primary", nonnegative=True)},
    train=("train",),
    test=("val",),
    detector={
        "attention_window": [9, 9, 9, 9, 9, 9, 1, 1, 1],
        "branch_blocks": 8,
        "regression_ranges": [*RANGES[:-1], [64, 256], [128, 512], [256, 10000]],
        "position_embedding": True,
    },
    **{
        **COMMON,
        "training": {**COMMON["training"], "epochs": 20},
        "decoding": {**COMMON["decoding"], "nms_sigma": 2.0},
    },
)
