"""Export of detectors as graphs that run without this package: ONNX files and PyTorch exported programs.

A graph takes the modalities that the detector reads, each [1, C, T], and `mask` [1, T], true where a step is
valid. T is any multiple of the coarsest stride, at least `MIN_STRIDES` of them. The outputs are `logits_0`
... and `offsets_0` ... per level as in `DetectorOutput`, 0 where mask[:, :: stride of level] is false.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tal_bench.config import DetectorSpec
from tal_bench.errors import InputError, TalBenchError
from tal_bench.models.checkpoint import CARD, ModelCard
from tal_bench.system.files import write_atomically
from tal_bench.system.text import typed_line
from tal_bench.types import Batch

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
MIN_STRIDES = 4
"""Minimal length in coarsest strides; exporters treat sizes of 0 and 1 as constants."""
MAX_STRIDES = 4096
"""Maximal length in coarsest strides."""
TRACED_STRIDES = 6
"""Length in coarsest strides of the example with which the graph is recorded."""
EXPORT_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch.__trace")
"""Loggers of the exporters, which are silenced; the last one writes pages per layer."""
Run = Callable[[Sequence[Tensor], Tensor], list[Tensor]]
"""Function from modalities [1, C, T] and mask [1, T] to logits and offsets of every level."""


@dataclass(frozen=True)
class Exported:
    """Exported graph.

    Attributes:
        content: Content of the file.
        run: Runs the graph in this content.
    """

    content: bytes
    run: Run


class TensorDetector(nn.Module):
    """Detector as a function of tensors only, for one video.

    Args:
        net: Network that maps a `Batch` to a `DetectorOutput`.
        reads: Names of its modalities.
    """

    def __init__(self, net: nn.Module, reads: Sequence[str]) -> None:
        super().__init__()
        self.net, self.reads = net, tuple(reads)

    def forward(self, streams: tuple[Tensor, ...], mask: Tensor) -> tuple[Tensor, ...]:
        """Modalities [1, C, T] and mask [1, T] -> logits of all levels, then offsets of all levels."""
        features = dict(zip(self.reads, streams, strict=True))
        segments, labels = torch.zeros(1, 1, 2), torch.full((1, 1), -1)
        output = self.net(Batch(features, mask, segments, labels, videos=[]))
        return (*output.logits, *output.offsets)


def export(net: nn.Module, card: ModelCard, form: Format) -> Exported:
    """Export a detector.

    Args:
        net: Network on the CPU, in eval mode.
        card: Card of the model, which is stored in the file.
        form: File format.

    Raises:
        TalBenchError: If the network cannot be exported.
    """
    model = TensorDetector(net, card.detector.reads).eval()
    with torch.no_grad(), _silenced_exporters():
        model(
            *example_inputs(card.detector, TRACED_STRIDES * coarsest_stride(card.detector))
        )  # fills the caches of the layers
        try:
            program = _record(model, card.detector)
            return _onnx(program, card) if form == "onnx" else _torch(program, card)
        except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
            raise TalBenchError(f"{card.name} cannot be exported: {typed_line(error)}") from error


def reference_run(net: nn.Module, architecture: DetectorSpec) -> Run:
    """Return the detector itself as a `Run`."""
    return _program_run(TensorDetector(net, architecture.reads).eval())


def coarsest_stride(architecture: DetectorSpec) -> int:
    """Return the stride of the coarsest level, of which lengths are multiples."""
    return int(2**architecture.branch_blocks)


def example_inputs(
    architecture: DetectorSpec, length: int, padded: int = 0
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return random modalities [1, C, length] and a mask [1, length], the last ``padded`` steps empty."""
    generator = torch.Generator().manual_seed(length)
    mask = torch.arange(length)[None] < length - padded
    widths = {**architecture.primary, **architecture.privileged}
    noise = [torch.randn(1, widths[name], length, generator=generator) for name in architecture.reads]
    return tuple(x * mask[:, None] for x in noise), mask


def largest_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Return the largest difference of outputs, relative above 1; infinite if shapes differ or one is NaN."""
    worst = 0.0
    for x, y in zip(ours, theirs, strict=True):
        if x.shape != y.shape:
            return float("inf")
        error = (x - y).abs() / x.abs().clamp(min=1.0)
        worst = max(worst, float("inf") if bool(error.isnan().any()) else float(error.max()))
    return worst


def check_onnx() -> None:
    """Check that the extra `onnx` is installed.

    Raises:
        InputError: If it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed", where="--format onnx", hint="pip install 'tal-bench[onnx]'"
        ) from None


def _record(model: TensorDetector, architecture: DetectorSpec) -> torch.export.ExportedProgram:
    unit = coarsest_stride(architecture)
    steps = unit * torch.export.Dim("steps", min=MIN_STRIDES, max=MAX_STRIDES)
    streams = tuple({2: steps} for _ in architecture.reads)
    return torch.export.export(
        model,
        example_inputs(architecture, TRACED_STRIDES * unit),
        dynamic_shapes=(streams, {1: steps}),
        strict=False,
    )


def _torch(program: torch.export.ExportedProgram, card: ModelCard) -> Exported:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"card.json": card.model_dump_json()})
    content = buffer.getvalue()
    return Exported(content, _program_run(torch.export.load(io.BytesIO(content)).module()))


def _program_run(module: nn.Module) -> Run:
    def run(streams: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return list(module(tuple(streams), mask))

    return run


def _onnx(program: torch.export.ExportedProgram, card: ModelCard) -> Exported:
    levels = range(card.detector.levels)
    recorded: Any = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=[*card.detector.reads, "mask"],
        output_names=[f"{kind}_{level}" for kind in ("logits", "offsets") for level in levels],
    )
    model = recorded.model_proto
    model.metadata_props.add(key=CARD, value=card.model_dump_json())
    content: bytes = model.SerializeToString()
    return Exported(content, onnx_run(content))


def onnx_run(content: bytes, threads: int = 0) -> Run:
    """Return an ONNX graph as a `Run` of onnxruntime on the CPU.

    Args:
        content: Content of the ONNX file.
        threads: Number of CPU threads; 0 means that of PyTorch.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(streams: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        inputs = {name: x.numpy() for name, x in zip(names, (*streams, mask), strict=True)}
        return [torch.from_numpy(x) for x in session.run(None, inputs)]

    return run


def save_exported(exported: Exported, path: Path) -> None:
    """Write the graph to a file."""
    write_atomically(path, exported.content)


@contextlib.contextmanager
def _silenced_exporters() -> Iterator[None]:
    """Silence warnings and log messages of the exporters."""
    loggers = [logging.getLogger(name) for name in EXPORT_LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
