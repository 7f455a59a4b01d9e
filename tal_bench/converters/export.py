"""Detectors as graphs that run without this package: ONNX files and PyTorch's exported programs.

A graph takes the streams that the detector reads, each [1, C, T], and `mask` [1, T], true where a step is
real; T is any multiple of the coarsest stride from `SHORTEST` of them on. It gives `logits_0` ... and
`offsets_0` ... per level, as `DetectorOutput` describes them, 0 where mask[:, :: stride of level] is false.
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
from tal_bench.types import Batch

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
SHORTEST = 4
"""In coarsest strides; exporters take sizes of 0 and 1 for constants, so shorter ones stay out."""
LONGEST = 4096
"""In coarsest strides."""
TRACED = 6
"""Length that the graph is recorded at, in coarsest strides."""
REMARKS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch.__trace")
"""Loggers of the exporters; the last one writes pages per layer for whoever listens."""
Run = Callable[[Sequence[Tensor], Tensor], list[Tensor]]
"""From streams [1, C, T] and mask [1, T] to logits and offsets of every level."""


@dataclass(frozen=True)
class Exported:
    """A graph as bytes, and as something that can be called.

    Attributes:
        content: of the file.
        run: calls the graph that these bytes hold.
    """

    content: bytes
    run: Run


class Portable(nn.Module):
    """A detector of one video as a function of tensors alone.

    Args:
        net: maps a `Batch` to a `DetectorOutput`.
        reads: names of its streams.
    """

    def __init__(self, net: nn.Module, reads: Sequence[str]) -> None:
        super().__init__()
        self.net, self.reads = net, tuple(reads)

    def forward(self, streams: tuple[Tensor, ...], mask: Tensor) -> tuple[Tensor, ...]:
        """Streams [1, C, T] and mask [1, T] -> logits, then offsets, level by level."""
        features = dict(zip(self.reads, streams, strict=True))
        output = self.net(Batch(features, mask, segments=[], labels=[], videos=[]))
        return (*output.logits, *output.offsets)


def export(net: nn.Module, card: ModelCard, form: Format) -> Exported:
    """Record a detector.

    Args:
        net: on the CPU, in eval mode.
        card: of the model; it travels in the file.
        form: which file.

    Raises:
        TalBenchError: the network does something that cannot be exported.
    """
    model = Portable(net, card.detector.reads).eval()
    with torch.no_grad(), _quiet():
        model(*example(card.detector, TRACED * coarsest(card.detector)))  # what layers remember is made here
        try:
            program = _record(model, card.detector)
            return _onnx(program, card) if form == "onnx" else _torch(program, card)
        except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise TalBenchError(f"{card.name} cannot be exported: {type(error).__name__}: {first}") from error


def reference(net: nn.Module, architecture: DetectorSpec) -> Run:
    """The detector itself as a `Run`."""
    return _program_run(Portable(net, architecture.reads).eval())


def coarsest(architecture: DetectorSpec) -> int:
    """Lengths are multiples of this."""
    return int(2**architecture.branch_blocks)


def example(architecture: DetectorSpec, length: int, padded: int = 0) -> tuple[tuple[Tensor, ...], Tensor]:
    """Streams of noise [1, C, length] and their mask [1, length], the last ``padded`` steps empty."""
    generator = torch.Generator().manual_seed(length)
    mask = torch.arange(length)[None] < length - padded
    widths = {**architecture.primary, **architecture.privileged}
    noise = [torch.randn(1, widths[name], length, generator=generator) for name in architecture.reads]
    return tuple(x * mask[:, None] for x in noise), mask


def difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Largest difference between outputs, relative where they exceed 1; infinite where shapes differ."""
    worst = 0.0
    for x, y in zip(ours, theirs, strict=True):
        if x.shape != y.shape:
            return float("inf")
        error = (x - y).abs() / x.abs().clamp(min=1.0)
        worst = max(worst, float("inf") if bool(error.isnan().any()) else float(error.max()))
    return worst


def check_onnx() -> None:
    """The extra is installed.

    Raises:
        InputError: it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed", where="--format onnx", hint="pip install 'tal-bench[onnx]'"
        ) from None


def _record(model: Portable, architecture: DetectorSpec) -> torch.export.ExportedProgram:
    unit = coarsest(architecture)
    steps = unit * torch.export.Dim("steps", min=SHORTEST, max=LONGEST)
    streams = tuple({2: steps} for _ in architecture.reads)
    return torch.export.export(
        model, example(architecture, TRACED * unit), dynamic_shapes=(streams, {1: steps}), strict=False
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
    """An ONNX graph as a `Run`, by onnxruntime on the CPU.

    Args:
        content: of the file.
        threads: CPU threads; 0 = as many as PyTorch has.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(streams: Sequence[Tensor], mask: Tensor) -> list[Tensor]:
        given = {name: x.numpy() for name, x in zip(names, (*streams, mask), strict=True)}
        return [torch.from_numpy(x) for x in session.run(None, given)]

    return run


def save_exported(exported: Exported, path: Path) -> None:
    """Write the graph's file."""
    write_atomically(path, exported.content)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own workings."""
    loggers = [logging.getLogger(name) for name in REMARKS]
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
