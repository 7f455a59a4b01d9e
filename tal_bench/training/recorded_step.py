"""A training step that is recorded once and repeated with one launch (CUDA graphs).

A step of the published size consists of one to two thousand small operations, and launching them takes longer
than computing them. `TrainingStep.update` launches the same operations on the same memory for every batch of
one shape, so they can be recorded: teachers, student, losses, gradients, clipping, optimizer, average.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from tal_bench.distill.randomness import StepRandom
from tal_bench.system.text import first_line
from tal_bench.training.device import Device, batch_tensors
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch, Outputs

LOG = logging.getLogger(__name__)
WARM_UP = 3
"""Steps of a shape that are made as usual before it is recorded."""
MAX_SHAPES = 4
"""Shapes of batches that are recorded; each keeps the memory of a step. Others are not recorded."""
TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}
"""Largest relative difference between the results of a recorded step and of an ordinary one."""
Losses = dict[str, Tensor]
Work = Callable[[], Losses]


class Recorder(Protocol):
    """What records operations: `CudaRecorder`, or a stand-in in tests."""

    def warm_up(self, work: Work) -> Losses:
        """Do the work, as a preparation of the recording."""

    def record(self, work: Work) -> tuple[Callable[[], None], Losses]:
        """Record the work without doing it.

        Returns:
            Function that does the work, and the tensors that hold its results afterwards.
        """


class CudaRecorder:
    """Records CUDA graphs."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def warm_up(self, work: Work) -> Losses:
        """Do the work on the stream of the recording, where libraries make their workspaces."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = work()
        current.wait_stream(self._stream)
        return losses

    def record(self, work: Work) -> tuple[Callable[[], None], Losses]:
        """Record the work as a graph, see `Recorder.record`."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        try:
            # the thread that pins the next batch may allocate meanwhile, which other modes forbid to it
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                losses = work()
        except RuntimeError:
            self._recover(graph, current)
            raise
        return graph.replay, losses

    def _recover(self, graph: torch.cuda.CUDAGraph, current: torch.cuda.Stream) -> None:
        """Leave a recording that failed, as some versions of PyTorch do not.

        They keep the stream of the recording as the current one, and a random generator that refuses to work
        outside of a recording.
        """
        torch.cuda.set_stream(current)
        with contextlib.suppress(RuntimeError):
            graph.reset()  # its memory is no longer reserved for a recording
        generator = torch.cuda.default_generators[self._device.index]
        generator.graphsafe_set_state(generator.clone_state())


def recorded_on(device: Device, step: TrainingStep) -> RecordedStep:
    """Return a step on a GPU that is recorded as a CUDA graph."""
    return RecordedStep(step, CudaRecorder(device.torch), device.move, device.precision)


@dataclasses.dataclass
class _Recording:
    """The recorded step of one shape.

    Attributes:
        batch: Batch whose memory the recorded operations read.
        repeat: Function that repeats them.
        losses: Tensors that hold the losses afterwards.
    """

    batch: Batch
    repeat: Callable[[], None]
    losses: Losses


class RecordedStep:
    """`TrainingStep` with recorded operations, called in the same way.

    The first repetition is compared with an ordinary step from the same state. If it differs beyond rounding,
    or if recording fails, a line says so, and all further steps are ordinary ones; no step is lost or made
    twice. The same holds from the beginning for terms that draw random numbers on the host.

    Args:
        step: Step, whose state is changed in place.
        recorder: What records its operations.
        move: Function that moves a batch to the device.
        precision: Precision of the training.
    """

    def __init__(
        self, step: TrainingStep, recorder: Recorder, move: Callable[[Batch], Batch], precision: str
    ) -> None:
        self.step = step
        self._recorder, self._move, self._tolerance = recorder, move, TOLERANCE[precision]
        self._seen: dict[tuple[object, ...], int] = {}
        self._recordings: dict[tuple[object, ...], _Recording] = {}
        self.why_not = ""
        objective = step.objective
        if objective is not None and any(isinstance(part, StepRandom) for part in objective.modules()):
            self._give_up("a term draws random numbers on the host")
            return
        for group in step.optimizer.param_groups:  # a recorded rate cannot be changed unless it is a tensor
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=step.normalizer.device)

    def __call__(self, batch: Batch, answers: Mapping[str, Outputs] | None = None) -> Losses:
        """Train on a batch and return its losses, as `TrainingStep` does; given answers are not recorded."""
        if self.why_not or answers is not None:
            return self.step(batch, answers)
        key = tuple((name, tuple(x.shape), x.dtype) for name, x in batch_tensors(batch).items())
        self._seen[key] = self._seen.get(key, 0) + 1
        if key in self._recordings:
            return self._repeat(self._recordings[key], batch)
        if self._seen[key] <= WARM_UP or len(self._recordings) == MAX_SHAPES:
            self.step.set_rate()
            moved = self._move(batch)
            losses = self._recorder.warm_up(lambda: self.step.update(moved, self.step.teachers(moved)))
            self.step.count += 1
            return losses
        return self._record(key, self._move(batch))

    def _repeat(self, recording: _Recording, batch: Batch) -> Losses:
        self.step.set_rate()
        recorded = batch_tensors(recording.batch)
        for name, x in batch_tensors(batch).items():
            recorded[name].copy_(x, non_blocking=True)
        recording.repeat()
        self.step.count += 1
        return {name: value.clone() for name, value in recording.losses.items()}

    def _record(self, key: tuple[object, ...], batch: Batch) -> Losses:
        """Make an ordinary step, record it, and repeat it from the same state; keep the one that is right."""
        step = self.step
        step.set_rate()
        before, random = _copied(step), _random_state(step)
        losses = self._recorder.warm_up(lambda: step.update(batch, step.teachers(batch)))
        step.count += 1
        after, random_after = _copied(step), _random_state(step)
        try:
            repeat, results = self._recorder.record(lambda: step.update(batch, step.teachers(batch)))
            _restore(step, before, random)
            repeat()
            worst = max(difference(losses, results), difference(after, _state(step)))
        except RuntimeError as error:
            self._give_up(first_line(error))
        else:
            if worst <= self._tolerance:
                self._recordings[key] = _Recording(batch, repeat, results)
                return {name: value.clone() for name, value in results.items()}
            self._give_up(f"its first repetition differs by {worst:.1g} from an ordinary step")
        _restore(step, after, random_after)
        return losses

    def _give_up(self, why: str) -> None:
        self.why_not = why
        self._recordings.clear()
        LOG.warning("the training step is not recorded as a CUDA graph: %s", why)


def _state(step: TrainingStep) -> dict[str, Tensor]:
    """Return every tensor that a step changes, by name."""
    return dict(_state_items(step))


def _state_items(step: TrainingStep) -> Iterator[tuple[str, Tensor]]:
    modules = {"student": step.student, "average": step.average.module, "objective": step.objective}
    for prefix, module in modules.items():
        if module is not None:
            for name, x in (*module.named_parameters(), *module.named_buffers()):
                yield f"{prefix}/{name}", x
    for index, moments in enumerate(step.optimizer.state.values()):
        for name, x in moments.items():
            yield f"optimizer/{index}/{name}", x
    yield "normalizer", step.normalizer


def _copied(step: TrainingStep) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in _state(step).items()}


def _random_state(step: TrainingStep) -> Tensor:
    """Return the state of the random generator of the device."""
    device = step.normalizer.device
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@torch.no_grad()
def _restore(step: TrainingStep, values: Mapping[str, Tensor], random: Tensor) -> None:
    for name, x in _state(step).items():
        x.copy_(values[name])
    device = step.normalizer.device
    if device.type == "cuda":
        torch.cuda.set_rng_state(random, device)
    else:
        torch.set_rng_state(random)


@torch.no_grad()
def difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Return the largest difference of a kind of tensors relative to their norm; infinite if not finite.

    Kinds are losses, weights, their average, and each moment of the optimizer. Tensors are not compared one
    by one: some gradients, such as that of a bias before a normalization, are nothing but rounding, and AdamW
    makes steps of the usual size of them.
    """
    squares: dict[str, list[Tensor]] = {}
    for name, x in expected.items():
        a, b = x.double(), found[name].double()
        squares.setdefault(_kind(name), []).append(torch.stack([(a - b).square().sum(), a.square().sum()]))
    totals = (torch.stack(parts).sum(dim=0).sqrt().tolist() for parts in squares.values())
    relative = [difference / max(norm, 1e-12) for difference, norm in totals]
    return max(relative) if all(map(math.isfinite, relative)) else math.inf


def _kind(name: str) -> str:
    """Return the kind of a tensor of `_state`, such as `student` or `optimizer/exp_avg`, or of the losses."""
    first, *others = name.split("/")
    return f"{first}/{others[-1]}" if first == "optimizer" else first if others else ""
