"""The command `robustness`: accuracy of trained models on corrupted videos."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tal_bench.cli.options import DataRootOption, DatasetOption, Device, JsonOption, PluginOption
from tal_bench.cli.tables import output_console, print_table
from tal_bench.errors import InputError

if TYPE_CHECKING:
    from tal_bench.evaluation.robustness import Robustness
    from tal_bench.inference.retest import RobustnessOptions


def robustness(
    what: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folder of a study, or files of weights.")
    ],
    row: Annotated[
        list[str] | None,
        typer.Option("--row", metavar="NAME", help="Row to test; repeatable.", show_default="all"),
    ] = None,
    corruption: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Corruption, see tal-bench list corruptions; repeatable.", show_default="all"
        ),
    ] = None,
    severity: Annotated[
        list[int] | None, typer.Option(metavar="1|2|3", help="Severity; repeatable.", show_default="all")
    ] = None,
    share: Annotated[
        list[float] | None,
        typer.Option(
            metavar="X",
            help="Share of the frames of every action to corrupt; repeatable.",
            show_default="0.01, 0.05 and 0.1",
        ),
    ] = None,
    level: Annotated[
        Literal["auto", "pixels", "features"],
        typer.Option(help="What to corrupt; auto: pixels if the dataset has videos."),
    ] = "auto",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Row to compare the others with.", show_default="none, or the first"
        ),
    ] = None,
    dataset: DatasetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for table and figure.",
            show_default="STUDY_DIR/robustness; none for files",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the corruptions.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of processes, of one thread each.", show_default="from cores and memory"
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Device of the detectors.")] = "cpu",
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test trained models on corrupted videos, without training. Run again to resume."""
    folder = _check_paths(what, out)
    from tal_bench.inference.retest import RobustnessOptions
    from tal_bench.plugins import load_plugins
    from tal_bench.system.gpus import default_jobs_on
    from tal_bench.training.device import choose_device

    load_plugins(plugin or ())
    where = choose_device(device)
    options = RobustnessOptions(
        rows=tuple(row or ()),
        corruptions=tuple(corruption or ()),
        severities=tuple(severity or ()),
        shares=tuple(share or ()),
        level=level,
        against=against,
        dataset=dataset,
        data_root=data_root,
        seed=seed,
        jobs=jobs or default_jobs_on(where),
        device=where,
        plugins=tuple(plugin or ()),
    )
    _measure(what, options, folder, as_json=as_json)


def _measure(what: list[Path], options: RobustnessOptions, folder: Path | None, *, as_json: bool) -> None:
    """Test the models, write the files, and print the table or JSON."""
    from tal_bench.cli.progress import progress_bar
    from tal_bench.inference.robustness import measure_robustness
    from tal_bench.report.robustness.tables import summary
    from tal_bench.report.robustness.write import write_robustness

    command = shlex.join(["tal-bench", *sys.argv[1:]])
    result = measure_robustness(what, options, progress=progress_bar, command=command)
    written = [] if folder is None else write_robustness(result, folder)
    if as_json:
        typer.echo(json.dumps(summary(result), indent=1))
        return
    _print(result)
    if written:
        typer.echo(f"{len(written)} files in {folder}: {', '.join(file.name for file in written)}")


def _check_paths(what: list[Path], out: Path | None) -> Path | None:
    """Check the paths, and return the folder for the results, if any."""
    for path in what:
        if not path.exists():
            raise InputError(
                "no such file or folder", where=path, hint="give the folder of a study, or files of weights"
            )
    if out is not None and out.is_file():
        raise InputError("is a file", where=f"--out {out}", hint="give a folder")
    folder = out or (what[0] / "robustness" if (what[0] / "study.json").is_file() else None)
    if folder is not None:
        from tal_bench.system.files import check_writable

        check_writable(folder)
    return folder


def _print(result: Robustness) -> None:
    from tal_bench.report.common.markup import plain
    from tal_bench.report.robustness.tables import LEVELS, findings

    names = result.corruptions
    title = f"{result.title}: average mAP, and its relative drop in percent ({LEVELS[result.level]})"
    rows = []
    for row in result.kinds:
        first = result.line(row, names[0])
        drops = (f"{result.line(row, name).drop:.1f}" for name in names)
        rows.append((row, f"{first.clean:.1f}", f"{first.map:.1f}", *drops))
    headings = ("row", "clean", "under", *(name.replace("-", " ") for name in names))
    print_table(output_console(), headings, rows, title=title)
    for line in (*result.notes, *findings(result)):
        typer.echo(plain(line))
