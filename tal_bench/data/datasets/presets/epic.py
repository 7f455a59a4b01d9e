"""EPIC-Kitchens-100: the same SlowFast features, annotated with verbs and with nouns."""

from __future__ import annotations

from typing import Any, Literal

from tal_bench.data.registry import add_preset

RANGES = [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 10000]]
COMMON: dict[str, Any] = {
    "stride": 16,
    "window": 32,
    "fps": 30,
    "max_length": 2304,
    "tiou": (0.1, 0.2, 0.3, 0.4, 0.5),
    "detector": {"attention_window": 9, "regression_ranges": RANGES},
    "decoding": {"topk": 5000, "max_detections": 2000, "nms_sigma": 0.4},
}
TRAINING: dict[str, dict[str, Any]] = {
    "verb": {"epochs": 16, "truncation": 0.3, "loss_normalizer": 250.0},
    "noun": {"epochs": 16, "truncation": 0.3, "loss_normalizer": 250.0, "label_smoothing": 0.1},
}
TRIDET_TRAINING = {"warmup_epochs": 5, "weight_decay": 0.05, "input_noise": 0.0, "iou_power": 0.25}
TRIDET: dict[str, dict[str, Any]] = {
    "verb": {
        "detector": {"sgp_window": 5, "sgp_scale": 2.0, "sgp_hidden": 1024},
        "training": {**TRIDET_TRAINING, "epochs": 22},
    },
    "noun": {
        "detector": {"sgp_window": 1, "sgp_scale": 4.0, "sgp_hidden": 1024},
        "training": {**TRIDET_TRAINING, "epochs": 14},
    },
}
CLASSES = {"verb": 97, "noun": 300}
WORDS: tuple[Literal["verb", "noun"], ...] = ("verb", "noun")
FEATURES = "{}  [T, 2304]: SlowFast, windows of 32 frames at 30 fps, stride 16"


def slowfast(folder: str, suffix: str) -> dict[str, Any]:
    """Return the stream of SlowFast's features, whose network was trained on the dataset's actions."""
    stream = {"role": "primary", "folder": folder, "suffix": suffix, "channels": 2304, "nonnegative": True}
    return {"slowfast": stream}


for _word in WORDS:
    add_preset(
        f"EPIC-Kitchens-100, {CLASSES[_word]} {_word}s, SlowFast features in ActionFormer's layout",
        folders=("epic_kitchens", "."),
        marker=f"annotations/epic_kitchens_100_{_word}.json",
        files=(f"annotations/epic_kitchens_100_{_word}.json", FEATURES.format("features/<video>.npz")),
        name=f"epic-kitchens-100-{_word}",
        annotations=f"annotations/epic_kitchens_100_{_word}.json",
        modalities=slowfast("features", ".npz"),
        train=("training",),
        test=("validation",),
        classes=CLASSES[_word],
        training=TRAINING[_word],
        models={"tridet": TRIDET[_word]},
        **COMMON,
    )
    add_preset(
        f"EPIC-Kitchens-100, {_word}s, in OpenTAD's layout",
        folders=("epic_kitchens-100", "."),
        marker=f"annotations/epic_kitchens_{_word}.json",
        files=(
            f"annotations/epic_kitchens_{_word}.json  subsets train and val",
            FEATURES.format("features/slowfast_fps30_stride16_clip32/<video>.npy"),
        ),
        name=f"epic-kitchens-100-{_word}-opentad",
        annotations=f"annotations/epic_kitchens_{_word}.json",
        modalities=slowfast("features/slowfast_fps30_stride16_clip32", ".npy"),
        train=("train",),
        test=("val",),
        missing="skip",
        training=TRAINING[_word],
        models={"tridet": TRIDET[_word]},
        **COMMON,
    )
