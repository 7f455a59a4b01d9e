"""Recorded steps train as ordinary ones do, and every failure of the recording leaves an ordinary step."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import FAST, random_batch, tiny_spec

from tal_bench.config import DistillSpec, TeacherUse, TermUse
from tal_bench.distill.objective import DistillationObjective
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.training.device import Device
from tal_bench.training.recorded_step import (
    MAX_SHAPES,
    TOLERANCE,
    WARM_UP,
    CudaRecorder,
    Losses,
    RecordedStep,
    Work,
    difference,
)
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch

STUDENT, TEACHER = "conv-dw-hallucinated", "conv"


class FakeRecorder:
    """Recorder on the CPU: a repetition does the work again, on the memory of the batch that was recorded.

    Args:
        harm: Function called after every repetition.
        failing: Whether recording fails.
    """

    def __init__(self, harm: Callable[[], None] = lambda: None, *, failing: bool = False) -> None:
        self.harm, self.failing = harm, failing
        self.recorded = self.repeated = 0

    def warm_up(self, work: Work) -> Losses:
        return work()

    def record(self, work: Work) -> tuple[Callable[[], None], Losses]:
        if self.failing:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        self.recorded += 1
        results = {
            name: torch.zeros(()) for name in ("total", "classification", "regression", "labels", "stem")
        }

        def repeat() -> None:
            self.repeated += 1
            for name, value in work().items():
                results[name].copy_(value)
            self.harm()

        return repeat, results


def new_step(*terms: str) -> TrainingStep:
    torch.manual_seed(0)
    own, other = (detector_spec(get_model(name), tiny_spec(), 3) for name in (STUDENT, TEACHER))
    uses = tuple(TermUse(name=name, teacher="t", weight=0.3) for name in terms)
    distill = DistillSpec(teachers={"t": TeacherUse(run="0", model=TEACHER)}, terms=uses)
    return TrainingStep(
        get_model(STUDENT).build(own),
        own,
        FAST.model_copy(update={"input_noise": 0.1, "lr_width": 8}),
        steps_per_epoch=20,
        device=Device("cpu"),
        teachers={"t": get_model(TEACHER).build(other)},
        objective=DistillationObjective(distill, own, {"t": other}),
    )


def batches(count: int) -> list[Batch]:
    return [random_batch(seed=seed, lengths=(64, 20 + seed)) for seed in range(count)]


def trained(step: Any, given: list[Batch]) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Return the losses of steps from one random state, and the weights after them."""
    torch.manual_seed(1)
    losses = [{name: float(x) for name, x in step(batch).items()} for batch in given]
    inner: TrainingStep = getattr(step, "step", step)
    assert inner.count == len(given)
    return losses, {**inner.student.state_dict(), **inner.average.module.state_dict()}


def recorded(step: TrainingStep, recorder: FakeRecorder) -> RecordedStep:
    return RecordedStep(step, recorder, lambda batch: batch, "fp32")


def same(a: Any, b: Any) -> None:
    for x, y in zip(a[0], b[0], strict=True):
        assert x == pytest.approx(y, rel=1e-4)
    torch.testing.assert_close(a[1], b[1], rtol=1e-4, atol=1e-6)


def test_recorded_steps_train_as_ordinary_ones() -> None:
    expected = trained(new_step("stem"), batches(8))
    recorder = FakeRecorder()
    step = recorded(new_step("stem"), recorder)
    same(trained(step, batches(8)), expected)
    assert (recorder.recorded, recorder.repeated) == (1, 8 - WARM_UP)
    assert len({loss["total"] for loss in expected[0]}) == 8, "every batch has losses of its own"
    assert not step.why_not


def failing_recorder() -> FakeRecorder:
    return FakeRecorder(failing=True)


@pytest.mark.parametrize("fault", ["it fails", "it is wrong", "it is not finite"])
def test_steps_go_on_as_ordinary_ones_and_none_is_lost(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = trained(new_step("stem"), batches(8))
    inner = new_step("stem")

    def harm() -> None:
        with torch.no_grad():
            next(inner.student.parameters()).mul_(1.5 if fault == "it is wrong" else float("nan"))

    recorder = FakeRecorder(harm, failing=fault == "it fails")
    step = recorded(inner, recorder)
    with caplog.at_level(logging.WARNING):
        same(trained(step, batches(8)), expected)
    reason = (
        "not permitted when stream is capturing" if fault == "it fails" else "first repetition differs by"
    )
    assert reason in step.why_not
    (line,) = caplog.messages
    assert line.startswith("the training step is not recorded as a CUDA graph: ")
    assert "\n" not in line


def test_rounding_of_what_is_nearly_zero_is_no_difference() -> None:
    weights = torch.linspace(0.1, 1.0, 1000)
    state = {"student/weight": weights, "student/bias": torch.full((4,), 1e-4), "normalizer": torch.ones(())}
    moments = {"optimizer/0/exp_avg": weights, "optimizer/1/exp_avg": torch.full((4,), 1e-9)}
    expected = {**state, **moments, "optimizer/0/exp_avg_sq": 1e-6 * weights}
    opposite = {name: -x if x.shape == (4,) else x for name, x in expected.items()}
    assert 0 < difference(expected, opposite) < TOLERANCE["fp32"]
    for name in ("student/weight", "normalizer", "optimizer/0/exp_avg", "optimizer/0/exp_avg_sq"):
        assert difference(expected, expected | {name: 1.01 * expected[name]}) == pytest.approx(0.01, rel=0.1)
        assert difference(expected, expected | {name: expected[name] / 0}) == float("inf")
    assert difference({"total": torch.ones(())}, {"total": 2 * torch.ones(())}) == 1.0


def test_shapes_are_recorded_apart_and_only_a_few() -> None:
    recorder = FakeRecorder()
    step = recorded(new_step("stem"), recorder)
    for room in range(1, MAX_SHAPES + 3):
        batch = random_batch()
        more = replace(
            batch,
            segments=torch.cat([batch.segments, torch.zeros(2, room, 2)], dim=1),
            labels=torch.cat([batch.labels, torch.full((2, room), -1)], dim=1),
        )
        for _ in range(WARM_UP + 1):
            step(more)
    assert recorder.recorded == MAX_SHAPES


def test_terms_with_random_numbers_of_the_host_are_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    recorder = FakeRecorder()
    step = recorded(new_step("mgd"), recorder)
    for batch in batches(WARM_UP + 2):
        step(batch)
    assert not recorder.recorded
    assert step.why_not == "a term draws random numbers on the host"
    assert step.step.count == WARM_UP + 2


def test_other_threads_may_pin_memory_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, an allocation of the thread that prepares the next batch would break the recording."""
    modes = []

    @contextmanager
    def graph(made: object, stream: object, capture_error_mode: str = "global") -> Iterator[None]:
        modes.append(capture_error_mode)
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    _, losses = CudaRecorder(torch.device("cuda", 0)).record(lambda: {"total": torch.ones(())})
    assert modes == ["thread_local"] and losses["total"] == 1.0


def test_a_recording_that_fails_leaves_stream_and_random_generator_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch raises at the end of a recording that became invalid, and may leave both behind."""
    streams, resets = ["of the computation"], []

    @contextmanager
    def graph(made: object, stream: str, capture_error_mode: str) -> Iterator[None]:
        streams.append(stream)
        generators[0].recording = True
        yield
        raise RuntimeError("operation failed due to a previous error during capture")

    class Generator:
        recording = False

        def clone_state(self) -> Generator:
            return Generator()

        def graphsafe_set_state(self, state: Generator) -> None:
            self.recording = state.recording

    generators = (Generator(),)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "of the recording")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: streams[-1])
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    monkeypatch.setattr(
        torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=None, reset=lambda: resets.append(1))
    )
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    with pytest.raises(RuntimeError, match="previous error during capture"):
        CudaRecorder(torch.device("cuda", 0)).record(lambda: {"total": torch.ones(())})
    assert streams[-1] == "of the computation" and not generators[0].recording and resets


def test_a_training_leaves_nothing_for_the_garbage_collector() -> None:
    """Recorded steps keep the memory of a step, which the next training of the process needs."""
    gc.collect()
    gc.disable()
    try:
        step = recorded(new_step("stem"), FakeRecorder())
        for given in batches(WARM_UP + 3):
            step(given)
        weights = weakref.ref(next(step.step.student.parameters()))
        assert len(step._recordings) == 1
        del step
        alive = weights() is not None
    finally:
        gc.enable()
    assert not alive
