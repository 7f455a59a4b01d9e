"""Focal, distance-IoU and detection loss against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tal_bench.config import TrainSpec
from tal_bench.models.losses import detection_loss, diou_loss, focal_loss
from tal_bench.models.targets import Targets
from tal_bench.types import DetectorOutput

number = st.floats(-8, 8)
length = st.floats(0.05, 20)


@given(number, st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_focal_loss_agrees_with_the_formula(logit: float, y: float) -> None:
    p = 1 / (1 + math.exp(-logit))
    p_t, alpha = (p, 0.25) if y else (1 - p, 0.75)
    ours = focal_loss(torch.tensor(logit, dtype=torch.float64), torch.tensor(y, dtype=torch.float64))
    assert float(ours) == pytest.approx(-alpha * (1 - p_t) ** 2 * math.log(p_t), rel=1e-6, abs=1e-12)


@given(length, length, length, length)
@settings(max_examples=60, deadline=None)
def test_diou_loss_agrees_with_the_formula(a: float, b: float, c: float, d: float) -> None:
    (s1, e1), (s2, e2) = (-a, b), (-c, d)  # around the point at 0
    shared = min(e1, e2) - max(s1, s2)
    iou = shared / ((e1 - s1) + (e2 - s2) - shared)
    centres = (s1 + e1) / 2 - (s2 + e2) / 2
    hull = max(e1, e2) - min(s1, s2)
    ours = diou_loss(torch.tensor([a, b], dtype=torch.float64), torch.tensor([c, d], dtype=torch.float64))
    assert float(ours) == pytest.approx(1 - iou + (centres / hull) ** 2, rel=1e-6, abs=1e-9)


def output(logits: Tensor, offsets: Tensor, mask: Tensor) -> DetectorOutput:
    """Output with the given points on two levels."""
    P = logits.shape[1] // 2
    parts = [(x[:, :P], x[:, P:]) for x in (logits, offsets, mask)]
    return DetectorOutput(*(list(part) for part in parts), inputs=logits, stem=logits)


def case(seed: int = 0, positives: bool = True) -> tuple[Tensor, Tensor, Tensor, Targets]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 8, 3, generator=g, requires_grad=True)
    offsets = torch.rand(2, 8, 2, generator=g, requires_grad=True)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, [3, 6, 7]] = False
    classes = (torch.rand(2, 8, 3, generator=g) > 0.7).float() * positives
    return logits, offsets, mask, Targets(classes, torch.randn(2, 8, 2, generator=g) * 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_detection_loss_agrees_with_the_formula(smoothing: float, weight: float) -> None:
    logits, offsets, mask, targets = case()
    logits, offsets = logits.detach(), offsets.detach()
    targets = Targets(targets.classes, targets.offsets.abs())
    spec = TrainSpec(label_smoothing=smoothing, regression_weight=weight)
    loss = detection_loss(output(logits, offsets, mask), targets, torch.tensor(50.0), spec)
    positive = [(b, p) for b in range(2) for p in range(8) if mask[b, p] and targets.classes[b, p].any()]
    normalizer = 0.9 * 50 + 0.1 * len(positive)
    wanted = targets.classes * (1 - smoothing) + smoothing / 4
    focal = sum(
        float(focal_loss(logits[b, p], wanted[b, p]).sum()) for b in range(2) for p in range(8) if mask[b, p]
    )
    regression = sum(float(diou_loss(offsets[b, p], targets.offsets[b, p])) for b, p in positive)
    assert float(loss.normalizer) == pytest.approx(normalizer)
    assert float(loss.classification) == pytest.approx(focal / normalizer, rel=1e-5)
    assert float(loss.regression) == pytest.approx(regression / normalizer, rel=1e-5)
    assert float(loss.total) == pytest.approx((focal + weight * regression) / normalizer, rel=1e-5)


@pytest.mark.parametrize("positives", [True, False])
@pytest.mark.parametrize("weight", [1.0, "balanced"])
@pytest.mark.parametrize("power", [0.0, 0.2])
def test_gradients_are_finite(positives: bool, weight: float, power: float) -> None:
    logits, offsets, mask, targets = case(positives=positives)  # offsets of unlabelled points may be negative
    with torch.no_grad():
        offsets[0, 0] = 0.0
    spec = TrainSpec(regression_weight=weight, iou_power=power)
    loss = detection_loss(output(logits, offsets, mask), targets, torch.tensor(50.0), spec)
    loss.total.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert bool(logits.grad[mask].any())
    if positives:
        assert offsets.grad is not None
        assert bool(offsets.grad.isfinite().all())
        assert not offsets.grad[(targets.classes.sum(dim=2) == 0) | ~mask].any()
    else:
        assert float(loss.regression.detach()) == 0
        assert float(loss.normalizer) == pytest.approx(45.1)


@pytest.mark.parametrize("power", [0.0, 0.2])
def test_padding_does_not_count(power: float) -> None:
    logits, offsets, mask, targets = case()
    spec = TrainSpec(iou_power=power)
    before = detection_loss(output(logits, offsets, mask), targets, torch.tensor(9.0), spec)
    padded = ~mask[:, :, None]
    changed = Targets(
        torch.where(padded, torch.ones_like(targets.classes), targets.classes),
        torch.where(padded, torch.full_like(targets.offsets, 5.0), targets.offsets),
    )
    changed_output = output(torch.where(padded, 30.0, logits), torch.where(padded, 9.0, offsets), mask)
    after = detection_loss(changed_output, changed, torch.tensor(9.0), spec)
    for name in ("total", "classification", "regression", "normalizer"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name))


def test_the_normalizer_carries_no_gradient() -> None:
    logits, offsets, mask, targets = case()
    loss = detection_loss(output(logits, offsets, mask), targets, torch.tensor(9.0), TrainSpec())
    assert not loss.normalizer.requires_grad
