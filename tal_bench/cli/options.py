"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tal_bench.errors import InputError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "tf32", "bf16"]
TeacherPrecision = Literal["student", "fp32", "tf32", "bf16"]
Sampler = Literal["tpe", "random", "grid", "nsga2"]
Pruner = Literal["median", "sha", "hyperband", "none"]
BudgetName = Literal["smoke", "quick", "full"]

DeviceOption = Annotated[Device | None, typer.Option(help="Device to compute on; auto: CUDA if available.")]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(help="Precision of matrix products; auto: bf16 on GPUs with hardware for it."),
]
TeacherPrecisionOption = Annotated[
    TeacherPrecision | None,
    typer.Option(help="Precision of the teachers in distillation; student: the same as the student."),
]
BudgetOption = Annotated[
    BudgetName | None,
    typer.Option(
        help="smoke: 1 trial, 1 seed, 2 epochs, 12 videos; quick: 6 trials, 8 seeds; full: 40 and 5."
    ),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Objectives of tuning: map (on validation), gmacs, params; several give a Pareto front.",
        show_default="map",
    ),
]
SamplerOption = Annotated[Sampler | None, typer.Option(help="Sampler of the trials.", show_default="tpe")]
PrunerOption = Annotated[
    Pruner | None,
    typer.Option(
        help="Pruner that ends poor trials early; always none with several objectives.", show_default="median"
    ),
]
SearchOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SETTING=LOW:HIGH|A,B,C",
        help="Range or values of a setting, such as temperature=1,2,4; repeatable.",
    ),
]
PatienceOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="End the tuning of a row after this many generations without improvement.",
        show_default="never",
    ),
]
WarmStartOption = Annotated[
    Path | None, typer.Option(metavar="STUDY_DIR", help="First try the best settings of an earlier study.")
]
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Start no run after this time: 90s, 30m, 8h. Run the same command to resume.",
        show_default="no limit",
    ),
]
RegisterOption = Annotated[
    bool, typer.Option(help="Register the best student in the MLflow model registry, with its cost as tags.")
]
SystemMetricsOption = Annotated[
    bool, typer.Option("--system-metrics", help="Log CPU, memory and GPU usage to MLflow.")
]
DatasetOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE.yaml", help="Dataset to train and test on.")
]
FoldsOption = Annotated[
    str | None,
    typer.Option(
        metavar="all|N",
        help="Fold to test on of a dataset with folds; all: every fold in turn, merged into one table.",
        show_default="the dataset's",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of worker processes.", show_default="from cores and memory, also of GPUs"
    ),
]
ReportsOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the folders of studies.")]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="Python file that registers your own models, variants, ...; repeatable.",
    ),
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", envvar="TAL_BENCH_DATA", help="Folder that holds the datasets.", show_default="./data"
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow tracking store: sqlite:///FILE, the address of a server, or off.",
        show_default="sqlite:///mlflow.db",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://HOST:PORT|NAME",
        help="Run in the workers of a Dask scheduler (local: start one with --jobs workers), or of another "
        "executor: tal-bench list executors.",
        show_default="worker processes",
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL|FILE|off",
        help="Optuna storage that mirrors the trials: postgresql://…, sqlite:///FILE, journal file, off.",
        show_default="optuna.journal in the study's folder",
    ),
]
CheckpointEveryOption = Annotated[
    float,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="Seconds between two checkpoints of a training, from which it resumes.",
    ),
]
GraphsOption = Annotated[
    Literal["auto", "off"],
    typer.Option(
        help="Record training steps on a GPU as CUDA graphs, where that works; no meaning on the CPU."
    ),
]
DeterministicOption = Annotated[
    bool | None,
    typer.Option(
        "--deterministic",
        help="Repeat results bit by bit on a GPU, more slowly; on the CPU they are repeated anyway.",
        show_default=False,
    ),
]
LabelsOption = Annotated[
    Literal["auto", "names", "ids"],
    typer.Option(help="Whether labels are class names or values of label_id; auto: as the file tells."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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


def fold_choice(text: str | None) -> int | Literal["all"] | None:
    """Parse the value of `--folds`: a number from 0, or `all`.

    Raises:
        InputError: It is neither.
    """
    if text is None or text == "all":
        return text  # type: ignore[return-value]
    if not text.isdecimal():
        raise InputError(f"got '{text}'", where="--folds", hint="give all, or the number of a fold from 0")
    return int(text)


def seconds(duration: str | None) -> float | None:
    """Return the seconds of a duration such as `90s`, `30m`, `8h` or `90`.

    Raises:
        InputError: The text is not a duration.
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
        raise InputError(f"not a duration: '{duration}'", where="--timeout", hint="write 90s, 30m or 8h")
    return value


def search_space(texts: list[str] | None) -> dict[str, Any] | None:
    """Convert `lr=0.5:2` and `temperature=1,2,4` to the field `search` of a study.

    Raises:
        InputError: A text is neither a range nor a list of values.
    """
    space: dict[str, Any] = {}
    for text in texts or ():
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
            raise InputError(f"neither a range nor values: '{text}'", where="--search", hint=hint) from None
    return space or None
