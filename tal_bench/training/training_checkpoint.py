"""The state of a training between two epochs, on disk, so that a killed one goes on where it was.

The file is a line with the SHA-256 of the rest, and safetensors: weights, their average, the objective's own
weights, the optimiser's moments, the running normaliser and the states of the random generators. What is
continued from it is bitwise what would have come without the interruption (on the CPU).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from tal_bench.errors import TalBenchError
from tal_bench.results.checksums import verified, with_checksum
from tal_bench.system.files import write_atomically
from tal_bench.training.step import Step

LOG = logging.getLogger(__name__)
NOTES = "notes"
"""Name of the tensor that holds everything that is no tensor, as JSON."""
Notes = dict[str, Any]


@dataclass
class TrainingCheckpointer:
    """Keeps the state of one training, and brings it back.

    Attributes:
        file: that the state is in.
        key: of the training; the state of another one is not taken up.
        every: seconds that pass at least between two writings, the first of them counted from the start.
        caller_state: returns the state that the caller adds, as JSON values.
        restore_caller: hands that state back to the caller.
    """

    file: Path
    key: str
    every: float
    caller_state: Callable[[], Notes]
    restore_caller: Callable[[Notes], None]
    _last: float = field(default_factory=time.monotonic)

    def save(self, epoch: int, step: Step, order: np.random.Generator) -> None:
        """Write the state after an epoch, if it is time; a disk that is full costs the state alone."""
        if time.monotonic() - self._last < self.every:
            return
        notes = {
            "key": self.key,
            "epoch": epoch,
            "count": step.count,
            "order": order.bit_generator.state,
            "caller": self.caller_state(),
        }
        tensors = {name: value.cpu().contiguous() for name, value in _state(step)}
        tensors[NOTES] = torch.frombuffer(bytearray(json.dumps(notes).encode()), dtype=torch.uint8)
        content = save(tensors)
        try:
            write_atomically(self.file, with_checksum(content), pauses=())
        except TalBenchError as error:
            LOG.warning("a training cannot be kept between epochs: %s", error)
        self._last = time.monotonic()

    def restore(self, step: Step, order: np.random.Generator) -> int:
        """Put the kept state into a training that has just been set up.

        Returns:
            Epochs that are done; 0 where nothing is kept.
        """
        try:
            tensors = load(verified(self.file.read_bytes()))
            notes = json.loads(bytes(tensors.pop(NOTES).numpy()))
        except FileNotFoundError:
            return 0
        except Exception as error:  # whatever a damaged file can cause
            LOG.warning("%s is damaged (%s): its training starts anew", self.file, error)
            return 0
        if notes["key"] != self.key:
            return 0
        _restore(step, tensors)
        step.count = notes["count"]
        order.bit_generator.state = notes["order"]
        self.restore_caller(notes["caller"])
        return int(notes["epoch"])

    def delete(self) -> None:
        """Remove the file."""
        self.file.unlink(missing_ok=True)


def _state(step: Step) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that a training changes, by a name of its own."""
    for prefix, module in _modules(step):
        for name, value in module.state_dict().items():
            yield f"{prefix}/{name}", value
    for index, parameter in enumerate(_parameters(step)):
        for name, value in step.optimizer.state.get(parameter, {}).items():
            yield f"optimizer/{index}/{name}", value
    yield "normalizer", step.normalizer
    yield "random/cpu", torch.get_rng_state()
    if step.normalizer.is_cuda:
        yield "random/cuda", torch.cuda.get_rng_state()


def _restore(step: Step, tensors: dict[str, Tensor]) -> None:
    """The reverse of `_state`."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        prefix, _, rest = name.partition("/")
        parts.setdefault(prefix, {})[rest] = value
    for prefix, module in _modules(step):
        module.load_state_dict(parts.get(prefix, {}))
    parameters = _parameters(step)
    for name, value in parts.get("optimizer", {}).items():
        index, _, what = name.partition("/")
        parameter = parameters[int(index)]
        # the fused optimiser walks memory: moments lie in memory as their parameter does
        like = torch.empty_like(parameter) if value.shape == parameter.shape and value.ndim else value
        step.optimizer.state[parameter][what] = like.copy_(value).to(parameter.device)
    step.normalizer = parts["normalizer"][""].to(step.normalizer.device)
    torch.set_rng_state(parts["random"]["cpu"])
    if "cuda" in parts["random"] and step.normalizer.is_cuda:
        torch.cuda.set_rng_state(parts["random"]["cuda"])


def _modules(step: Step) -> Iterator[tuple[str, nn.Module]]:
    yield "student", step.student
    yield "average", step.average.module
    if step.objective is not None:
        yield "objective", step.objective


def _parameters(step: Step) -> list[nn.Parameter]:
    return [parameter for group in step.optimizer.param_groups for parameter in group["params"]]
