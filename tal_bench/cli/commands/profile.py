"""The command `profile`: cost of models."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tal_bench.cli.options import Device, JsonOption, PluginOption, Precision
from tal_bench.cli.tables import output_console, print_table
from tal_bench.errors import InputError

if TYPE_CHECKING:
    from tal_bench import config
    from tal_bench.config import DatasetSpec, DetectorSpec
    from tal_bench.models.registry import Model
    from tal_bench.profiling.model_detail import DetailedCost
    from tal_bench.results.records import CostRecord


def profile(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="Registered models, or files of weights.",
            show_default="all registered models",
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="T, number of feature steps of the input.")] = 2304,
    channels: Annotated[
        str,
        typer.Option(metavar="NAME=C,...", help="Streams and their widths; students see the first."),
    ] = "rgb=1024,flow=1024",
    classes: Annotated[int, typer.Option(min=1, help="K, number of classes.")] = 20,
    device: Annotated[Device, typer.Option(help="Device to measure on.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of matrix products.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 1,
    minute: Annotated[
        bool,
        typer.Option("--minute", help="Measure instead a minute of video, from the file to the segments."),
    ] = False,
    video: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For --minute: video to measure on.", show_default="a generated clip"
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="N|WxH|sprites,...", help="For --minute: sizes of the frames.")
    ] = "sprites,224,340x256",
    flow: Annotated[
        str, typer.Option(metavar="NAME,...", help="For --minute: flow algorithms of models that read flow.")
    ] = "dis,farneback,tvl1",
    backbone: Annotated[
        str, typer.Option(metavar="TIMM_NAME", help="For --minute: backbone of both streams.")
    ] = "tf_efficientnet_lite0",
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="For --minute: figure of stacked bars to write.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the table (Markdown, CSV, JSON) and a figure."),
    ] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure parameters, GMACs, latency and memory of models; random weights, batch 1."""
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
    precision: config.Precision,
    threads: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure the models, in detail if a table is printed or written."""
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
    """Return the named models, or all registered models whose inputs the dataset has."""
    from tal_bench.models.registry import get_model, model_names

    if not names:
        has_privileged = bool(dataset.channels("privileged"))
        names = [
            n for n in model_names() if has_privileged or get_model(n).inputs in ("primary", "decomposed")
        ]
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
    """Measure the models one after the other, and print and write the table."""
    from tal_bench.cli.progress import progress_bar
    from tal_bench.profiling.model_detail import detail_model, lengths_of

    coarsest = max(2**shape.branch_blocks for _, shape in models)
    details: list[DetailedCost] = []
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


def _record(detail: DetailedCost) -> dict[str, Any]:
    """Return the fields of `--json` and the detailed measurements."""
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
    """Parse the widths of streams, such as `rgb=1024,flow=1024`.

    Raises:
        InputError: The text is not of that form.
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
"""Length that is divisible by the largest stride of any model."""


def _streams(widths: dict[str, int], frames: int) -> DatasetSpec:
    """Return a dataset with these streams, the first primary, the others privileged; it has no files."""
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
    """Return a registered model for these streams, or that of a file, with its own streams and classes."""
    from tal_bench.config import weights_path
    from tal_bench.models.checkpoint import read_card, weights_file
    from tal_bench.models.registry import detector_spec, get_model

    file = weights_path(name)
    if file is not None:
        card = read_card(weights_file(file))
        _check_frames(frames, card.detector)
        return card.as_model(), card.detector
    model = get_model(name)
    # the number of levels, which `frames` has to suit, is known only once there is an architecture
    probe = dataset.model_copy(update={"max_length": PROBE_LENGTH})
    _check_frames(frames, detector_spec(model, probe, classes))
    return model, detector_spec(model, dataset, classes)


def _check_frames(frames: int, architecture: DetectorSpec) -> None:
    coarsest = 2**architecture.branch_blocks
    if frames % coarsest:
        hint = f"give a multiple of {coarsest}, for instance {frames + -frames % coarsest}"
        raise InputError(f"got {frames}", where="--frames", hint=hint)


def _cost_json(record: CostRecord) -> dict[str, Any]:
    """Return the keys of `--json`."""
    value = record.model_dump()
    keys = ("params", "gmacs", "latency_ms", "peak_memory_mb", "threads", "device", "precision")
    return {"name": record.model, **{key: value[key] for key in keys}}


def _print_costs(records: list[dict[str, Any]]) -> None:
    from tal_bench.report.profile.tables import headings, rows, title

    print_table(output_console(), headings(records), rows(records), title=title(records))
