"""A model handed out: exported, compared with itself at several lengths, and timed beside itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tal_bench.config import DetectorSpec
from tal_bench.converters.export import (
    MIN_STRIDES,
    SUFFIXES,
    Format,
    check_onnx,
    coarsest_stride,
    example_inputs,
    export,
    largest_difference,
    reference_run,
    save_exported,
)
from tal_bench.errors import TalBenchError
from tal_bench.models.checkpoint import load_model, weights_file
from tal_bench.profiling.inputs import torch_threads
from tal_bench.profiling.latency import Latency, measure_latency

TOLERANCE = 1e-4
"""Between an exported graph and the detector itself; relative where outputs exceed 1."""
UNEVEN = 9
"""Shortest long length of a check, in coarsest strides."""


@dataclass(frozen=True)
class Checked:
    """An exported graph beside the detector at one length.

    Attributes:
        length: T.
        difference: largest of all outputs.
        ours: time of the detector itself.
        theirs: time of the graph.
    """

    length: int
    difference: float
    ours: Latency
    theirs: Latency


def export_run(
    run: Path, form: Format, out: Path | None, *, threads: int = 1, begun: Callable[[], None] | None = None
) -> tuple[Path, list[Checked]]:
    """Export a model, and keep the file if it says what the model says.

    Args:
        run: as `load_model` takes it.
        form: `onnx` or `torch`.
        out: file; by default beside the weights.
        threads: CPU threads, of both.
        begun: called when everything is there and the slow part begins.

    Returns:
        The file, and the comparison at three lengths.

    Raises:
        InputError: no such model.
        TalBenchError: it cannot be exported, or the graph says something else; nothing is written.
    """
    net, card = load_model(run)
    file = out or weights_file(run).with_suffix(SUFFIXES[form])
    if form == "onnx":
        check_onnx()
    if begun is not None:
        begun()
    with torch_threads(threads):
        exported = export(net, card, form)
        itself = reference_run(net, card.detector)
        checked = []
        for length in lengths(card.detector):
            given = example_inputs(card.detector, length, padded=length // 7)
            worst = largest_difference(itself(*given), exported.run(*given))
            if not worst <= TOLERANCE:
                raise TalBenchError(
                    f"at {length} steps the graph differs by {worst:.1e}, allowed are {TOLERANCE:.0e}",
                    where=file,
                )
            ours, theirs = (
                measure_latency(partial(call, *given), runs=10, seconds=2.0)
                for call in (itself, exported.run)
            )
            checked.append(Checked(length, worst, ours, theirs))
    save_exported(exported, file)
    return file, checked


def lengths(architecture: DetectorSpec) -> tuple[int, int, int]:
    """The shortest, the one that the model is made for, and an uneven multiple between."""
    unit = coarsest_stride(architecture)
    longest = max(UNEVEN, architecture.max_length // unit)
    return MIN_STRIDES * unit, (MIN_STRIDES + longest) // 2 * unit, longest * unit
