"""Export a model, and compare its outputs and latency with the original at several input lengths."""

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
"""Allowed difference between the outputs of graph and detector; relative for outputs above 1."""
MIN_LONGEST = 9
"""Minimum of the longest length in a comparison, in coarsest strides."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of an exported graph with the detector at one input length.

    Attributes:
        length: Number of steps T.
        difference: Largest difference over all outputs.
        ours: Latency of the detector.
        theirs: Latency of the graph.
    """

    length: int
    difference: float
    ours: Latency
    theirs: Latency


def export_run(
    run: Path,
    form: Format,
    out: Path | None,
    *,
    threads: int = 1,
    on_export: Callable[[], None] | None = None,
) -> tuple[Path, list[Comparison]]:
    """Export a model, and write the file if its outputs match those of the model.

    Args:
        run: Model, in any form that `load_model` accepts.
        form: Format, `onnx` or `torch`.
        out: Output file; by default in the folder of the weights.
        threads: Number of CPU threads for model and graph.
        on_export: Callback before the export, after all inputs have been checked.

    Returns:
        The file, and the comparisons at three input lengths.

    Raises:
        InputError: The model does not exist.
        TalBenchError: The export fails, or the outputs differ; nothing is written.
    """
    net, card = load_model(run)
    file = out or weights_file(run).with_suffix(SUFFIXES[form])
    if form == "onnx":
        check_onnx()
    if on_export is not None:
        on_export()
    with torch_threads(threads):
        exported = export(net, card, form)
        original = reference_run(net, card.detector)
        comparisons = []
        for length in input_lengths(card.detector):
            inputs = example_inputs(card.detector, length, padded=length // 7)
            largest = largest_difference(original(*inputs), exported.run(*inputs))
            if not largest <= TOLERANCE:
                raise TalBenchError(
                    f"at {length} steps the graph differs by {largest:.1e}, tolerance {TOLERANCE:.0e}",
                    where=file,
                )
            ours, theirs = (
                measure_latency(partial(call, *inputs), runs=10, seconds=2.0)
                for call in (original, exported.run)
            )
            comparisons.append(Comparison(length, largest, ours, theirs))
    save_exported(exported, file)
    return file, comparisons


def input_lengths(architecture: DetectorSpec) -> tuple[int, int, int]:
    """Return the shortest length, the model's maximum length, and a multiple of the stride in between."""
    unit = coarsest_stride(architecture)
    longest = max(MIN_LONGEST, architecture.max_length // unit)
    return MIN_STRIDES * unit, (MIN_STRIDES + longest) // 2 * unit, longest * unit
