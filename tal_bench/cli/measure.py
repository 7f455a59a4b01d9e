"""What a model costs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tal_bench.cli.options import Device, JsonOption, PluginOption, Precision
from tal_bench.errors import InputError

if TYPE_CHECKING:
    from tal_bench.config import DatasetSpec, DetectorSpec
    from tal_bench.models.registry import Model
    from tal_bench.results import CostRecord

PROFILED = ("actionformer", "conv", "conv-dw-hallucinated", "conv-dw-primary")
"""Models shown when none is named: two teachers, and the student with and without hallucination."""


def profile(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="Registered models, or files of weights.",
            show_default=", ".join(PROFILED),
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="T, feature steps of the input.")] = 2304,
    channels: Annotated[
        str,
        typer.Option(metavar="NAME=C,...", help="Streams and their widths; the first is what students see."),
    ] = "rgb=1024,flow=1024",
    classes: Annotated[int, typer.Option(min=1, help="K.")] = 20,
    device: Annotated[Device, typer.Option(help="Where to measure.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of matrix products.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    minute: Annotated[
        bool,
        typer.Option("--minute", help="Instead: what a minute of video costs, from file to segments."),
    ] = False,
    video: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For --minute.", show_default="a clip that is made up"),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="N|WxH|sprites,...", help="For --minute: of the frames.")
    ] = "sprites,224,340x256",
    flow: Annotated[
        str, typer.Option(metavar="NAME,...", help="For --minute: how models that read flow get it.")
    ] = "dis,farneback,tvl1",
    backbone: Annotated[
        str, typer.Option(metavar="TIMM_NAME", help="For --minute: of both streams.")
    ] = "tf_efficientnet_lite0",
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="For --minute: draw stacked bars.")
    ] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Parameters, operations, latency and memory of models; random weights, batch 1."""
    widths = parse_channels(channels)
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    from tal_bench.engine.device import Device as Place
    from tal_bench.engine.device import choose_device, choose_precision
    from tal_bench.profiling.profile import profile_model

    where = choose_device(device)
    if minute or video is not None:
        from tal_bench.cli.minute import profile_minute

        profile_minute(
            names or (),
            sizes=size,
            flows=flow,
            backbone=backbone,
            frames=frames,
            classes=classes,
            video=video,
            device=where,
            precision=choose_precision(precision, where),
            plugins=plugin or (),
            picture=picture,
            as_json=as_json,
        )
        return
    place = Place(where, choose_precision(precision, where))
    models = [_model(name, _streams(widths, frames), classes, frames) for name in names or PROFILED]
    records = [
        profile_model(model, shape, frames=frames, device=place, threads=threads) for model, shape in models
    ]
    if as_json:
        typer.echo(json.dumps([_cost_json(record) for record in records], indent=1))
    else:
        _print_costs(records)


def parse_channels(text: str) -> dict[str, int]:
    """Stream name to width from `rgb=1024,flow=1024`.

    Raises:
        InputError: not of that form.
    """
    pairs = [part.strip().partition("=") for part in text.split(",")]
    widths = {
        name.strip(): int(width) for name, _, width in pairs if name.strip() and width.strip().isdecimal()
    }
    if len(widths) != len(pairs) or not all(widths.values()):
        hint = "give NAME=WIDTH, comma-separated, for instance rgb=1024,flow=1024"
        raise InputError(f"got '{text}'", where="--channels", hint=hint)
    return widths


PROBE_LENGTH = 2**16
"""A length that any pyramid can halve."""


def _streams(widths: dict[str, int], frames: int) -> DatasetSpec:
    """A dataset as far as an architecture needs one: the first stream is primary, the others privileged."""
    from tal_bench.config import DatasetSpec, ModalitySpec

    nowhere = Path(os.devnull)
    modalities = {
        name: ModalitySpec(
            role="privileged" if k else "primary", folder=nowhere, channels=width, nonnegative=True
        )
        for k, (name, width) in enumerate(widths.items())
    }
    return DatasetSpec(
        name="--channels", annotations=nowhere, modalities=modalities, stride=4, window=16, max_length=frames
    )


def _model(name: str, dataset: DatasetSpec, classes: int, frames: int) -> tuple[Model, DetectorSpec]:
    """A registered model on these streams, or that of a file, which has streams and classes of its own."""
    from tal_bench.config import weights_path
    from tal_bench.engine.checkpoint import read_card, weights_file
    from tal_bench.models.registry import detector_spec, get_model

    file = weights_path(name)
    if file is not None:
        card = read_card(weights_file(file))
        _check_frames(frames, card.detector)
        return card.as_model(), card.detector
    model = get_model(name)
    # levels are the model's own; only then is it known whether so many frames can be halved that often
    probe = dataset.model_copy(update={"max_length": PROBE_LENGTH})
    _check_frames(frames, detector_spec(model, probe, classes))
    return model, detector_spec(model, dataset, classes)


def _check_frames(frames: int, architecture: DetectorSpec) -> None:
    coarsest = 2**architecture.branch_blocks
    if frames % coarsest:
        hint = f"give a multiple of {coarsest}, for instance {frames + -frames % coarsest}"
        raise InputError(f"got {frames}", where="--frames", hint=hint)


def _cost_json(record: CostRecord) -> dict[str, Any]:
    """A cost with the promised keys."""
    value = record.model_dump()
    keys = ("params", "gmacs", "latency_ms", "peak_memory_mb", "threads", "device", "precision")
    return {"name": record.model, **{key: value[key] for key in keys}}


def _print_costs(records: list[CostRecord]) -> None:
    from rich.console import Console
    from rich.table import Table

    first = records[0]
    title = f"T = {first.frames}, {first.precision}, threads: {first.threads}, {first.device}"
    table = Table(title=title, box=None, title_justify="left", padding=(0, 2, 0, 0))
    table.add_column("Model", no_wrap=True, overflow="fold")
    for name in ("Params (M)", "GMACs", "Latency, median (ms)", "IQR (ms)", "Peak memory (MB)"):
        table.add_column(name, justify="right")
    for r in records:
        latency = (f"{r.latency_ms['median']:.1f}", f"{r.latency_ms['iqr']:.1f}")
        table.add_row(r.model, f"{r.params / 1e6:.1f}", f"{r.gmacs:.1f}", *latency, f"{r.peak_memory_mb:.0f}")
    Console().print(table)
