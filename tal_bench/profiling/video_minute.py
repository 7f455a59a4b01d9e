"""Cost of a minute of video, from the file to the detections, in seconds.

The cost of feature extraction is measured once per study for its dataset, the cost of the detector once per
model; `minute_of_video` combines them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from torch import nn

from tal_bench.config import DatasetSpec, DetectorSpec
from tal_bench.config.extraction import Extraction, find_extraction
from tal_bench.data.annotations import read_annotations
from tal_bench.data.batches import padded_length
from tal_bench.data.registry import datasets
from tal_bench.errors import InputError
from tal_bench.extraction.streams import build_streams
from tal_bench.extraction.workers import one_thread
from tal_bench.models.backbone import pyramid_divisor
from tal_bench.profiling.extraction import MINUTE, extraction_cost, synthetic_video
from tal_bench.profiling.inputs import DeviceLike, random_batch, torch_threads
from tal_bench.profiling.latency import fastest_call, measure_latency
from tal_bench.types import DetectorOutput, VideoMeta

Decode = Callable[[DetectorOutput, Sequence[VideoMeta]], Iterable[object]]
"""Post-processing with bound settings: maps the output of a detector to the segments of every video."""

SYNTHETIC_FPS = 25.0
"""Frames per second of the synthetic clip if the settings keep the rate of each video."""
RUNS = 5
"""Number of calls of a dataset's `minute_work`, of which the fastest counts."""


def extraction_device(dataset: DatasetSpec, device: str) -> str:
    """Return where the extraction of a dataset is measured: on the CPU where it cannot use another device."""
    return "cpu" if dataset.name in datasets and datasets.get(dataset.name).minute_work else device


def extraction_seconds(dataset: DatasetSpec, device: str = "cpu") -> dict[str, float]:
    """Measure the feature extraction of a minute of video by step, on the CPU in seconds of one thread.

    This is slow and should be done once per study. Features that this program extracted are measured on a
    synthetic clip with the same settings.

    Args:
        dataset: Registered dataset, or one read from a file.
        device: Device of the networks; decoding and flow run on the CPU.

    Returns:
        Seconds of `decode`, `flow`, `backbone/<modality>` and alternatives such as `flow_tvl1`; empty if the
        features were not extracted by this program.
    """
    work = datasets.get(dataset.name).minute_work if dataset.name in datasets else None
    if work is not None:
        with one_thread():
            measured = {step: fastest_call(call, RUNS) for step, call in work().items()}
        return {"decode": 0.0, "flow": 0.0} | measured
    extraction = find_extraction(dataset, tuple(dataset.modalities))
    return {} if extraction is None else _costs_with_alternatives(extraction, device)


def _costs_with_alternatives(extraction: Extraction, device: str) -> dict[str, float]:
    """Measure the extraction, and TV-L1 as an alternative flow algorithm."""
    cost = stream_seconds(extraction, device=device)
    algorithms = {stream.flow for stream in extraction.streams.values() if stream.flow}
    if algorithms and "tvl1" not in algorithms:
        cost["flow_tvl1"] = stream_seconds(extraction.with_flow("tvl1").only_flow())["flow"]
    return cost


def stream_seconds(
    extraction: Extraction, video: Path | None = None, *, device: str = "cpu"
) -> dict[str, float]:
    """Measure the feature extraction of a minute of video in seconds by step.

    Args:
        extraction: Extraction settings.
        video: Video file; None means a synthetic clip.
        device: Device of the networks.

    Returns:
        Seconds of `decode`, of `flow` if a stream reads flow, and of each `backbone/<stream>`.
    """
    rate = round(extraction.fps or SYNTHETIC_FPS)
    clip = nullcontext(video) if video else synthetic_video(min(extraction.size), rate)
    flows = {name: spec.flow for name, spec in extraction.streams.items() if spec.flow}
    with clip as file:
        return extraction_cost(
            file,
            build_streams(extraction, device),
            flows,
            fps=extraction.fps,
            size=extraction.size,
            stride=extraction.stride,
            window=extraction.window,
            batch=extraction.batch,
            device=device,
        )


def steps_per_minute(dataset: DatasetSpec) -> int:
    """Return the number of feature steps of a minute of video, at the median frame rate if it varies.

    Raises:
        DataError: The frame rates are in the annotation file, which cannot be read.
    """
    fps = dataset.fps
    if fps is None:
        fps = median(video.fps for video in read_annotations(dataset.annotations).videos)
    return max(1, math.ceil(MINUTE * fps / dataset.stride))


def detector_seconds_per_minute(
    module: nn.Module,
    architecture: DetectorSpec,
    decode: Decode,
    *,
    steps: int,
    device: DeviceLike,
    threads: int = 1,
) -> float:
    """Measure forward pass, decoding and NMS for a minute of video, padded as in evaluation, in seconds.

    The features are noise. With random weights, nearly every point passes the score threshold, which is the
    worst case of NMS; with trained weights it is faster.

    Args:
        module: Detector.
        architecture: Architecture of the detector.
        decode: Post-processing of the output.
        steps: Number of feature steps of a minute, see `steps_per_minute`.
        device: Device and precision of the measurement.
        threads: Number of CPU threads; extraction is measured on one.
    """
    length = padded_length(steps, max_length=architecture.max_length, divisor=pyramid_divisor(architecture))
    forward, postprocess = detector_calls(module, architecture, decode, length, steps, device)

    def detect() -> None:
        forward()
        postprocess()

    with torch_threads(threads):
        return measure_latency(detect, device.torch, warmup=2, runs=9, seconds=3.0).median / 1e3


def detector_calls(
    module: nn.Module, architecture: DetectorSpec, decode: Decode, length: int, steps: int, device: DeviceLike
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return functions that run the forward pass for a video of noise, and its post-processing.

    The post-processing needs the output of a forward pass.

    Args:
        module: Detector.
        architecture: Architecture of the detector.
        decode: Post-processing of the output.
        length: Number of steps T, including padding.
        steps: Number of valid steps.
        device: Device and precision of the measurement.
    """
    module = device.prepare_for_inference(module)
    batch = device.move(random_batch(architecture, length, valid=steps))
    outputs: list[DetectorOutput] = []

    def forward() -> None:
        with torch.inference_mode(), device.autocast():
            outputs[:] = [module(batch)]

    def postprocess() -> None:
        with torch.inference_mode():
            for _ in decode(outputs[0], batch.videos):
                pass

    return forward, postprocess


def minute_of_video(
    architecture: DetectorSpec, extraction: Mapping[str, float], detector: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Combine the costs of extraction and detector for a model, in seconds per minute of video by step.

    Args:
        architecture: Architecture, which defines the modalities that the model reads.
        extraction: Result of `extraction_seconds`; if empty, the results are empty.
        detector: Result of `detector_seconds_per_minute`.

    Returns:
        `CostRecord.minute`, with `decode` and, if a privileged modality is read, `flow`, both unless 0;
        `backbone`, summed over the streams read; and `detector`. `CostRecord.minute_alternatives`, with the
        seconds that would replace `flow` by name; empty for models that read only primary modalities.

    Raises:
        InputError: The dataset's costs lack a step that the model needs.
    """
    if not extraction:
        return {}, {}
    privileged = any(name in architecture.privileged for name in architecture.reads)
    needed = [
        "decode",
        *(f"backbone/{name}" for name in architecture.reads),
        *(["flow"] if privileged else []),
    ]
    missing = [step for step in needed if step not in extraction]
    if missing:
        raise InputError(
            f"lacks {', '.join(missing)}",
            where="minute_work of the dataset",
            hint="return every step that models need",
        )
    steps = ("decode", "flow") if privileged else ("decode",)
    minute = {step: extraction[step] for step in steps if extraction[step] > 0}
    minute["backbone"] = sum(extraction[f"backbone/{name}"] for name in architecture.reads)
    minute["detector"] = detector
    alternatives = {name: seconds for name, seconds in extraction.items() if name.startswith("flow_")}
    return minute, alternatives if privileged else {}
