"""A training step against a plain implementation."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from tiny import tiny_spec
from torch import nn

from tal_bench.config import DetectorSpec, TrainSpec
from tal_bench.models.backbone import sufficient_length
from tal_bench.models.detector import Detector
from tal_bench.models.losses import detection_loss
from tal_bench.models.ops import depthwise
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.models.structures import structures
from tal_bench.models.targets import assign, plain_assign, pyramid_points
from tal_bench.training import step as step_module
from tal_bench.training.device import Device
from tal_bench.training.schedule import learning_rate
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch

ARCHITECTURE = DetectorSpec(
    structure="actionformer",
    inputs="all",
    primary={"rgb": 6},
    classes=3,
    max_length=64,
    width=16,
    head_width=16,
    attention_window=5,
    relative_positions=True,
    branch_blocks=2,
    stem_blocks=1,
    drop_path=0.0,
    regression_ranges=((0, 4), (4, 8), (8, 10000)),
)


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.rand(4, 1, generator=generator) * 30
    segments = torch.cat([starts, starts + 3 + 20 * torch.rand(4, 1, generator=generator)], dim=1)
    return Batch(
        {"rgb": torch.randn(2, 6, 64, generator=generator)},
        torch.ones(2, 64, dtype=torch.bool),
        segments.view(2, 2, 2),
        torch.tensor([[0, 1], [2, 1]]),
        [],
    )


def plain(model: Detector, spec: TrainSpec, batches: list[Batch]) -> nn.Module:
    """Train with AdamW, decaying only weights of convolutions and linear layers, and return the average."""
    kinds = {
        f"{name}.weight" for name, m in model.named_modules() if not isinstance(m, nn.LayerNorm)
    }  # weights of convolutions; no other module here has weights with more than one dimension
    decayed = [p for n, p in model.named_parameters() if n in kinds]
    rest = [p for n, p in model.named_parameters() if n not in kinds]
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=spec.lr, foreach=False)
    average = copy.deepcopy(model)
    normalizer = torch.tensor(spec.loss_normalizer)
    model.train()
    for i, b in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(i, steps_per_epoch=2, spec=spec)
        output = model(b)
        points = pyramid_points(model.spec, [x.shape[1] for x in output.logits])
        loss = detection_loss(output, assign(points, b.segments, b.labels, 3, spec.radius), normalizer, spec)
        normalizer = loss.normalizer
        model.zero_grad()
        loss.total.backward()
        if spec.clip is not None:
            norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
            for p in model.parameters():
                assert p.grad is not None
                p.grad *= min(1.0, spec.clip / (float(norm) + 1e-6))
        optimizer.step()
        for mean, p in zip(average.parameters(), model.parameters(), strict=True):
            mean.data = spec.ema * mean.data + (1 - spec.ema) * p.data
    return average


@pytest.mark.parametrize("clip", [0.5, None])
def test_a_step_is_adamw_clipping_and_average(clip: float | None) -> None:
    torch.manual_seed(0)
    spec = TrainSpec(lr=1e-3, warmup_epochs=1, epochs=2, ema=0.9, clip=clip, weight_decay=0.3)
    ours = Detector(ARCHITECTURE)
    theirs = copy.deepcopy(ours)
    batches = [batch(seed) for seed in range(5)]
    average = plain(theirs, spec, batches)
    step = TrainingStep(ours, ARCHITECTURE, spec, steps_per_epoch=2, device=Device("cpu"))
    for b in batches:
        losses = step(b)
        assert not losses["total"].requires_grad
    assert step.count == 5
    named = zip(ours.named_parameters(), theirs.parameters(), average.parameters(), strict=True)
    for (name, p), q, mean in named:
        if "projections.1.bias" in name or "norms.1.bias" in name:
            continue  # their gradients are 0 up to rounding, which AdamW amplifies
        torch.testing.assert_close(p, q, atol=2e-5, rtol=1e-4, msg=name)
        torch.testing.assert_close(step.average.module.get_parameter(name), mean, atol=2e-5, rtol=1e-4)


def test_noise_is_added_for_the_student_only() -> None:
    torch.manual_seed(0)
    seen: dict[str, torch.Tensor] = {}
    student, b = Detector(ARCHITECTURE), batch(0)
    student.inputs.register_forward_hook(lambda module, given, out: seen.update(student=out.detach()))
    step = TrainingStep(
        student, ARCHITECTURE, TrainSpec(input_noise=0.5), steps_per_epoch=1, device=Device("cpu")
    )
    step(b)
    added = seen["student"] - b.features["rgb"].transpose(1, 2)
    assert 0.4 < float(added.std()) < 0.6


def plain_parts(patch: pytest.MonkeyPatch) -> None:
    """Replace compiled loops by library calls."""
    patch.setattr(depthwise, "MAX_ELEMENTS", 0)
    patch.setattr(step_module, "assign", plain_assign)


@pytest.mark.parametrize("structure", structures.names())
@pytest.mark.parametrize("compiled", [True, False])
def test_gradients_of_a_step_by_structure(
    structure: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of library calls on inputs that are padded to the maximal length."""
    spec = TrainSpec(lr=1e-3, clip=None, warmup_epochs=0)
    architecture = detector_spec(get_model(f"{structure}-hallucinated"), tiny_spec(), 3)
    torch.manual_seed(0)
    first = get_model(f"{structure}-hallucinated").build(architecture)
    for p in first.parameters():
        p.data += 0.05 * torch.randn_like(p)
    steps = 37
    short = batch(0)
    features = torch.randn(2, 8, 64) * (torch.arange(64) < steps)
    mask = (torch.arange(64) < steps).expand(2, 64)
    length = sufficient_length(architecture, steps)
    gradients, losses = [], []
    for padded, plain_ in ((length, not compiled), (64, True)):
        with monkeypatch.context() as patch:
            if plain_:
                plain_parts(patch)
            step = TrainingStep(
                copy.deepcopy(first), architecture, spec, steps_per_epoch=2, device=Device("cpu")
            )
            cut = replace(short, features={"rgb": features[:, :, :padded]}, mask=mask[:, :padded])
            torch.manual_seed(1)
            losses.append(step(cut))
            gradients.append({n: p.grad for n, p in step.student.named_parameters() if p.grad is not None})
    torch.testing.assert_close(losses[0], losses[1], atol=1e-6, rtol=1e-5)
    for name, expected in gradients[1].items():
        error = float((gradients[0][name] - expected).norm())
        assert error <= 1e-5 * float(expected.norm()) + 1e-6, name
