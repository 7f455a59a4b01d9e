"""The commands by name; nothing heavy is imported here, so that `--help` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from tal_bench.cli.commands import (
    checkpoint,
    data,
    detect,
    diagnose,
    evaluate,
    features,
    robustness,
    study,
)
from tal_bench.cli.commands import (
    listing as catalogue,
)
from tal_bench.cli.commands import (
    profile as measure,
)

app = typer.Typer(
    name="tal-bench",
    help="How much of a two-stream teacher an RGB-only student keeps, by which distillation, at what cost.",
    epilog="Start with: tal-bench ablate --budget smoke",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
STUDIES, MEASURING, VIDEOS, LOOKING = "Studies", "Measuring", "Videos", "Looking around"


@app.callback()
def tal_bench(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors; works behind any command.")
    ] = False,
) -> None:
    """Hold the options of every command; `main` takes `--debug` wherever it stands."""


app.command(rich_help_panel=STUDIES)(study.ablate)
app.command(rich_help_panel=STUDIES)(study.tune)
app.command(rich_help_panel=STUDIES)(study.train)
app.command(rich_help_panel=STUDIES)(study.report)
app.command(rich_help_panel=STUDIES)(study.ui)
app.command(rich_help_panel=MEASURING)(evaluate.evaluate)
app.command(rich_help_panel=MEASURING)(diagnose.diagnose)
app.command(rich_help_panel=MEASURING)(robustness.robustness)
app.command(rich_help_panel=MEASURING)(measure.profile)
app.add_typer(data.app, name="data", rich_help_panel=LOOKING)
app.add_typer(checkpoint.app, name="checkpoint", rich_help_panel=STUDIES)
app.command(rich_help_panel=VIDEOS)(detect.detect)
app.add_typer(features.app, name="features", rich_help_panel=VIDEOS)
app.command("list", rich_help_panel=LOOKING)(catalogue.list_names)
app.command(rich_help_panel=LOOKING)(catalogue.doctor)
