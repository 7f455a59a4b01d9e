"""HACS Segments 1.1.1 with SlowFast features, in OpenTAD's layout.

Settings are TriDet's, which learns the 200 classes without external scores; other detectors are as wide as
OpenTAD's ActionFormer. TriDet's own layout has features in pickles, which are not read here; OpenTAD has the
same features as arrays.
"""

from __future__ import annotations

from tal_bench.data.datasets.presets.activitynet import TIOU
from tal_bench.data.datasets.presets.epic import slowfast
from tal_bench.data.registry import add_preset

FOLDER = "features/slowfast101_15fps_stride8_len32_hacs"

add_preset(
    "HACS Segments 1.1.1 with SlowFast features in OpenTAD's layout, 200 classes",
    folders=("hacs-1.1.1", "hacs", "."),
    marker="annotations/HACS_segments_v1.1.1.json",
    files=(
        "annotations/HACS_segments_v1.1.1.json",
        f"{FOLDER}/<video>.npy  [T, 2304]: SlowFast-101, windows of 32 frames at 15 fps, stride 8",
    ),
    name="hacs",
    annotations="annotations/HACS_segments_v1.1.1.json",
    modalities=slowfast(FOLDER, ".npy"),
    stride=8,
    window=32,
    fps=15,
    train=("training",),
    test=("validation",),
    missing="skip",
    max_length=960,
    tiou=TIOU,
    detector={
        "width": 256,
        "head_width": 256,
        "attention_window": [13, 13, 13, 13, 13, 1],
        "position_embedding": True,
    },
    training={
        "lr": 1e-3,
        "epochs": 10,
        "batch_size": 16,
        "weight_decay": 0.03,
        "label_smoothing": 0.1,
        "loss_normalizer": 400.0,
    },
    decoding={"nms_sigma": 0.75, "max_detections": 250},
    models={
        "tridet": {
            "detector": {
                "width": 1024,
                "head_width": 1024,
                "head_kernel": 5,
                "boundary_kernel": 1,
                "bins": 14,
                "sgp_window": 3,
                "sgp_scale": 1.2,
                "sgp_hidden": 1024,
            },
            "training": {
                "warmup_epochs": 7,
                "epochs": 4,
                "iou_power": 1.0,
                "input_noise": 0.2,
                "clip": 0.5,
            },
        }
    },
)
