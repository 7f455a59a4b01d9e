"""Seconds of work for a minute of video, from the file to the segments.

Extraction is the dataset's, measured once per study; the detector's share is measured per model; combining
them is arithmetic.
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
from tal_bench.profiling.extraction import best_of, extraction_cost, made_up_video
from tal_bench.profiling.inputs import Place, random_batch, torch_threads
from tal_bench.profiling.latency import measure_latency
from tal_bench.types import DetectorOutput, VideoMeta

Decode = Callable[[DetectorOutput, Sequence[VideoMeta]], Iterable[object]]
"""From a detector's output to the segments of every video: decoding and NMS, their settings bound."""

MINUTE = 60.0
MADE_UP_FPS = 25.0
RUNS = 5
"""Calls of a dataset's own work, of which the fastest counts."""


def extraction_seconds(dataset: DatasetSpec) -> dict[str, float]:
    """CPU seconds on one thread, by step, that extracting features of a minute of video takes.

    Measured, so slow; do it once per study. Where the features are this program's making, a clip that is made
    up goes the way that their videos went.

    Args:
        dataset: registered, or of a file.

    Returns:
        `decode`, `flow`, `backbone/<modality>` and alternatives such as `flow_tvl1`; empty when the dataset
        comes as features and there is nothing to measure.
    """
    work = datasets.get(dataset.name).minute_work if dataset.name in datasets else None
    if work is not None:
        with one_thread():
            measured = {step: best_of(call, RUNS) for step, call in work().items()}
        return {"decode": 0.0, "flow": 0.0} | measured
    extraction = find_extraction(dataset, tuple(dataset.modalities))
    return {} if extraction is None else _costs_with_alternatives(extraction)


def _costs_with_alternatives(extraction: Extraction) -> dict[str, float]:
    cost = stream_seconds(extraction)
    seen = {stream.flow for stream in extraction.streams.values() if stream.flow}
    if seen and "tvl1" not in seen:
        cost["flow_tvl1"] = stream_seconds(extraction.with_flow("tvl1").only_flow())["flow"]
    return cost


def stream_seconds(
    extraction: Extraction, video: Path | None = None, *, device: str = "cpu"
) -> dict[str, float]:
    """Seconds of a minute of video, by step, up to its features.

    Args:
        extraction: what is measured.
        video: a file; none = a clip that is made up.
        device: of the networks.

    Returns:
        `decode`, `flow` where a stream sees any, `backbone/<stream>`.
    """
    rate = round(extraction.fps or MADE_UP_FPS)
    clip = nullcontext(video) if video else made_up_video(min(extraction.size), rate)
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
    """Feature steps of a minute of video; where videos differ in frame rate, of the median one.

    Raises:
        DataError: the frame rate stands in the annotation file, and that cannot be read.
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
    device: Place,
    threads: int = 1,
) -> float:
    """Seconds of forward pass, decoding and NMS for one minute of video, padded as evaluation pads it.

    The features are noise. With random weights nearly every point passes the score threshold, so that NMS is
    at its worst case; trained weights make it cheaper.

    Args:
        module: the detector.
        architecture: its spec.
        decode: what follows the forward pass.
        steps: of a minute, see `steps_per_minute`.
        device: where to measure.
        threads: CPU threads; extraction is measured on one.
    """
    length = padded_length(steps, max_length=architecture.max_length, divisor=pyramid_divisor(architecture))
    forward, finish = detector_calls(module, architecture, decode, length, steps, device)

    def detect() -> None:
        forward()
        finish()

    with torch_threads(threads):
        return measure_latency(detect, device.torch, warmup=2, runs=9, seconds=3.0).median / 1e3


def detector_calls(
    module: nn.Module, architecture: DetectorSpec, decode: Decode, length: int, steps: int, device: Place
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The forward pass of one video of noise, and what follows it, as calls to be timed.

    Args:
        module: the detector.
        architecture: its spec.
        decode: what follows the forward pass; it needs one such pass before.
        length: T, padding included.
        steps: that are real.
        device: where.
    """
    module = device.prepare_for_inference(module)
    batch = device.move(random_batch(architecture, length, valid=steps))
    outputs: list[DetectorOutput] = []

    def forward() -> None:
        with torch.inference_mode(), device.autocast():
            outputs[:] = [module(batch)]

    def finish() -> None:
        with torch.inference_mode():
            for _ in decode(outputs[0], batch.videos):
                pass

    return forward, finish


def minute_of_video(
    architecture: DetectorSpec, extraction: Mapping[str, float], detector: float
) -> tuple[dict[str, float], dict[str, float]]:
    """What a model pays for a minute of video, by step, and what other privileged extractors would cost it.

    Args:
        architecture: which modalities the model reads.
        extraction: see `extraction_seconds`; empty gives empty results.
        detector: see `detector_seconds_per_minute`.

    Returns:
        `CostRecord.minute`: `decode`, `flow` where a privileged modality is read, both unless they are 0,
        `backbone` summed over the streams read, `detector`; and `CostRecord.minute_alternatives`: name to
        seconds that would replace `flow`, empty for models that read primary modalities alone.

    Raises:
        InputError: the dataset's costs lack a step that the model needs.
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
            hint="have it return every step",
        )
    steps = ("decode", "flow") if privileged else ("decode",)
    minute = {step: extraction[step] for step in steps if extraction[step] > 0}
    minute["backbone"] = sum(extraction[f"backbone/{name}"] for name in architecture.reads)
    minute["detector"] = detector
    others = {name: seconds for name, seconds in extraction.items() if name.startswith("flow_")}
    return minute, others if privileged else {}
