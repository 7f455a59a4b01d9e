"""The commands `checkpoint`: import, test and export weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tal_bench.cli.commands.profile import parse_channels
from tal_bench.cli.options import DataRootOption, Device, PluginOption, Precision, ReportsOption
from tal_bench.cli.tables import output_console, print_table

if TYPE_CHECKING:
    from tal_bench.converters.checkpoint_import import ImportedCheckpoint
    from tal_bench.inference.export import Comparison
    from tal_bench.models.checkpoint import ModelCard

FormatName = Literal["onnx", "torch"]
ProgramName = Literal["actionformer", "tridet", "temporalmaxer", "c2ms"]

app = typer.Typer(help="Import, test and export weights.", no_args_is_help=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.pth.tar", help="Checkpoint of the original program.")],
    program: Annotated[ProgramName, typer.Option("--as", help="Program that wrote the checkpoint.")],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml", help="Configuration of the program, for what the weights do not contain."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for NAME.safetensors.")] = Path(
        "checkpoints"
    ),
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the model in tables.", show_default="PROGRAM-FILE")
    ] = "",
    raw: Annotated[
        bool, typer.Option("--raw", help="Import the raw weights instead of their average (EMA).")
    ] = False,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=C,...",
            help="Streams of the weights and their widths; students see the first.",
            show_default="half rgb, half flow",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.yaml",
            help="Dataset that the weights must fit; gives the names of classes and streams.",
        ),
    ] = None,
    data_root: DataRootOption = None,
) -> None:
    """Convert a checkpoint of another program to NAME.safetensors for --teacher, profile and detect."""
    widths = None if channels is None else parse_channels(channels)
    from tal_bench.converters.checkpoint_import import import_checkpoint
    from tal_bench.models.checkpoint import check_name, save_model
    from tal_bench.system.files import write_atomically

    if name:
        check_name(name)
    imported = import_checkpoint(file, program, name=name, config=config, raw=raw, channels=widths)
    card, notes = imported.card, imported.notes
    if dataset is not None:
        card, more = _for_dataset(card, dataset, data_root)
        notes += more
    weights = out / f"{card.name}.safetensors"
    save_model(imported.model, weights, card)
    write_atomically(weights.with_suffix(".json"), card.model_dump_json(indent=1))
    _print(imported, card, weights)
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def _for_dataset(card: ModelCard, dataset: str, root: Path | None) -> tuple[ModelCard, tuple[str, ...]]:
    """Return the card with the names of the classes and streams of a dataset, which must fit."""
    from tal_bench.data.annotations import read_labels
    from tal_bench.data.registry import load_spec
    from tal_bench.studies.imported_teacher import fit

    spec = load_spec(dataset, data_root=root)
    classes = read_labels(spec).classes
    detector, notes = fit(card, spec, classes, where=f"--dataset {dataset}")
    return card.model_copy(update={"detector": detector, "classes": classes}), notes


def _print(imported: ImportedCheckpoint, card: ModelCard, weights: Path) -> None:
    spec = card.detector
    part = (
        f"{imported.part}{'' if imported.epoch is None else f' of epoch {imported.epoch}'}" or "weights only"
    )
    unused = f", {len(imported.unused)} unused by the original" if imported.unused else ""
    streams = " + ".join(f"{name} {width}" for name, width in {**spec.primary, **spec.privileged}.items())
    reads = {"hallucinated": "the first read, the others hallucinated"}.get(spec.inputs, "all read")
    traits = [spec.structure, f"width {spec.width}", f"{spec.levels} levels"]
    traits += [f"{spec.classes} classes", f"T {spec.max_length}"]
    traits += ["temporal attention"] * spec.temporal_attention + ["gated fusion"] * spec.gated_fusion
    traits += ["position embedding"] * spec.position_embedding
    if spec.structure == "actionformer":
        traits.append(f"window {spec.attention_window}, {spec.attention_heads} heads")
    for what, text in (
        ("program", f"{card.program}, {part}"),
        ("network", ", ".join(traits)),
        ("streams", f"{streams} ({reads})"),
        ("weights", f"{imported.matched} matched{unused}, 0 unknown, 0 missing"),
        ("written", str(weights)),
    ):
        typer.echo(f"{what:8} {text}")


@app.command("test")
def test(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=".safetensors of an import or a finished run.")
    ],
    dataset: Annotated[
        str, typer.Option(metavar="NAME|FILE.yaml", help="Dataset whose test videos are used.")
    ],
    reports: ReportsOption = Path("reports"),
    device: Annotated[Device, typer.Option(help="Device to compute on.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of matrix products.")] = "auto",
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
) -> None:
    """Test a model on a dataset, and write its detections for evaluate."""
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    from tal_bench.studies.single_run import score_checkpoint

    result, detections = score_checkpoint(
        file, dataset, reports=reports, device=device, precision=precision, data_root=data_root
    )
    for name, value in result.metrics.items():
        typer.echo(f"{name:10} {value:6.2f}")
    typer.echo(f"detections {detections}")


@app.command("export")
def export(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN|FILE", help=".json or .safetensors of a finished run, or an import."),
    ],
    form: Annotated[
        FormatName, typer.Option("--format", help="ONNX, or a program of torch.export.")
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write.", show_default="next to the weights")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads in the comparison.")] = 1,
    plugin: PluginOption = None,
) -> None:
    """Export a model as a graph, and compare its output and latency with the model."""
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    from tal_bench.inference.export import export_run

    def announce() -> None:
        typer.echo("tracing the graph, a minute or two for published sizes", err=True)

    file, checked = export_run(run, form, out, threads=threads, on_export=announce)
    _print_checked(checked, form)
    typer.echo(f"written {file}, {file.stat().st_size / 1e6:.1f} MB")


def _print_checked(checked: Sequence[Comparison], form: str) -> None:
    other = {"onnx": "onnxruntime", "torch": "program"}[form]
    headings = ("T", "largest difference", "torch (ms)", "IQR", f"{other} (ms)", "IQR")
    rows = []
    for row in checked:
        times = [f"{x:.1f}" for t in (row.ours, row.theirs) for x in (t.median, t.iqr)]
        rows.append((str(row.length), f"{row.difference:.1e}", *times))
    print_table(output_console(), headings, rows, text_columns=())
