"""What everything registered must be; a new model, variant, term or dataset is tested as soon as declared."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from study_parts import run_specs
from test_terms import built, leaves, made
from tiny import FAST, tiny_spec
from torch import Tensor, nn

from tal_bench.config import DetectorSpec, DistillSpec, TeacherUse
from tal_bench.data.registry import datasets
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.terms.registry import BRANCHES, TRIDENT_SCORES, terms
from tal_bench.distill.variants import Variant, variants
from tal_bench.models.checkpoint import ModelCard, load_weights, save_model
from tal_bench.models.registry import detector_spec, get_model, model_names, students, teachers
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch, DetectorOutput

K, T, LENGTHS = 3, 256, (256, 150)
"""The shortest T for which temporal attention has a bottleneck on six levels."""
DATASET = tiny_spec().model_copy(update={"max_length": T})
IDLE = r"projections\.1\.bias$|^neck\.attention\.[1-9]"
"""What may have a gradient of zero: adding to all keys alike changes no attention; and the bottlenecks of the
coarse levels have one or two ReLUs at this T, which a random network may have dead."""


def narrow(name: str) -> DetectorSpec:
    """A registered architecture, a few channels wide."""
    spec = detector_spec(get_model(name), DATASET, K)
    widths = {"width": 16, "head_width": 16, "neck_width": spec.neck_width and 16}
    return DetectorSpec.model_validate(spec.model_dump() | widths)


def build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = get_model(name).build(narrow(name))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))  # scales that start at 1e-4 would hide whole branches
    return net


def batch(reads: tuple[str, ...] | None = None, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    features = {
        name: torch.randn(2, m.channels, T, generator=generator) * mask[:, None]
        for name, m in DATASET.modalities.items()
    }
    segments = torch.tensor([[[3.0, 9.0], [20.0, 90.0]], [[40.0, 44.0], [60.0, 75.0]]])
    kept = {name: x for name, x in features.items() if reads is None or name in reads}
    return Batch(kept, mask, segments, torch.tensor([[0, 2], [1, 0]]), [])


def tensors(output: DetectorOutput) -> list[Tensor]:
    return [*output.logits, *output.offsets, output.inputs, output.stem]


@pytest.fixture(params=model_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_model(name: str, tmp_path: Path) -> None:
    """Shapes, masks, determinism, learning, and weights on disk, of one model in one go."""
    model, spec, net = get_model(name), narrow(name), build(name)
    assert model.name == name
    assert model.summary
    assert (name in students) == model.is_student
    assert (name in teachers) != (name in students)
    assert sum(p.numel() for p in net.parameters()) > 0
    given = batch(spec.reads)

    for mode in (net.train(), net.eval()):
        output = mode(given)
        assert isinstance(output, DetectorOutput)
        lengths = [T // stride for stride in spec.level_strides]
        assert [tuple(x.shape) for x in output.logits] == [(2, n, K) for n in lengths]
        assert [tuple(x.shape) for x in output.mask] == [(2, n) for n in lengths]
        per_class = (K,) if spec.trident else ()
        assert [tuple(x.shape) for x in output.offsets] == [(2, n, *per_class, 2) for n in lengths]
        assert output.inputs.shape == (2, spec.input_channels, T)
        assert output.stem.shape == (2, spec.width, T)
        for logits, offsets, mask, stride in zip(
            output.logits, output.offsets, output.mask, spec.level_strides, strict=True
        ):
            assert torch.equal(mask, given.mask[:, ::stride])
            assert not logits[~mask].any()
            assert float(offsets.detach().min()) >= 0
        padded = ~given.mask[:, None]
        assert not (output.inputs * padded).any()
        assert all(bool(x.isfinite().all()) for x in tensors(output))

    with torch.no_grad():
        first, second = net(given), net(given)
    assert all(torch.equal(x, y) for x, y in zip(tensors(first), tensors(second), strict=True))

    live = net(given)  # in evaluation mode: drop path would silence whole branches
    sum((x.square().sum() for x in (*live.logits, *live.offsets)), torch.zeros(())).backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    idle += [n for n, p in net.named_parameters() if p.grad is not None and not p.grad.any()]
    assert [n for n in idle if not re.search(IDLE, n)] == []

    card = ModelCard(name="x", model=name, detector=narrow(name))
    save_model(net.eval(), tmp_path / "x.safetensors", card)
    other = build(name, seed=1)
    load_weights(other, tmp_path / "x.safetensors")
    with torch.no_grad():
        again = other.eval()(given)
    assert all(torch.equal(x, y) for x, y in zip(tensors(first), tensors(again), strict=True))


@pytest.mark.parametrize("student", students)
def test_students_never_read_privileged_modalities(student: str) -> None:
    net = build(student).eval()
    seen, poisoned = batch(("rgb",)), batch()
    poisoned.features["flow"].fill_(float("nan"))
    with torch.no_grad():
        pairs = zip(tensors(net(seen)), tensors(net(poisoned)), strict=True)
        assert all(torch.equal(x, y) for x, y in pairs)
    assert narrow(student).reads == ("rgb",)


def student_of(variant: Variant) -> str:
    """Return a student that offers what the terms of a variant read."""
    reads = {name for use in variant.terms for name in terms.get(use.name).reads}
    if reads & {*TRIDENT_SCORES}:
        return "tridet-hallucinated"
    return "conv-dw-decomposed" if reads & {*BRANCHES} else "conv-dw-hallucinated"


@pytest.mark.parametrize("variant", variants)
def test_variants_train(variant: str) -> None:
    """Two steps with real networks: losses are finite, the student moves, its teachers do not."""
    declared = variants.get(variant)
    student_name = student_of(declared)
    models = {
        role: run_specs().teacher_of(ref, student_name, "actionformer")
        for role, ref in declared.teachers.items()
    }
    nets = {role: build(name, seed=3) for role, name in models.items()}
    before = copy.deepcopy(nets)
    student = build(student_name)
    start = [p.detach().clone() for p in student.parameters()]
    objective = None
    if declared.terms:
        uses = {
            r: TeacherUse(run="0", model=m, weight=declared.teachers[r].weight) for r, m in models.items()
        }
        spec = DistillSpec(
            teachers=uses,
            terms=declared.terms,
            soft_weight=declared.soft_weight,
            temperature=declared.temperature,
        )
        objective = DistillationObjective(
            spec, narrow(student_name), {r: narrow(m) for r, m in models.items()}
        )
    step = TrainingStep(
        student, narrow(student_name), FAST, steps_per_epoch=2, device=Device("cpu"),
        teachers=nets, objective=objective,
    )  # fmt: skip
    for seed in range(2):
        losses = step(batch(seed=seed))
        assert all(bool(x.isfinite()) for x in losses.values()), losses
        assert {use.name for use in declared.terms} <= losses.keys()
    assert any(not torch.equal(a, b) for a, b in zip(start, student.parameters(), strict=True))
    for role, net in nets.items():
        pairs = zip(net.parameters(), before[role].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("term", terms)
def test_terms_are_differentiable_scalars(term: str) -> None:
    student = made(0, grad=True)
    value = built(term)(student, made(1), 2.0)
    assert value.shape == ()
    assert bool(value.isfinite())
    value.backward()
    assert any(x.grad is not None and bool(x.grad.any()) for x in leaves(student))


@pytest.mark.parametrize("dataset", datasets)
def test_datasets_are_declared_sensibly(dataset: str, tmp_path: Path) -> None:
    entry: Any = datasets.get(dataset)
    assert entry.name == dataset
    assert entry.summary
    if entry.prepare is not None:
        return  # made on this machine; the tests of its room look at it
    assert entry.folders
    assert entry.marker
    spec = entry.spec(tmp_path)
    assert spec.name == dataset
    assert not {s.lower() for s in spec.train} & {s.lower() for s in spec.test}
    assert list(spec.tiou) == sorted(set(spec.tiou))
    assert spec.channels("primary")
    assert all(m.folder.is_relative_to(tmp_path) for m in spec.modalities.values())
    assert spec.annotations.is_relative_to(tmp_path)
    for name in ("actionformer", "conv-primary"):
        architecture = detector_spec(get_model(name), spec, K)
        assert spec.max_length % architecture.level_strides[-1] == 0
