"""Checkpoints and configuration files in the form of the original programs, from given weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

OTHER_SECTIONS = ("input_dim", "num_classes", "max_seq_len", "train_cfg", "test_cfg")
"""Constructor arguments that are not in the section `model` of a configuration file."""


def write_checkpoint(path: Path, ema: Mapping[str, Tensor], raw: Mapping[str, Tensor] | None = None) -> Path:
    """Write a checkpoint as the training programs do: weights, their EMA, optimizer and scheduler."""
    raw = {name: torch.zeros_like(value) for name, value in ema.items()} if raw is None else raw
    step = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    content = {
        "epoch": 35,
        "state_dict": {f"module.{name}": value for name, value in raw.items()},
        "scheduler": {"last_epoch": 350, "base_lrs": [1e-4], "_last_lr": [1e-8]},
        "optimizer": {"state": {0: step}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]},
        "state_dict_ema": {f"module.{name}": value for name, value in ema.items()},
        "mAP": np.float64(0.5),
    }
    torch.save(content, path)
    return path


def actionformer_weights(
    channels: int, classes: int, *, width: int = 16, levels: int = 5
) -> dict[str, Tensor]:
    """Return random weights of an ActionFormer with one stem block, with the original names and shapes."""
    state: dict[str, Tensor] = {}

    def add(name: str, *shape: int, bias: int = 0) -> None:
        state[f"{name}.weight"] = torch.randn(*shape) / max(1, shape[1]) ** 0.5
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(bias)

    def norm(name: str) -> None:
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(1, width, 1)
        state[f"{name}.bias"] = 0.1 * torch.randn(1, width, 1)

    for index, c_in in enumerate((channels, width)):
        add(f"backbone.embd.{index}.conv", width, c_in, 3)
        norm(f"backbone.embd_norm.{index}")
    for block in ("stem.0", *(f"branch.{i}" for i in range(levels - 1))):
        name = f"backbone.{block}"
        for index in (1, 2):
            norm(f"{name}.ln{index}")
        for part in ("query", "key", "value"):
            add(f"{name}.attn.{part}_conv.conv", width, 1, 3)
            norm(f"{name}.attn.{part}_norm")
            add(f"{name}.attn.{part}", width, width, 1, bias=width)
        add(f"{name}.attn.proj", width, width, 1, bias=width)
        add(f"{name}.mlp.0", 4 * width, width, 1, bias=4 * width)
        add(f"{name}.mlp.3", width, 4 * width, 1, bias=width)
        for branch in ("attn", "mlp"):
            state[f"{name}.drop_path_{branch}.scale"] = 0.1 * torch.randn(1, width, 1)
    for level in range(levels):
        norm(f"neck.fpn_norms.{level}")
        state[f"reg_head.scale.{level}.scale"] = torch.tensor(1.0 + 0.1 * level)
    for head, last, outputs in (("cls_head", "cls_head", classes), ("reg_head", "offset_head", 2)):
        for index in range(2):
            add(f"{head}.head.{index}.conv", width, width, 3)
            norm(f"{head}.norm.{index}")
        add(f"{head}.{last}.conv", outputs, width, 3, bias=outputs)
    return state


def write_configuration(path: Path, arguments: Mapping[str, Any], **sections: Any) -> Path:
    """Write the configuration file (YAML) that gives these constructor arguments."""
    content = {
        "model_name": "LocPointTransformer",
        "dataset_name": "thumos",
        "dataset": {
            "feat_stride": 4,
            "num_frames": 16,
            **{name: arguments[name] for name in OTHER_SECTIONS[:3]},
        },
        "model": {name: value for name, value in arguments.items() if name not in OTHER_SECTIONS},
        "train_cfg": arguments.get("train_cfg", {}),
        "test_cfg": arguments.get("test_cfg", {}),
        **sections,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
