"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
TeacherPrecision = Literal["student", "fp32", "bf16"]
BudgetName = Literal["smoke", "quick", "full"]

DeviceOption = Annotated[Device | None, typer.Option(help="Where to compute; auto takes CUDA where it is.")]
PrecisionOption = Annotated[
    Precision | None, typer.Option(help="Of matrix products; auto is bf16 on CUDA devices that have it.")
]
TeacherPrecisionOption = Annotated[
    TeacherPrecision | None,
    typer.Option(help="What teachers compute in while they teach; student is the same as the student."),
]
BudgetOption = Annotated[
    BudgetName | None,
    typer.Option(
        help="smoke: 1 trial, 1 seed, 2 epochs, 12 videos; quick: 6 trials, 3 seeds; full: 40 and 5."
    ),
]
DatasetOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE.yaml", help="What to train and test on.")
]
ReportsOption = Annotated[Path, typer.Option(metavar="DIR", help="Where the study's folder goes.")]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Python file with your own declarations; repeatable."),
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", envvar="TAL_BENCH_DATA", help="Folder of downloaded datasets.", show_default="./data"
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow store: sqlite:///FILE, a server's address, or off.",
        show_default="sqlite:///mlflow.db",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://HOST:PORT|local",
        help="Compute in the workers of a Dask scheduler, or of one started here with --jobs workers.",
        show_default="worker processes",
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL|FILE|off",
        help="Where Optuna shows the trials: postgresql://…, sqlite:///FILE, a journal file, or off.",
        show_default="optuna.journal in the study's folder",
    ),
]
KeepEveryOption = Annotated[
    float,
    typer.Option(
        min=0.0, metavar="SECONDS", help="How often a training's state is kept, to go on from when killed."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
