"""What a model costs."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tal_bench.cli.options import Device, JsonOption, PluginOption, Precision
from tal_bench.cli.tables import output_console, print_table
from tal_bench.errors import InputError

if TYPE_CHECKING:
    from tal_bench.config import DatasetSpec, DetectorSpec
    from tal_bench.models.registry import Model
    from tal_bench.profiling.model_detail import Detail
    from tal_bench.results.records import CostRecord

PIPED_WIDTH = 150
"""Width of the table when it is not printed to a terminal."""


def profile(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="Registered models, or files of weights.",
            show_default="all that are registered",
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
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the table (Markdown, CSV, JSON) and a figure of it there."),
    ] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Parameters, operations of each part, latency as inputs grow, memory; random weights, batch 1."""
    widths = parse_channels(channels)
    from tal_bench.plugins import load_plugins
    from tal_bench.training.device import choose_device, choose_precision

    load_plugins(plugin or ())
    where = choose_device(device)
    chosen = choose_precision(precision, where)
    if minute or video is not None:
        from tal_bench.cli.commands.profile_video import profile_minute

        profile_minute(
            names or (),
            sizes=size,
            flows=flow,
            backbone=backbone,
            frames=frames,
            classes=classes,
            video=video,
            device=where,
            precision=chosen,
            plugins=plugin or (),
            picture=picture,
            as_json=as_json,
        )
        return
    models = _models(names or (), _streams(widths, frames), classes, frames)
    _measure(models, frames, where, chosen, threads, out, as_json=as_json)


def _measure(
    models: list[tuple[Model, DetectorSpec]],
    frames: int,
    device: str,
    precision: Literal["fp32", "bf16"],
    threads: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure the models, in detail where a table is wanted."""
    from tal_bench.training.device import Device as Place

    if out is not None:
        from tal_bench.system.files import check_writable

        check_writable(out)
    place = Place(device, precision)
    if as_json and out is None:
        _print_json(models, frames, place, threads)
    else:
        _detailed(models, frames, place, threads, out, as_json=as_json)


def _models(
    names: Sequence[str], dataset: DatasetSpec, classes: int, frames: int
) -> list[tuple[Model, DetectorSpec]]:
    """The named models, or all registered ones whose inputs the dataset has."""
    from tal_bench.models.registry import get_model, model_names

    if not names:
        has_privileged = bool(dataset.channels("privileged"))
        names = [n for n in model_names() if has_privileged or get_model(n).inputs == "primary"]
    return [_model(name, dataset, classes, frames) for name in names]


def _print_json(models: list[tuple[Model, DetectorSpec]], frames: int, place: Any, threads: int) -> None:
    from tal_bench.profiling.model import profile_model

    costs = [profile_model(m, shape, frames=frames, device=place, threads=threads) for m, shape in models]
    typer.echo(json.dumps([_cost_json(cost) for cost in costs], indent=1))


def _detailed(
    models: list[tuple[Model, DetectorSpec]],
    frames: int,
    place: Any,
    threads: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure one after the other, print the table, write it."""
    from tal_bench.cli.commands.data import progress_bar
    from tal_bench.profiling.model_detail import detail_model, lengths_of

    coarsest = max(2**shape.branch_blocks for _, shape in models)
    details: list[Detail] = []
    with progress_bar("measuring") as progress:
        for model, shape in models:
            progress(len(details), len(models))
            details.append(
                detail_model(
                    model,
                    shape,
                    frames=frames,
                    device=place,
                    threads=threads,
                    lengths=lengths_of(frames, coarsest),
                )
            )
    records = [_record(detail) for detail in details]
    if as_json:
        typer.echo(json.dumps([_cost_json(detail.cost) for detail in details], indent=1))
    else:
        _print_costs(records)
    if out is not None:
        from tal_bench.report.profile.write import write_profile

        files = write_profile(records, out, _provenance(place))
        typer.echo(f"{len(files)} files in {out}: {', '.join(file.name for file in files)}", err=as_json)


def _record(detail: Detail) -> dict[str, Any]:
    """A plain record: the promised fields, and what is measured beside them."""
    return {
        **_cost_json(detail.cost),
        "frames": detail.cost.frames,
        "parts": {name: asdict(part) for name, part in detail.parts.items()},
        "lengths": [
            {"frames": at.frames, "gmacs": at.gmacs, "latency_ms": asdict(at.latency)}
            for at in detail.lengths
        ],
        "batch": detail.batch,
        "videos_per_second": detail.videos_per_second,
    }


def _provenance(place: Any) -> list[str]:
    from tal_bench.system.environment import environment

    facts = environment(place.torch)
    return [
        f"Command: {shlex.join(['tal-bench', *sys.argv[1:]])}",
        f"Commit: {facts['commit']}, torch {facts['torch']}",
        f"Date: {datetime.now(UTC).isoformat(timespec='seconds')}",
    ]


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
    from tal_bench.models.checkpoint import read_card, weights_file
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


def _print_costs(records: list[dict[str, Any]]) -> None:
    from tal_bench.report.profile.tables import cells, headings, title

    print_table(output_console(PIPED_WIDTH), headings(records), map(cells, records), title=title(records))
