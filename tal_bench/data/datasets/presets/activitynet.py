"""ActivityNet-1.3: features resized to 192 steps, a one-class detector, and classes from video-level scores.

Settings are those of ActionFormer's configurations. The scores come from the CUHK submission of 2017 and
cover the validation videos, which are the test videos here.
"""

from __future__ import annotations

from typing import Any

from tal_bench.data.datasets.presets.thumos import two_streams
from tal_bench.data.registry import add_preset

TIOU = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
STEPS = 192
COMMON: dict[str, Any] = {
    "stride": 16,
    "window": 16,
    "resize": STEPS,
    "max_length": STEPS,
    "train": ("training",),
    "test": ("validation",),
    "tiou": TIOU,
    "detector": {
        "width": 256,
        "head_width": 256,
        "attention_window": [7, 7, 7, 7, 7, 1],
        "position_embedding": True,
    },
    "training": {
        "lr": 1e-3,
        "epochs": 10,
        "batch_size": 16,
        "label_smoothing": 0.1,
        "regression_weight": 2.0,
        "loss_normalizer": 200.0,
    },
    "decoding": {
        "class_agnostic": True,
        "nms_sigma": 0.75,
        "voting": 0.9,
        "max_detections": 100,
        "min_length": 0.001,
    },
    "models": {
        "tridet": {
            "detector": {"sgp_window": 15, "sgp_scale": 1.3, "sgp_hidden": 2048, "bins": 12},
            "training": {"iou_power": 1.0, "input_noise": 0.5, "weight_decay": 0.04, "clip": 0.4},
            "decoding": {"nms_sigma": 0.7, "voting": 0.95, "max_detections": 200},
        }
    },
}
SCORES = "annotations/cuhk_val_simp_share.json"


def tsp(folder: str) -> dict[str, Any]:
    """Return the stream of TSP's RGB features."""
    stream = {"role": "primary", "folder": folder, "prefix": "v_", "channels": 512, "nonnegative": True}
    return {"rgb": stream}


def i3d(folder: str) -> dict[str, Any]:
    """I3D's two streams in one file."""
    return {name: {**stream, "prefix": "v_"} for name, stream in two_streams(folder).items()}


add_preset(
    "ActivityNet-1.3 with TSP features in ActionFormer's layout, 200 classes by external scores",
    folders=("anet_1.3", "activitynet-1.3", "."),
    marker="annotations/anet1.3_tsp_filtered.json",
    files=(
        "annotations/anet1.3_tsp_filtered.json",
        f"{SCORES}  class scores of whole videos",
        "tsp_features/v_<video>.npy  [T, 512]: windows of 16 frames at 15 fps, stride 16",
    ),
    name="activitynet-1.3",
    annotations="annotations/anet1.3_tsp_filtered.json",
    scores=SCORES,
    modalities=tsp("tsp_features"),
    fps=15,
    **COMMON,
)
add_preset(
    "ActivityNet-1.3 with two-stream I3D features in ActionFormer's layout",
    folders=("anet_1.3", "activitynet-1.3", "."),
    marker="annotations/anet1.3_i3d_filtered.json",
    files=(
        "annotations/anet1.3_i3d_filtered.json",
        f"{SCORES}  class scores of whole videos",
        "i3d_features/v_<video>.npy  [T, 2048]: I3D RGB 1024, then flow 1024; 16 frames at 25 fps, stride 16",
    ),
    name="activitynet-1.3-i3d",
    annotations="annotations/anet1.3_i3d_filtered.json",
    scores=SCORES,
    modalities=i3d("i3d_features"),
    fps=25,
    **COMMON,
)
add_preset(
    "ActivityNet-1.3 with TSP features in OpenTAD's layout; videos without features are left out",
    folders=("activitynet-1.3", "."),
    marker="annotations/activity_net.v1-3.min.json",
    files=(
        "annotations/activity_net.v1-3.min.json",
        "classifiers/cuhk_val_simp_7.json  class scores of whole videos",
        "features/anet_tsp_npy_unresize/v_<video>.npy  [T, 512]",
    ),
    name="activitynet-1.3-opentad",
    annotations="annotations/activity_net.v1-3.min.json",
    scores="classifiers/cuhk_val_simp_7.json",
    modalities=tsp("features/anet_tsp_npy_unresize"),
    fps=15,
    missing="skip",
    **{**COMMON, "stride": 0},
)
