"""Label assignment and losses for given outputs, with gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tal_bench.config import DetectorSpec
from tal_bench.converters.original_config import train_spec
from tal_bench.data.batches import pack_segments
from tal_bench.models.losses import detection_loss
from tal_bench.models.targets import assign, pyramid_points
from tal_bench.types import DetectorOutput

from ..fixtures import Fixture
from . import Compared, Kind, has
from .arrays import Arrays, default_device, near, relative
from .networks import GRADIENT, LOSS, assignment, losses


def check(fixture: Fixture) -> Iterator[Compared]:
    """Compare every case of the fixture, with its training settings."""
    arrays, meta = Arrays(fixture), fixture.meta
    first_level = int(meta["strides"][0]).bit_length() - 1
    spec = DetectorSpec(
        structure="conv",
        inputs="all",
        primary={"rgb": 1},
        classes=meta["num_classes"],
        max_length=meta["max_seq_len"],
        branch_blocks=len(meta["strides"]) - 1 + first_level,
        first_level=first_level,
        regression_ranges=meta["regression_range"],
    )
    assert list(spec.level_strides) == meta["strides"], f"strides {meta['strides']}"
    for name, case in meta["cases"].items():
        yield from _case(name, case, spec, arrays)
    arrays.finish()


def _case(name: str, case: dict[str, Any], spec: DetectorSpec, arrays: Arrays) -> Iterator[Compared]:
    logits = [x.requires_grad_() for x in arrays.several(f"{name}/logits")]
    offsets = [x.requires_grad_() for x in arrays.several(f"{name}/offsets")]
    empty = torch.empty(0)
    output = DetectorOutput(logits, offsets, arrays.several(f"{name}/mask"), empty, empty)
    settings = train_spec(case["train_cfg"])
    targets = assign(
        pyramid_points(spec, [x.shape[1] for x in logits], default_device()),
        *pack_segments(arrays.several(f"{name}/segments"), arrays.several(f"{name}/labels")),
        spec.classes,
        settings.radius,
    )
    yield from assignment(name, targets, arrays)
    before, after = case["loss_normalizer"]
    loss = detection_loss(output, targets, torch.tensor(float(before)), settings)
    yield relative(f"{name}/normaliser", loss.normalizer, after, LOSS)
    yield from losses(name, loss.classification, loss.regression, loss.total, case["losses"])
    loss.total.backward()
    for what, ours in (("logits", logits), ("offsets", offsets)):
        theirs = arrays.several(f"{name}/grad_{what}")
        scale = max(1e-12, *(float(g.abs().max()) for g in theirs))
        for level, (x, g) in enumerate(zip(ours, theirs, strict=True)):
            grad = torch.zeros_like(x) if x.grad is None else x.grad
            yield near(f"{name}/grad_{what}/{level}", grad / scale, g / scale, GRADIENT)


KIND: Kind = Kind("losses", has("cases", "regression_range"), check)
