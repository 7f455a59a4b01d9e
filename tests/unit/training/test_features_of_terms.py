"""What terms can read of detectors: features, the teacher's head, labels; in training and half precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FAST, random_batch, tiny_spec
from torch import Tensor, nn

from tal_bench.config import DetectorSpec, DistillSpec, Range, TeacherUse, TermUse
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.randomness import StepRandom
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.errors import InputError
from tal_bench.models.detector import Detector
from tal_bench.models.losses import detection_loss
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.models.targets import assign, point_labels, pyramid_points
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep
from tal_bench.training.teachers import Teachers
from tal_bench.training.training_checkpoint import TrainingCheckpointer

STUDENT, TEACHERS = "conv-dw-hallucinated", ("actionformer", "tridet")


def arch(name: str, width: int = 16) -> DetectorSpec:
    spec = detector_spec(get_model(name), tiny_spec(), 3)
    return spec.model_copy(update={"width": width, "head_width": width, "head_layers": 2})


def net(name: str, width: int = 16) -> Detector:
    torch.manual_seed(3)
    made = get_model(name).build(arch(name, width))
    assert isinstance(made, Detector)
    return made.eval()


def all_features(spec: DetectorSpec) -> tuple[str, ...]:
    return tuple(name for name in spec.feature_widths if name not in spec.output_widths)


@pytest.mark.parametrize("name", [*TEACHERS, STUDENT])
def test_a_detector_offers_what_its_architecture_says(name: str) -> None:
    """The outputs do not depend on what is kept."""
    network, batch = net(name), random_batch()
    keep = all_features(arch(name))
    plain, kept = network(batch), network(batch, keep)
    for x, y in zip((*plain.logits, *plain.offsets), (*kept.logits, *kept.offsets), strict=True):
        assert torch.equal(x, y)
    assert not plain.features
    assert kept.features.keys() == set(keep)
    for feature, levels in kept.features.items():
        channels = arch(name).feature_widths[feature]
        for x, mask in zip(levels, kept.mask, strict=True):
            shape = (*mask.shape, channels) if feature in ("starts", "ends") else (2, channels, mask.shape[1])
            shape = (*mask.shape, 2, channels // 2) if feature == "bins" else shape
            assert x.shape == shape
    assert torch.equal(kept.features["neck"][1], kept.features["classifier/0"][1])


def test_a_feature_that_is_not_declared_is_refused() -> None:
    with pytest.raises(InputError, match="reads 'neck' and does not declare it"):
        _ = net(STUDENT)(random_batch()).features["neck"]
    with pytest.raises(InputError, match="reads 'labels' and does not declare it"):
        _ = net(STUDENT)(random_batch()).labels.positive


def test_reading_the_neck_runs_no_head() -> None:
    teacher, reached = net("actionformer"), []
    teacher.heads.register_forward_hook(lambda *_: reached.append("heads"))
    answer = Teachers({"modal": teacher}, Device("cpu"), ["neck"])(random_batch())["modal"]
    assert len(answer.features["neck"]) == len(answer.mask)
    assert not reached


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", TEACHERS)
def test_the_teachers_head_continues_from_its_own_features_to_its_own_outputs(
    name: str, layer: int, precision: Any
) -> None:
    keep = ("bins", f"classifier/{layer}", f"regressor/{layer}")
    teachers = Teachers({"modal": net(name)}, Device("cpu", precision), keep)
    answer = teachers(random_batch())["modal"]
    assert not any(x.requires_grad for levels in answer.features.values() for x in levels)
    expected = {"classifier": answer.logits, "regressor": answer.features.get("bins", answer.offsets)}
    exact = {} if precision == "fp32" else {"atol": 2e-2, "rtol": 2e-2}
    for head, outputs in expected.items():
        own = answer.features[f"{head}/{layer}"]
        assert all(x.dtype == torch.float32 for x in own)
        for x, y in zip(answer.continue_head(f"{head}/{layer}", own), outputs, strict=True):
            torch.testing.assert_close(x, y, **exact)


def test_gradients_pass_the_teachers_head_at_valid_positions_only() -> None:
    network = net("tridet")
    answer = Teachers({"modal": network}, Device("cpu"), ["classifier/1"])(random_batch())["modal"]
    own = answer.features["classifier/1"]
    other = [torch.randn_like(x).requires_grad_() for x in own]
    logits = answer.continue_head("classifier/1", other)
    sum(x.square().sum() for x in logits).backward()
    for x, mask in zip(other, answer.mask, strict=True):
        assert x.grad is not None
        assert x.grad.transpose(1, 2)[mask].abs().sum() > 0
        assert not x.grad.transpose(1, 2)[~mask].any()
    assert all(p.grad is None for p in network.parameters())
    disturbed = [
        torch.where(mask[:, None], x.detach(), 9.0) for x, mask in zip(other, answer.mask, strict=True)
    ]
    for x, y in zip(answer.continue_head("classifier/1", disturbed), logits, strict=True):
        assert torch.equal(x, y.detach())


def test_labels_are_those_of_the_detection_loss() -> None:
    spec, batch = arch(STUDENT), random_batch()
    output = net(STUDENT)(batch)
    points = pyramid_points(spec, [x.shape[1] for x in output.logits])
    targets = assign(points, batch.segments, batch.labels, 3, FAST.radius)
    labels = point_labels(targets, output.mask, batch)
    normalizer = detection_loss(output, targets, torch.tensor(0.0), FAST).normalizer
    assert float(labels.count) * 0.1 == pytest.approx(float(normalizer))
    assert float(labels.count) == sum(int(x.sum()) for x in labels.positive) > 2
    assert tuple(labels.strides) == spec.level_strides
    for positive, classes, offsets, stride in zip(
        labels.positive, labels.classes, labels.offsets, labels.strides, strict=True
    ):
        for b, step in positive.nonzero().tolist():
            left, right = offsets[b, step].tolist()
            segment = [(step - left) * stride, (step + right) * stride]
            found = [torch.allclose(s, torch.tensor(segment), atol=1e-4) for s in batch.segments[b]]
            assert any(found)
            assert bool(classes[b, step, batch.labels[b][found.index(True)]])


class Generator(nn.Module):
    """Predicts the teacher's neck features at positives from the student's, half of which are hidden."""

    def __init__(self, student: DetectorSpec, teacher: DetectorSpec) -> None:
        super().__init__()
        self.random = StepRandom()
        own, other = student.feature_widths["neck"], teacher.feature_widths["neck"]
        self.layers = nn.ModuleList(nn.Linear(own, other) for _ in range(student.levels))

    def forward(self, student: Any, teacher: Any, temperature: float) -> Tensor:
        total = student.stem.new_zeros(())
        levels = zip(
            self.layers,
            student.features["neck"],
            teacher.features["neck"],
            student.labels.positive,
            strict=True,
        )
        for layer, own, other, positive in levels:
            keep = self.random((own.shape[0], own.shape[2]), own.device) < 0.5
            error = layer((own * keep[:, None]).transpose(1, 2)) - other.transpose(1, 2)
            total = total + (error.square().mean(dim=2) * positive).sum()
        return total / student.labels.count


def squared(student: Any, teacher: Any, temperature: float) -> Tensor:
    pairs = zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True)
    return torch.stack([((s - t).square().mean(dim=1) * m).sum() / m.sum() for s, t, m in pairs]).mean()


@pytest.fixture(autouse=True)
def own_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare terms of this file for one test."""
    monkeypatch.setattr(terms, "_entries", dict(terms._load_entries()))
    search = Range(low=0.1, high=10.0)
    terms.add(
        "generated",
        Term("generated", None, search, "", reads={"neck": "any", "labels": "any"}, module=Generator),
    )
    terms.add("squared", Term("squared", squared, search, "", reads={"neck": "project"}))


def objective(*names: str, width: int = 16, teacher: int = 32, seed: int = 0) -> DistillationObjective:
    spec = DistillSpec(
        teachers={"modal": TeacherUse(run="0", model="tridet")},
        terms=tuple(TermUse(name=name, teacher="modal", weight=1.0) for name in names),
    )
    return DistillationObjective(spec, arch(STUDENT, width), {"modal": arch("tridet", teacher)}, seed)


def step_of(distill: DistillationObjective, precision: Any = "fp32") -> TrainingStep:
    return TrainingStep(
        net(STUDENT), arch(STUDENT), FAST, steps_per_epoch=2, device=Device("cpu", precision),
        teachers={"modal": net("tridet", 32)}, objective=distill,
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("names", [("stem",), ("squared",), ("generated",), ("stem", "squared", "generated")])
def test_terms_train_with_other_widths_in_both_precisions(names: tuple[str, ...], precision: Any) -> None:
    distill = objective(*names)
    before = [p.detach().clone() for p in distill.parameters()]
    step = step_of(distill, precision)
    for seed in range(2):
        losses = step(random_batch(seed=seed))
        assert all(bool(x.isfinite()) for x in losses.values()), losses
    assert before
    for old, new in zip(before, distill.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_parameters_of_a_term_depend_on_the_seed_and_not_on_other_terms() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    both, alone = objective("stem", "generated"), objective("generated")
    assert torch.equal(torch.get_rng_state(), state)
    own = dict(alone.named_parameters())
    assert own
    for name, value in both.named_parameters():
        if name in own:
            assert torch.equal(value, own[name])
    assert not torch.equal(next(objective("generated", seed=1).parameters()), next(alone.parameters()))


def test_random_numbers_of_terms_leave_those_of_the_training_alone() -> None:
    def drawn(*names: str) -> Tensor:
        torch.manual_seed(8)
        step_of(objective(*names))(random_batch())
        return torch.rand(3)

    assert torch.equal(drawn("stem"), drawn("generated"))


def test_random_numbers_of_terms_go_on_where_they_were() -> None:
    torch.manual_seed(1)
    first = StepRandom()
    numbers = [first((4,)) for _ in range(3)]
    assert not torch.equal(numbers[0], numbers[1])
    torch.manual_seed(1)
    second = StepRandom()
    second.load_state_dict({"_extra_state": torch.tensor(2)})
    assert torch.equal(second((4,)), numbers[2])


def test_teachers_features_carry_no_gradient_and_padding_does_not_matter() -> None:
    distill = objective("squared", teacher=16)
    batch = random_batch()
    output = net(STUDENT)(batch, distill.keep)
    answer = Teachers({"modal": net("tridet")}, Device("cpu"), distill.keep)(batch)
    disturbed = [
        torch.where(m[:, None], x, 7.0) for x, m in zip(output.features["neck"], output.mask, strict=True)
    ]
    value = distill(output, answer).total
    value.backward()
    other = replace(output, features={"neck": disturbed})
    torch.testing.assert_close(distill(other, answer).total, value)


def test_a_resumed_training_restores_the_parameters_and_random_numbers_of_terms(tmp_path: Path) -> None:
    def checkpointer() -> TrainingCheckpointer:
        return TrainingCheckpointer(tmp_path / "x.resume", "key", 0.0, dict, lambda _: None)

    order = np.random.default_rng(0)
    first = step_of(objective("generated", "squared"))
    first(random_batch(seed=0))
    checkpointer().save(1, first, order)
    expected = first(random_batch(seed=1))
    second = step_of(objective("generated", "squared"))
    assert checkpointer().restore(second, order) == 1
    found = second(random_batch(seed=1))
    assert {name: float(x) for name, x in found.items()} == {name: float(x) for name, x in expected.items()}
