"""Operations of a training step depend on the shapes of the batch alone, so that they can be recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import FAST, random_batch, tiny_spec
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tal_bench.config import DistillSpec, TeacherUse, TermUse
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.terms.registry import BRANCHES, terms
from tal_bench.models.ops import depthwise
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.models.structures import structures
from tal_bench.models.targets import plain_assign
from tal_bench.training import step as step_module
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch

READ_BACK = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero")
"""Operations whose result the host must wait for."""
Operation = tuple[str, tuple[tuple[int, ...], ...]]


class Operations(TorchDispatchMode):
    """Records every operation with the shapes of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        self.seen.append((str(func), tuple(tuple(x.shape) for x in tensors)))
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _library_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out compiled loops, as on a GPU."""
    monkeypatch.setattr(depthwise, "MAX_ELEMENTS", 0)
    monkeypatch.setattr(step_module, "assign", plain_assign)


def batches() -> Iterator[Batch]:
    """Yield batches of one shape that differ in valid steps and in segments; the last one has none."""
    yield random_batch()
    other = random_batch(lengths=(30, 64), seed=1)
    yield replace(other, labels=torch.tensor([[1, -1], [-1, -1]]))
    yield replace(other, labels=torch.full((2, 2), -1), mask=other.mask & (torch.arange(64) < 5))


def check(step: TrainingStep) -> None:
    """Compare the operations of the updates after the first one, which makes what later ones reuse."""
    step(next(batches()), None)
    recorded = []
    for batch in batches():
        answers = step.teachers(batch)
        with Operations() as operations:
            step.update(batch, answers)
        recorded.append(operations.seen)
    assert len(recorded[0]) > 100
    for operation, _ in recorded[0]:
        assert not any(name in operation for name in READ_BACK), operation
    for other in recorded[1:]:
        assert other == recorded[0]


@pytest.mark.parametrize("structure", structures.names())
def test_a_step_on_labels(structure: str) -> None:
    torch.manual_seed(0)
    architecture = detector_spec(get_model(f"{structure}-hallucinated"), tiny_spec(), 3)
    student = get_model(f"{structure}-hallucinated").build(architecture)
    check(TrainingStep(student, architecture, FAST, steps_per_epoch=5, device=Device("cpu")))


@pytest.mark.parametrize("name", terms)
def test_a_step_with_a_term(name: str) -> None:
    torch.manual_seed(0)
    inputs = "decomposed" if {*BRANCHES} & {*terms.get(name).reads} else "hallucinated"
    own, others = (
        detector_spec(get_model(model), tiny_spec(), 3) for model in (f"tridet-{inputs}", "tridet")
    )
    uses = (TermUse(name=name, teacher="t", weight=1.0),)
    spec = DistillSpec(teachers={"t": TeacherUse(run="0", model="tridet")}, terms=uses)
    step = TrainingStep(
        get_model(f"tridet-{inputs}").build(own),
        own,
        FAST,
        steps_per_epoch=5,
        device=Device("cpu"),
        teachers={"t": get_model("tridet").build(others)},
        objective=DistillationObjective(spec, own, {"t": others}),
    )
    check(step)


def test_an_update_changes_its_state_in_place() -> None:
    architecture = detector_spec(get_model("conv"), tiny_spec(), 3)
    step = TrainingStep(
        get_model("conv").build(architecture), architecture, FAST, steps_per_epoch=5, device=Device("cpu")
    )
    step(random_batch())
    moments = [value for state in step.optimizer.state.values() for value in state.values()]
    kept = [*step.student.parameters(), *step.average.module.parameters(), *moments, step.normalizer]
    places, values = [x.data_ptr() for x in kept], [x.detach().clone() for x in kept]
    step(random_batch(seed=1))
    moments = [value for state in step.optimizer.state.values() for value in state.values()]
    again = [*step.student.parameters(), *step.average.module.parameters(), *moments, step.normalizer]
    assert places == [x.data_ptr() for x in again]
    assert sum(not torch.equal(x, y) for x, y in zip(values, again, strict=True)) > len(values) // 2


def test_the_rate_can_be_a_tensor() -> None:
    """Both kinds of rate train alike; that of a recorded step must be a tensor."""
    weights = []
    for as_tensor in (False, True):
        torch.manual_seed(0)
        architecture = detector_spec(get_model("conv"), tiny_spec(), 3)
        student = get_model("conv").build(architecture)
        spec = FAST.model_copy(update={"lr_width": 8})
        step = TrainingStep(student, architecture, spec, steps_per_epoch=5, device=Device("cpu"))
        rates = []
        for group in step.optimizer.param_groups:
            group["lr"] = torch.tensor(0.0) if as_tensor else group["lr"]
            rates.append(group["lr"])
        step(random_batch())
        step(random_batch(seed=1))
        assert not as_tensor or all(
            rate is group["lr"] for rate, group in zip(rates, step.optimizer.param_groups, strict=True)
        )
        weights.append([p.detach().clone() for p in student.parameters()])
    for x, y in zip(*weights, strict=True):
        torch.testing.assert_close(x, y, atol=1e-7, rtol=1e-6)
