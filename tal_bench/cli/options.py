"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tal_bench.errors import InputError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
TeacherPrecision = Literal["student", "fp32", "bf16"]
Sampler = Literal["tpe", "random", "grid", "nsga2"]
Pruner = Literal["median", "sha", "hyperband", "none"]
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
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="What tuning looks at on validation: map, gmacs, params; several give a front.",
        show_default="map",
    ),
]
SamplerOption = Annotated[Sampler | None, typer.Option(help="Proposes trials.", show_default="tpe")]
PrunerOption = Annotated[
    Pruner | None,
    typer.Option(help="Ends hopeless trials early; none for several objectives.", show_default="median"),
]
SearchOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SETTING=LOW:HIGH|A,B,C", help="Range or values of a setting, temperature=1,2,4; repeatable."
    ),
]
PatienceOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="End a row's tuning after so many generations without a gain.", show_default="never"
    ),
]
WarmStartOption = Annotated[
    Path | None, typer.Option(metavar="STUDY_DIR", help="Try the settings that an earlier study found first.")
]
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Begin no run after it: 90s, 30m, 8h. The same command goes on.",
        show_default="no end",
    ),
]
RegisterOption = Annotated[
    bool, typer.Option(help="Register the best student in MLflow's model registry, with its cost as tags.")
]
SystemMetricsOption = Annotated[
    bool, typer.Option("--system-metrics", help="Log the load of processor, memory and GPU to MLflow.")
]
DatasetOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE.yaml", help="What to train and test on.")
]
JobsOption = Annotated[
    int | None, typer.Option(min=1, help="Worker processes.", show_default="what cores and memory allow")
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
CheckpointEveryOption = Annotated[
    float,
    typer.Option(
        min=0.0, metavar="SECONDS", help="How often a training's state is kept, to go on from when killed."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def same_options(
    command: Callable[..., None], leave_out: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that takes ``**flags`` the options of another one.

    Args:
        command: Command whose parameters are copied.
        leave_out: Names of parameters that the new command does not have.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        kept = [p for name, p in signature.parameters.items() if name not in leave_out]
        function.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in kept} | {"return": None}
        return function

    return decorate


def duration(seconds: float) -> str:
    """Return a time in words: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def seconds(duration: str | None) -> float | None:
    """`90s`, `30m`, `8h`, or a number of seconds.

    Raises:
        InputError: something else.
    """
    if duration is None:
        return None
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (duration[:-1], duration[-1:]) if duration[-1:] in units else (duration, "s")
    try:
        value = float(number) * units[unit]
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"no length of time: '{duration}'", where="--timeout", hint="write 90s, 30m or 8h")
    return value


def search_space(given: list[str] | None) -> dict[str, Any] | None:
    """`lr=0.5:2` and `temperature=1,2,4` as a study's `search`.

    Raises:
        InputError: something else.
    """
    space: dict[str, Any] = {}
    for text in given or ():
        name, _, values = text.partition("=")
        try:
            if ":" in values:
                low, high, *step = map(float, values.split(":"))
                space[name] = {"low": low, "high": high, "log": not step and low > 0}
                space[name] |= {"step": step[0]} if step else {}
            else:
                space[name] = [float(value) for value in values.split(",")]
        except ValueError:
            hint = "write lr=0.5:2, student/width=16:64:16 or temperature=1,2,4"
            raise InputError(f"no range and no values: '{text}'", where="--search", hint=hint) from None
    return space or None
