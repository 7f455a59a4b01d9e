"""The command `profile --minute`: cost of a minute of video, from the file to the segments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tal_bench.cli.commands.features import Flow as FlowAlgorithm
from tal_bench.cli.commands.features import extraction_settings, parse_size
from tal_bench.cli.tables import output_console, print_table
from tal_bench.errors import InputError

if TYPE_CHECKING:
    from tal_bench import config
    from tal_bench.config.extraction import Extraction
    from tal_bench.profiling.pipeline import Pipeline, PipelineCost

MEASURED = ("conv-dw-hallucinated", "actionformer")
"""Models that are measured when none is named."""
FLOWS: tuple[FlowAlgorithm, ...] = ("dis", "farneback", "tvl1")
SPRITES = "sprites"
SPRITES_FRAMES = 480
HEADINGS = (
    *("model", "frames", "flow by", "decode", "flow", "RGB net", "flow net", "detector", "NMS", "all"),
    *("times", "share of flow", "frames/s", "MB"),
)
STEPS = ("decode", "flow", "backbone/rgb", "backbone/flow", "detector", "post-processing")


def profile_minute(
    names: Sequence[str],
    *,
    sizes: str,
    flows: str,
    backbone: str,
    frames: int,
    classes: int,
    video: Path | None,
    device: str,
    precision: config.Precision,
    plugins: Sequence[Path],
    picture: Path | None,
    as_json: bool,
) -> None:
    """Measure every model at every size, models that read flow with every algorithm, and print a table."""
    from tal_bench.cli.progress import progress_bar
    from tal_bench.profiling.pipeline import measure_pipelines
    from tal_bench.report.profile.pipeline_figure import FORMATS, stacked_bars

    if picture is not None and picture.suffix not in FORMATS:
        raise InputError(f"got '{picture}'", where="--picture", hint=f"end it in {', '.join(FORMATS)}")
    chosen = _choose(flows)
    pipelines: list[Pipeline] = []
    for size in sizes.split(","):
        for base in _pipelines(names or MEASURED, size.strip(), chosen, backbone, frames, precision):
            pipeline = replace(
                base,
                classes=classes,
                video=video,
                device=device,
                precision=precision,
                plugins=tuple(plugins),
            )
            if pipeline not in pipelines:  # files of weights do not depend on the size
                pipelines.append(pipeline)
    with progress_bar("measuring") as progress:
        progress(0, len(pipelines))
        costs = measure_pipelines(pipelines, progress)
    records = [asdict(cost) for cost in costs]
    if picture is not None:
        from tal_bench.system.files import write_atomically

        write_atomically(picture, stacked_bars(records, picture.suffix))
    if as_json:
        typer.echo(json.dumps(records, indent=1))
    else:
        _print(costs)


def _choose(text: str) -> list[FlowAlgorithm]:
    asked = [part.strip() for part in text.split(",")]
    chosen = [name for name in FLOWS if name in asked]
    if len(chosen) != len(asked):
        raise InputError(f"got '{text}'", where="--flow", hint=f"give some of {','.join(FLOWS)}")
    return chosen


def _pipelines(
    names: Sequence[str],
    size: str,
    flows: Sequence[FlowAlgorithm],
    backbone: str,
    frames: int,
    precision: config.Precision,
) -> Iterator[Pipeline]:
    """Return the pipelines at a size; files of weights have their own size and backbones."""
    from tal_bench.config import weights_path
    from tal_bench.models.registry import get_model
    from tal_bench.profiling.pipeline import Pipeline, trained_extraction

    for name in names:
        file, length = weights_path(name), frames
        if file is not None:
            extraction = trained_extraction(file)
            reads_flow = any(spec.flow for spec in extraction.streams.values())
        else:
            reads_flow = get_model(name).inputs in ("all", "privileged")
            extraction = _settings(size, backbone, precision)
            length = SPRITES_FRAMES if size == SPRITES else frames
        for algorithm in flows if reads_flow else flows[:1]:
            yield Pipeline(name, extraction.with_flow(algorithm), frames=length)


def _settings(size: str, backbone: str, precision: config.Precision) -> Extraction:
    """Return the extraction settings of a size, with random weights, which do not affect the time."""
    if size == SPRITES:
        from tal_bench.data.datasets.sprites.prepare import prepared_extraction

        return prepared_extraction()
    from tal_bench.extraction.streams import complete

    parse_size(size)
    settings = extraction_settings(
        ("rgb", "flow"), backbone=backbone, weights="random", size=size, precision=precision
    )
    return complete(settings)


def _print(costs: Sequence[PipelineCost]) -> None:
    first = costs[0]
    title = f"seconds for a minute of video; {first.device}, threads: {first.threads}, {first.precision}"
    rows = [(cost.name, cost.size, cost.flow or "–", *_cells(cost, costs)) for cost in costs]
    print_table(output_console(), HEADINGS, rows, title=title, text_columns=(0, 1, 2))
    typer.echo(
        "times: relative to the cheapest model without flow at that size. MB: peak memory of the process."
    )


def _cells(cost: PipelineCost, costs: Sequence[PipelineCost]) -> list[Any]:
    without = [other.total for other in costs if other.size == cost.size and not other.flow]
    times = f"{cost.total / min(without):.2f}" if without else "–"
    return [
        *(f"{cost.seconds[step]:.2f}" if step in cost.seconds else "–" for step in STEPS),
        f"{cost.total:.2f}",
        times,
        f"{100 * cost.flow_share:.0f} %",
        f"{cost.frames_per_second:.0f}",
        f"{cost.peak_memory_mb:.0f}",
    ]
