"""Latency of a forward pass on a GPU that is launched at once, as a CUDA graph.

At batch 1 a GPU computes the operations of a detector faster than Python launches them one by one, so the
latency of an ordinary call is that of the processor and of Python. The graph shows what the GPU needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import Tensor

from tal_bench.profiling.inputs import DeviceLike
from tal_bench.profiling.latency import Latency
from tal_bench.system.text import first_line
from tal_bench.training.recorded_step import TOLERANCE, WARM_UP, CudaRecorder, Recorder, difference
from tal_bench.types import Outputs

LOG = logging.getLogger(__name__)


def recorder_for(device: DeviceLike) -> Recorder | None:
    """Return what records the operations of a device; None on the CPU, which launches nothing."""
    return CudaRecorder(device.torch) if device.torch.type == "cuda" else None


def graph_latency(
    forward: Callable[[], Outputs], device: DeviceLike, measure: Callable[[Callable[[], None]], Latency]
) -> Latency | None:
    """Measure a forward pass that is recorded as a CUDA graph.

    Args:
        forward: Runs the forward pass and returns its output.
        device: Device and precision of the network.
        measure: Measures the latency of a call.

    Returns:
        Latency of a repetition; None on the CPU, and where recording fails or the repetition has another
        output, in which case a line says so.
    """
    recorder = recorder_for(device)
    if recorder is None:
        return None

    def work() -> dict[str, Tensor]:
        output = forward()
        levels = {"logits": output.logits, "offsets": output.offsets}
        return {f"{name}/{i}": x for name, parts in levels.items() for i, x in enumerate(parts)}

    try:
        for _ in range(WARM_UP):
            expected = recorder.warm_up(work)
        repeat, found = recorder.record(work)
        repeat()
        worst = difference(expected, found)
    except RuntimeError as error:
        LOG.warning("the forward pass is not recorded as a CUDA graph: %s", first_line(error))
        return None
    if not worst <= TOLERANCE[device.precision]:
        LOG.warning("the forward pass is not recorded as a CUDA graph: its output differs by %.1g", worst)
        return None
    return measure(repeat)
