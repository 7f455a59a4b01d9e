"""The application and its commands; heavy imports are left to the commands, so that `--help` is fast."""

from __future__ import annotations

from typing import Annotated

import typer

from tal_bench.cli.commands import (
    checkpoint,
    compare,
    detect,
    diagnose,
    evaluate,
    features,
    listing,
    profile,
    publish,
    robustness,
    study,
)
from tal_bench.cli.commands.data import group as data_group

app = typer.Typer(
    name="tal-bench",
    help="Benchmark and ablation suite for knowledge distillation in temporal action localization.",
    epilog="Start with: tal-bench ablate --budget smoke",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
STUDIES, MEASURING, VIDEOS, INFORMATION = "Studies", "Measuring", "Videos", "Information"


@app.callback()
def tal_bench(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works after any command.")
    ] = False,
) -> None:
    """Declare the options of every command; `main` handles `--debug` at any position."""


app.command(rich_help_panel=STUDIES)(study.ablate)
app.command(rich_help_panel=STUDIES)(study.tune)
app.command(rich_help_panel=STUDIES)(study.train)
app.command(rich_help_panel=STUDIES)(study.report)
app.command(rich_help_panel=STUDIES)(compare.compare)
app.command(rich_help_panel=STUDIES)(publish.publish)
app.command(rich_help_panel=STUDIES)(publish.leaderboard)
app.command(rich_help_panel=STUDIES)(study.ui)
app.command(rich_help_panel=MEASURING)(evaluate.evaluate)
app.command(rich_help_panel=MEASURING)(diagnose.diagnose)
app.command(rich_help_panel=MEASURING)(robustness.robustness)
app.command(rich_help_panel=MEASURING)(profile.profile)
app.add_typer(data_group.app, name="data", rich_help_panel=INFORMATION)
app.add_typer(checkpoint.app, name="checkpoint", rich_help_panel=STUDIES)
app.command(rich_help_panel=VIDEOS)(detect.detect)
app.add_typer(features.app, name="features", rich_help_panel=VIDEOS)
app.command("list", rich_help_panel=INFORMATION)(listing.list_names)
app.command(rich_help_panel=INFORMATION)(listing.doctor)
