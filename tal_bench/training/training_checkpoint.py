"""Training checkpoints: the state between two epochs, from which an interrupted training is resumed.

The file consists of a line with the SHA-256 of the rest, followed by safetensors: weights, their average, the
weights of the objective, the moments of the optimizer, the loss normalizer and the states of the random
generators. On the CPU a resumed training is bitwise identical to an uninterrupted one.
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
from tal_bench.training.step import TrainingStep

LOG = logging.getLogger(__name__)
FORMAT = 2
"""Version of the layout; a checkpoint of another one is ignored."""
NOTES = "notes"
"""Name of the tensor that contains everything else as JSON."""
Notes = dict[str, Any]


@dataclass
class TrainingCheckpointer:
    """Saves and restores the state of one training.

    Attributes:
        file: Checkpoint file.
        key: Key of the training; a checkpoint with another key is ignored.
        every: Minimal number of seconds between two checkpoints, and before the first.
        caller_state: Returns additional state of the caller, as JSON values.
        restore_caller: Restores the additional state of the caller.
    """

    file: Path
    key: str
    every: float
    caller_state: Callable[[], Notes]
    restore_caller: Callable[[Notes], None]
    _last_saved: float = field(default_factory=time.monotonic)

    def save(self, epoch: int, step: TrainingStep, order: np.random.Generator) -> None:
        """Write a checkpoint after an epoch, if one is due; failure to write is logged and ignored."""
        if time.monotonic() - self._last_saved < self.every:
            return
        notes = {
            "format": FORMAT,
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
            LOG.warning("could not write the training checkpoint: %s", error)
        self._last_saved = time.monotonic()

    def restore(self, step: TrainingStep, order: np.random.Generator) -> int:
        """Restore a saved state into a newly created training step.

        Returns:
            Number of completed epochs; 0 without a usable checkpoint.
        """
        try:
            tensors = load(verified(self.file.read_bytes()))
            notes = json.loads(bytes(tensors.pop(NOTES).numpy()))
        except FileNotFoundError:
            return 0
        except Exception as error:  # a damaged file can cause any exception
            LOG.warning("%s is damaged (%s): the training starts from the beginning", self.file, error)
            return 0
        if notes["key"] != self.key or notes.get("format") != FORMAT:
            return 0
        _restore(step, tensors)
        step.count = notes["count"]
        order.bit_generator.state = notes["order"]
        self.restore_caller(notes["caller"])
        return int(notes["epoch"])


def _state(step: TrainingStep) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor that training changes, with a unique name."""
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


def _restore(step: TrainingStep, tensors: dict[str, Tensor]) -> None:
    """Load the tensors of `_state` into a training step."""
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
        # the fused optimizer needs moments in the memory layout of their parameter
        like = torch.empty_like(parameter) if value.shape == parameter.shape and value.ndim else value
        step.optimizer.state[parameter][what] = like.copy_(value).to(parameter.device)
    step.normalizer.copy_(parts["normalizer"][""])
    torch.set_rng_state(parts["random"]["cpu"])
    if "cuda" in parts["random"] and step.normalizer.is_cuda:
        torch.cuda.set_rng_state(parts["random"]["cuda"])


def _modules(step: TrainingStep) -> Iterator[tuple[str, nn.Module]]:
    yield "student", step.student
    yield "average", step.average.module
    if step.objective is not None:
        yield "objective", step.objective


def _parameters(step: TrainingStep) -> list[nn.Parameter]:
    return [parameter for group in step.optimizer.param_groups for parameter in group["params"]]
