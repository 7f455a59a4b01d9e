"""From the file to the segments: what a minute of video costs with one detector or another, step by step."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from tal_bench.config import DatasetSpec, DecodeSpec, DetectorSpec, ModalitySpec, weights_path
from tal_bench.config.extraction import Extraction
from tal_bench.errors import InputError
from tal_bench.extraction.workers import one_thread
from tal_bench.models.checkpoint import load_model
from tal_bench.models.registry import decoding_recipe, detector_spec, get_model
from tal_bench.plugins import load_plugins
from tal_bench.profiling.extraction import MINUTE, best_of
from tal_bench.profiling.inputs import hardware_name
from tal_bench.profiling.video_minute import MADE_UP_FPS, detector_calls, stream_seconds
from tal_bench.system.worker_pool import SpawnedProcesses
from tal_bench.training.device import Device
from tal_bench.training.prediction import decode

RUNS = 3
SMALL_SIDE = 96
"""Frames up to so many pixels wide are for the small detectors."""


@dataclass(frozen=True)
class Pipeline:
    """What is measured.

    Attributes:
        model: registered name, or a file of weights.
        extraction: complete; the streams that the model does not read are left out.
        frames: T that the detector's share is measured at, without padding.
        classes: K, for registered names.
        video: a file; none = a clip that is made up.
        device: `cpu` or `cuda`, of the networks; decoding and flow are the CPU's.
        precision: of the detector's matrix products.
        plugins: files with declarations.
    """

    model: str
    extraction: Extraction
    frames: int = 2304
    classes: int = 20
    video: Path | None = None
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PipelineCost:
    """What a minute of video costs.

    Attributes:
        name: of the model.
        size: of the frames, `WIDTHxHEIGHT`.
        flow: algorithm, empty where no flow is read.
        backbone: names of the networks.
        seconds: step to seconds per minute of video: `decode`, `flow`, `backbone/<stream>`, `detector`,
            `post-processing`.
        frames_per_second: of the video, worked through in a second.
        flow_share: of `flow` in all, 0 to 1.
        peak_memory_mb: of the process that measured, libraries included.
        peak_cuda_mb: of the GPU's memory, 0 on the CPU.
        threads: of the CPU.
        device: name of the hardware.
        precision: of the detector.
        total: seconds of all steps.
    """

    name: str
    size: str
    flow: str
    backbone: str
    seconds: dict[str, float]
    frames_per_second: float
    flow_share: float
    peak_memory_mb: float
    peak_cuda_mb: float = 0.0
    threads: int = 1
    device: str = ""
    precision: str = "fp32"
    total: float = 0.0

    def with_seconds(self, seconds: dict[str, float]) -> PipelineCost:
        """The same with other times, and what follows from them."""
        total = sum(seconds.values())
        rate = self.frames_per_second * self.total
        return replace(
            self,
            seconds=seconds,
            total=total,
            frames_per_second=rate / total,
            flow_share=seconds.get("flow", 0.0) / total,
        )


def measure_pipelines(
    pipelines: Sequence[Pipeline], progress: Callable[[int, int], None] | None = None
) -> list[PipelineCost]:
    """Measure one after the other, each in a process of its own, whose memory is then known.

    What several of them do alike, such as decoding, costs the same in all: the least that was measured.

    Args:
        pipelines: what is measured.
        progress: called with (done, in all).

    Raises:
        InputError: unknown model, or a video that cannot be used.
    """
    costs: list[PipelineCost] = []
    for pipeline in pipelines:
        with SpawnedProcesses(1) as alone:
            costs.append(alone.submit(measure, pipeline).result())
        if progress:
            progress(len(costs), len(pipelines))
    return share_least(pipelines, costs)


def share_least(pipelines: Sequence[Pipeline], costs: Sequence[PipelineCost]) -> list[PipelineCost]:
    """Give steps that are the same work the least of their times: rows then differ in what they do alone."""
    least: dict[Hashable, float] = {}
    for pipeline, cost in zip(pipelines, costs, strict=True):
        for step, seconds in cost.seconds.items():
            work = _work(step, pipeline)
            least[work] = min(seconds, least.get(work, seconds))
    return [
        cost.with_seconds({step: least[_work(step, pipeline)] for step in cost.seconds})
        for pipeline, cost in zip(pipelines, costs, strict=True)
    ]


def _work(step: str, pipeline: Pipeline) -> Hashable:
    """What a step does, as far as its time goes."""
    made = pipeline.extraction
    if step == "decode":
        return step, made.fps, made.size
    grid = (made.fps, made.size, made.stride, made.window)
    if step == "flow":
        return step, grid, tuple((spec.sees, spec.flow) for spec in made.streams.values() if spec.flow)
    _, _, stream = step.partition("/")
    if stream:
        return step, grid, made.batch, made.streams[stream].sees, made.streams[stream].backbone
    return step, grid, pipeline.model, pipeline.frames


def measure(pipeline: Pipeline) -> PipelineCost:
    """Measure in this process, on one thread of the CPU.

    The detector's share is that of a video of `frames` steps, divided by its minutes. With a registered name
    its weights are random, and nearly every candidate reaches the NMS: the worst case of post-processing.
    """
    load_plugins(pipeline.plugins)
    device = Device(pipeline.device, pipeline.precision)
    with one_thread():
        net, architecture, settings = _detector(pipeline)
        extraction = pipeline.extraction.model_copy(
            update={"streams": {name: pipeline.extraction.streams[name] for name in architecture.reads}}
        )
        seconds = stream_seconds(extraction, pipeline.video, device=pipeline.device)
        rate = extraction.fps or _rate(pipeline.video)
        minutes = pipeline.frames * extraction.stride / rate / MINUTE
        finishing = partial(decode, settings=settings)
        frames = pipeline.frames
        forward, finish = detector_calls(net, architecture, finishing, frames, frames, device)
        forward()
        finish()
        seconds["detector"] = best_of(forward, RUNS, pipeline.device) / minutes
        seconds["post-processing"] = best_of(finish, RUNS, pipeline.device) / minutes
    total = sum(seconds.values())
    cuda = torch.cuda.max_memory_allocated() / 1e6 if pipeline.device == "cuda" else 0.0
    return PipelineCost(
        name=pipeline.model,
        size="x".join(map(str, reversed(extraction.size))),
        flow=" + ".join(sorted({spec.flow for spec in extraction.streams.values() if spec.flow})),
        backbone=" + ".join(dict.fromkeys(spec.backbone for spec in extraction.streams.values())),
        seconds=seconds,
        frames_per_second=MINUTE * rate / total,
        flow_share=seconds.get("flow", 0.0) / total,
        peak_memory_mb=peak_memory_mb(),
        peak_cuda_mb=cuda,
        device=hardware_name(device.torch),
        precision=pipeline.precision,
        total=total,
    )


def _detector(pipeline: Pipeline) -> tuple[torch.nn.Module, DetectorSpec, DecodeSpec]:
    """The network, its architecture and its post-processing."""
    file = weights_path(pipeline.model)
    if file is not None:
        net, card = load_model(file)
        return net, card.detector, card.decode
    model, data = get_model(pipeline.model), made_up_dataset(pipeline.extraction, pipeline.frames)
    architecture = detector_spec(model, data, pipeline.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model.build(architecture).eval(), architecture, decoding_recipe(model, data)


def made_up_dataset(extraction: Extraction, frames: int) -> DatasetSpec:
    """A dataset as far as an architecture needs one; streams that see flow are privileged."""
    nowhere = Path(os.devnull)
    return DatasetSpec(
        name="--minute",
        annotations=nowhere,
        modalities={
            name: ModalitySpec(
                role="privileged" if spec.flow else "primary", folder=nowhere, channels=spec.channels
            )
            for name, spec in extraction.streams.items()
        },
        stride=extraction.stride,
        window=extraction.window,
        fps=extraction.fps,
        max_length=frames,
        size="small" if max(extraction.size) <= SMALL_SIDE else "full",
    )


def _rate(video: Path | None) -> float:
    from tal_bench.extraction.decoding import VideoReader

    return MADE_UP_FPS if video is None else VideoReader(video).fps


def trained_extraction(file: Path) -> Extraction:
    """What makes the features of a file of weights.

    Raises:
        InputError: nobody knows.
    """
    from tal_bench.models.checkpoint import read_card, weights_file

    card = read_card(weights_file(file))
    if card.extraction is None:
        hint = "registered names are measured on any video, see tal-bench list"
        raise InputError("nobody knows how to make its features of a video", where=file, hint=hint)
    return card.extraction


def peak_memory_mb() -> float:
    """Most memory that this process has had, in 1e6 bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:  # not Linux
        import resource
        import sys

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1e6 if sys.platform == "darwin" else 1e3)
    found = re.search(
        r"VmHWM:\s+(\d+) kB", status
    )  # getrusage would count what the parent had when it forked
    return int(found[1]) * 1024 / 1e6 if found else 0.0
