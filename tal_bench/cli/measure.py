"""Commands that measure: detections against ground truth, and what a model costs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tal_bench.cli.options import Device, JsonOption, PluginOption, Precision
from tal_bench.errors import InputError

if TYPE_CHECKING:
    from tal_bench.config import DatasetSpec, DetectorSpec
    from tal_bench.evaluation.mean_ap import MeanAP
    from tal_bench.models.registry import Model
    from tal_bench.results import CostRecord

PROFILED = ("actionformer", "conv", "conv-dw-hallucinated", "conv-dw-primary")
"""Models shown when none is named: two teachers, and the student with and without hallucination."""
EVERY_SUBSET = "all"


def evaluate(
    ground_truth: Annotated[Path, typer.Option(metavar="GT.json", help="ActivityNet-style annotations.")],
    detections: Annotated[Path, typer.Option(metavar="DET.json|csv", help="ActivityNet-style, or a table.")],
    tiou: Annotated[
        str, typer.Option(metavar="LOW:HIGH:STEP", help="Thresholds; or a list: 0.5,0.75.")
    ] = "0.3:0.7:0.1",
    subset: Annotated[str, typer.Option(help="Of the videos that count; 'all' for every video.")] = "test",
    protocol: Annotated[
        Literal["activitynet", "thumos14"],
        typer.Option(help="They differ by several points and do not compare."),
    ] = "activitynet",
    as_json: JsonOption = False,
) -> None:
    """Mean average precision of detections from any program."""
    thresholds = parse_tiou(tiou)
    from tal_bench.evaluation.io import align_labels, read_detections, read_ground_truth
    from tal_bench.evaluation.mean_ap import interpolated_ap, thumos_ap

    truth = read_ground_truth(ground_truth, None if subset == EVERY_SUBSET else subset, drop_reversed=True)
    if truth.empty:
        raise InputError(
            f"subset '{subset}' has no segment", where=ground_truth, hint="give another --subset"
        )
    found = align_labels(read_detections(detections), truth, where=detections)
    videos = truth.attrs["videos"]
    compute = thumos_ap if protocol == "thumos14" else interpolated_ap
    result = compute(found, truth, thresholds, videos=videos)
    stray = int((~found["video"].isin(videos)).sum())
    counts = {"videos": len(videos), "ground_truths": len(truth), "detections": len(found)}
    if as_json:
        typer.echo(json.dumps({**result.as_dict(), "protocol": protocol, **counts}, indent=1))
        return
    _print_map(result, counts, f"{ground_truth.name}, subset {subset}, {protocol} protocol")
    for count, what in (
        (truth.attrs["reversed"], "annotations that end before they start, which do not count"),
        (stray, "detections in videos outside the subset, which count as wrong"),
    ):
        if count:
            typer.echo(f"note: {what}: {count}", err=True)


def parse_tiou(text: str) -> list[float]:
    """Thresholds from `0.3:0.7:0.1` (both ends included) or `0.5,0.75`.

    Raises:
        InputError: not numbers in (0, 1], or no rising grid.
    """
    wrong = InputError(
        f"got '{text}'", where="--tiou", hint="give LOW:HIGH:STEP or a list, numbers in (0, 1]"
    )
    try:
        numbers = [float(part) for part in re.split("[:,]", text)]
    except ValueError:
        raise wrong from None
    if ":" in text:
        if len(numbers) != 3 or "," in text:
            raise wrong
        low, high, step = numbers
        if not (step >= 0.001 and low <= high):
            raise wrong
        numbers = [round(low + k * step, 6) for k in range(int((high - low) / step + 1e-6) + 1)]
    if not all(0 < number <= 1 for number in numbers):
        raise wrong
    return sorted(set(numbers))


def _print_map(result: MeanAP, counts: dict[str, int], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = result.as_dict()
    columns = list(shown["map"])
    table = Table(title=title, box=None, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("mAP in percent")
    for name in (*columns, "average"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, ap in shown["per_class"].items():
        table.add_row(
            label, *(f"{100 * ap[c]:.2f}" for c in columns), f"{100 * sum(ap.values()) / len(ap):.2f}"
        )
    overall = [*shown["map"].values(), shown["average_map"]]
    table.add_section()
    table.add_row("all classes", *(f"{100 * value:.2f}" for value in overall), style="bold")
    console = Console()
    console.print(table)
    console.print(
        ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()), highlight=False
    )


def profile(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Registered models.", show_default=", ".join(PROFILED)),
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
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Parameters, operations, latency and memory of models; random weights, batch 1."""
    widths = parse_channels(channels)
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    from tal_bench.engine.device import Device as Place
    from tal_bench.engine.device import choose_device, choose_precision
    from tal_bench.models.registry import get_model
    from tal_bench.profiling.profile import profile_model

    where = choose_device(device)
    place = Place(where, choose_precision(precision, where))
    models = [get_model(name) for name in names or PROFILED]
    shapes = [_architecture(model, _streams(widths, frames), classes, frames) for model in models]
    records = [
        profile_model(model, shape, frames=frames, device=place, threads=threads)
        for model, shape in zip(models, shapes, strict=True)
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


def _architecture(model: Model, dataset: DatasetSpec, classes: int, frames: int) -> DetectorSpec:
    from tal_bench.models.registry import detector_spec

    # levels are the model's own; only then is it known whether so many frames can be halved that often
    probe = detector_spec(model, dataset.model_copy(update={"max_length": PROBE_LENGTH}), classes)
    coarsest = 2**probe.branch_blocks
    if frames % coarsest:
        hint = f"give a multiple of {coarsest}, for instance {frames + -frames % coarsest}"
        raise InputError(f"got {frames}", where="--frames", hint=hint)
    return detector_spec(model, dataset, classes)


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
