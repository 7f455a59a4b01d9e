"""How many trainings share a GPU where `--jobs` does not say it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tal_bench.config import DetectorSpec, RunSpec
from tal_bench.execution.worker import prepare_worker
from tal_bench.models.registry import get_model
from tal_bench.profiling.training import training_memory
from tal_bench.system.gpus import free_gpu_memory, trainings_per_gpu, visible_gpus
from tal_bench.system.text import first_line
from tal_bench.system.worker_pool import SpawnedProcesses

LOG = logging.getLogger(__name__)
Training = tuple[RunSpec, Mapping[str, tuple[str, DetectorSpec]]]
"""A run on a GPU, and name and architecture of its teachers by role."""


def jobs_on_gpus(
    largest: Callable[[], Training | None], *, graphs: bool, most: int, plugins: Sequence[Path] = ()
) -> int:
    """Return the number of workers for all visible GPUs, by the memory that a training takes on one of them.

    A process of its own makes some steps on the first GPU. If it fails, every GPU gets one worker.

    Args:
        largest: Returns the largest training of the study, which is measured; None if it has none.
        graphs: Whether steps are recorded as CUDA graphs.
        most: Number of workers beyond which none would have anything to do.
        plugins: Plugin files that declare the models.
    """
    gpus = max(1, len(visible_gpus()))
    if most <= gpus:
        return gpus
    try:
        training = largest()
        if training is None:
            return gpus
        with SpawnedProcesses(1, prepare_worker, ("cuda", tuple(plugins))) as process:
            free = min(process.submit(free_gpu_memory).result())
            peak = process.submit(_measured, *training, graphs).result()
    except Exception as error:  # whatever a model of a plugin raises; its own runs will report it
        why = first_line(error)
        LOG.warning("one training per GPU, because the memory of a step could not be measured: %s", why)
        return gpus
    return min(most, gpus * trainings_per_gpu(free, peak, gpus))


def _measured(spec: RunSpec, teachers: Mapping[str, tuple[str, DetectorSpec]], graphs: bool) -> int:
    networks = {role: (get_model(name), net) for role, (name, net) in teachers.items()}
    return training_memory(spec, get_model(spec.model), networks, graphs=graphs)
