"""Measure the cost of a minute of video by step, from the file to the detections, for several detectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from tal_bench.config import DatasetSpec, DecodeSpec, DetectorSpec, ModalitySpec, Precision, weights_path
from tal_bench.config.extraction import Extraction
from tal_bench.errors import InputError
from tal_bench.extraction.workers import one_thread
from tal_bench.models.checkpoint import load_model
from tal_bench.models.registry import decoding_recipe, detector_spec, get_model
from tal_bench.plugins import load_plugins
from tal_bench.profiling.extraction import MINUTE
from tal_bench.profiling.inputs import hardware_name
from tal_bench.profiling.latency import fastest_call
from tal_bench.profiling.memory import MB, process_peak_memory_mb
from tal_bench.profiling.video_minute import SYNTHETIC_FPS, detector_calls, stream_seconds
from tal_bench.system.worker_pool import SpawnedProcesses
from tal_bench.training.device import Device
from tal_bench.training.prediction import decode

RUNS = 3
"""Number of calls of the detector, of which the fastest counts."""
SMALL_SIDE = 96
"""Maximum side in pixels of frames that get the small architectures."""


@dataclass(frozen=True)
class Pipeline:
    """Settings of a measurement.

    Attributes:
        model: Registered name, or weights file.
        extraction: Complete extraction settings; streams that the model does not read are ignored.
        frames: Number of steps T at which the detector is measured, without padding.
        classes: Number of classes K, for registered names.
        video: Video file; None means a synthetic clip.
        device: Device of the networks, `cpu` or `cuda`; decoding and flow run on the CPU.
        precision: Precision of the detector's matrix products.
        plugins: Plugin files.
    """

    model: str
    extraction: Extraction
    frames: int = 2304
    classes: int = 20
    video: Path | None = None
    device: str = "cpu"
    precision: Precision = "fp32"
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PipelineCost:
    """Cost of a minute of video.

    Attributes:
        name: Name of the model.
        size: Size of the frames, `WIDTHxHEIGHT`.
        flow: Flow algorithm, empty if no flow is read.
        backbone: Names of the backbone networks.
        seconds: Seconds per minute of video by step: `decode`, `flow`, `backbone/<stream>`, `detector`,
            `post-processing`.
        frames_per_second: Number of video frames processed per second.
        flow_share: Share of `flow` in the total, 0 to 1.
        peak_memory_mb: Peak memory of the measuring process, including libraries.
        peak_cuda_mb: Peak GPU memory, 0 on the CPU.
        threads: Number of CPU threads.
        device: Name of the hardware.
        precision: Precision of the detector.
        total: Seconds of all steps.
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
        """Return a copy with other times and the values derived from them."""
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
    """Measure pipelines one after the other, each in its own process so that its peak memory is known.

    A step that several pipelines share, such as decoding, gets its minimum time in all of them.

    Args:
        pipelines: Pipelines to measure.
        progress: Callback for (pipelines done, total).

    Raises:
        InputError: A model is unknown, or the video cannot be used.
    """
    costs: list[PipelineCost] = []
    for pipeline in pipelines:
        with SpawnedProcesses(1) as process:
            costs.append(process.submit(measure, pipeline).result())
        if progress:
            progress(len(costs), len(pipelines))
    return share_fastest_steps(pipelines, costs)


def share_fastest_steps(pipelines: Sequence[Pipeline], costs: Sequence[PipelineCost]) -> list[PipelineCost]:
    """Replace the times of identical steps by their minimum, so that pipelines differ only in other steps."""
    fastest: dict[Hashable, float] = {}
    for pipeline, cost in zip(pipelines, costs, strict=True):
        for step, seconds in cost.seconds.items():
            key = _step_key(step, pipeline)
            fastest[key] = min(seconds, fastest.get(key, seconds))
    return [
        cost.with_seconds({step: fastest[_step_key(step, pipeline)] for step in cost.seconds})
        for pipeline, cost in zip(pipelines, costs, strict=True)
    ]


def _step_key(step: str, pipeline: Pipeline) -> Hashable:
    """Return all settings on which the time of a step depends."""
    settings = pipeline.extraction
    if step == "decode":
        return step, settings.fps, settings.size
    grid = (settings.fps, settings.size, settings.stride, settings.window)
    if step == "flow":
        return step, grid, tuple((spec.sees, spec.flow) for spec in settings.streams.values() if spec.flow)
    _, _, stream = step.partition("/")
    if stream:
        return step, grid, settings.batch, settings.streams[stream].sees, settings.streams[stream].backbone
    return step, grid, pipeline.model, pipeline.frames


def measure(pipeline: Pipeline) -> PipelineCost:
    """Measure a pipeline in this process, on one CPU thread.

    The detector is measured on a video of `frames` steps, scaled to a minute. For registered names, weights
    are random, so nearly every candidate reaches the NMS, which is the worst case of post-processing.
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
        bound_decode = partial(decode, settings=settings)
        frames = pipeline.frames
        forward, postprocess = detector_calls(net, architecture, bound_decode, frames, frames, device)
        forward()
        postprocess()
        seconds["detector"] = fastest_call(forward, RUNS, pipeline.device) / minutes
        seconds["post-processing"] = fastest_call(postprocess, RUNS, pipeline.device) / minutes
    total = sum(seconds.values())
    cuda = torch.cuda.max_memory_allocated() / MB if pipeline.device == "cuda" else 0.0
    return PipelineCost(
        name=pipeline.model,
        size="x".join(map(str, reversed(extraction.size))),
        flow=" + ".join(sorted({spec.flow for spec in extraction.streams.values() if spec.flow})),
        backbone=" + ".join(dict.fromkeys(spec.backbone for spec in extraction.streams.values())),
        seconds=seconds,
        frames_per_second=MINUTE * rate / total,
        flow_share=seconds.get("flow", 0.0) / total,
        peak_memory_mb=process_peak_memory_mb(),
        peak_cuda_mb=cuda,
        device=hardware_name(device.torch),
        precision=pipeline.precision,
        total=total,
    )


def _detector(pipeline: Pipeline) -> tuple[torch.nn.Module, DetectorSpec, DecodeSpec]:
    """Return the network, its architecture and its post-processing settings."""
    file = weights_path(pipeline.model)
    if file is not None:
        net, card = load_model(file)
        return net, card.detector, card.decode
    model, data = get_model(pipeline.model), synthetic_dataset(pipeline.extraction, pipeline.frames)
    architecture = detector_spec(model, data, pipeline.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model.build(architecture).eval(), architecture, decoding_recipe(model, data)


def synthetic_dataset(extraction: Extraction, frames: int) -> DatasetSpec:
    """Return a dataset without files for building an architecture; streams that read flow are privileged."""
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

    return SYNTHETIC_FPS if video is None else VideoReader(video).fps


def trained_extraction(file: Path) -> Extraction:
    """Read the extraction settings of the features of a weights file.

    Raises:
        InputError: The file has no extraction settings.
    """
    from tal_bench.models.checkpoint import read_card, weights_file

    card = read_card(weights_file(file))
    if card.extraction is None:
        hint = "give a registered name instead, see tal-bench list models"
        raise InputError("has no extraction settings for its features", where=file, hint=hint)
    return card.extraction
