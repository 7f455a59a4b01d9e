"""Commands that run studies and read what they wrote."""

from __future__ import annotations

import importlib.util
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tal_bench.cli.definitions import check_dataset, study_spec, tuning_spec
from tal_bench.cli.options import (
    BudgetName,
    BudgetOption,
    CheckpointEveryOption,
    DataRootOption,
    DatasetOption,
    Device,
    DeviceOption,
    JobsOption,
    ObjectiveOption,
    PatienceOption,
    PluginOption,
    Precision,
    PrecisionOption,
    PrunerOption,
    RegisterOption,
    ReportsOption,
    SamplerOption,
    SchedulerOption,
    SearchOption,
    StorageOption,
    SystemMetricsOption,
    TeacherPrecisionOption,
    TimeoutOption,
    TrackingOption,
    WarmStartOption,
    search_space,
    seconds,
)
from tal_bench.errors import InputError

if TYPE_CHECKING:
    from tal_bench.config import StudySpec
    from tal_bench.studies.ablate import ExecutionOptions

LOCAL = "127.0.0.1"
SQLITE = "sqlite:///"


def ablate(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY", help="A shipped study or a YAML file.", show_default="two-by-two, row both"
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Row of the table; repeatable. 'all' is the 2 x 2 with every reference."
        ),
    ] = None,
    dataset: DatasetOption = None,
    student: Annotated[str | None, typer.Option(metavar="NAME", help="The same in every row.")] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="In place of the transformer teacher; FILE: its weights."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Tuning trials per student row.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Final runs per row.")] = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
    checkpoint_every: CheckpointEveryOption = 30.0,
    reports: ReportsOption = Path("reports"),
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    teacher_precision: TeacherPrecisionOption = None,
    budget: BudgetOption = None,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    objective: ObjectiveOption = None,
    sampler: SamplerOption = None,
    pruner: PrunerOption = None,
    search: SearchOption = None,
    patience: PatienceOption = None,
    warm_start: WarmStartOption = None,
    timeout: TimeoutOption = None,
    register: RegisterOption = True,
    system_metrics: SystemMetricsOption = False,
) -> None:
    """Run an ablation: tune, train and test every row, and print the table. Run again to go on."""
    plugins = _plugins(plugin)
    flags = {
        "variants": tuple(variant or ()),
        "dataset": dataset,
        "student": student,
        "teacher": teacher,
        "trials": trials,
        "seeds": seeds,
        "device": device,
        "precision": precision,
        "teacher_precision": teacher_precision,
        "budget": budget,
        **_tuning(objective, sampler, pruner, search, patience),
    }
    options = _options(
        reports=reports,
        jobs=jobs,
        scheduler=scheduler,
        storage=storage,
        tracking_uri=tracking_uri,
        checkpoint_every=checkpoint_every,
        plugins=plugins,
        data_root=data_root,
        timeout=seconds(timeout),
        register=register,
        system_metrics=system_metrics,
    )
    _carry_out(study_spec(study, flags), warm_start, options)


def tune(
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What to tune; repeatable.", show_default="both"),
    ] = None,
    objective: ObjectiveOption = None,
    dataset: DatasetOption = None,
    student: Annotated[str | None, typer.Option(metavar="NAME", help="What is tuned.")] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="In place of the transformer teacher; FILE: its weights."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Per variant.", show_default="the budget's; 4 times that for a front"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Final runs of what was found.")] = None,
    sampler: SamplerOption = None,
    pruner: PrunerOption = None,
    search: SearchOption = None,
    patience: PatienceOption = None,
    warm_start: WarmStartOption = None,
    timeout: TimeoutOption = None,
    register: RegisterOption = True,
    system_metrics: SystemMetricsOption = False,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    storage: StorageOption = None,
    checkpoint_every: CheckpointEveryOption = 30.0,
    tracking_uri: TrackingOption = None,
    reports: ReportsOption = Path("reports"),
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    teacher_precision: TeacherPrecisionOption = None,
    budget: BudgetOption = None,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
) -> None:
    """Search on validation, and test what was found: the best settings, or a front of students' sizes."""
    plugins = _plugins(plugin)
    flags = {
        "variants": tuple(variant or ()),
        "dataset": dataset,
        "student": student,
        "teacher": teacher,
        "trials": trials,
        "seeds": seeds,
        "device": device,
        "precision": precision,
        "teacher_precision": teacher_precision,
        "budget": budget,
        **_tuning(objective, sampler, pruner, search, patience),
    }
    options = _options(
        reports=reports,
        jobs=jobs,
        scheduler=scheduler,
        storage=storage,
        tracking_uri=tracking_uri,
        checkpoint_every=checkpoint_every,
        plugins=plugins,
        data_root=data_root,
        timeout=seconds(timeout),
        register=register,
        system_metrics=system_metrics,
    )
    _carry_out(tuning_spec(flags), warm_start, options)


def _tuning(
    objective: str | None,
    sampler: str | None,
    pruner: str | None,
    search: list[str] | None,
    patience: int | None,
) -> dict[str, Any]:
    """Flags of the search as fields of a study."""
    names = tuple(filter(None, (objective or "").replace(" ", "").split(",")))
    return {
        "objective": names,
        "sampler": sampler,
        "pruner": pruner,
        "search": search_space(search),
        "patience": patience,
    }


def _options(**given: Any) -> ExecutionOptions:
    """How a study is carried out, with the command line as it was typed."""
    from tal_bench.studies.ablate import ExecutionOptions

    return ExecutionOptions(command=shlex.join(["tal-bench", *sys.argv[1:]]), **given)


def _carry_out(spec: StudySpec, earlier: Path | None, options: ExecutionOptions) -> None:
    from tal_bench.studies.ablate import ablate as run_study

    if earlier is not None:
        from tal_bench.studies.earlier_study import warm_start

        spec = warm_start(spec, earlier)
    run_study(spec, options)


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Registered student or teacher.")],
    dataset: Annotated[
        str, typer.Option(metavar="NAME|FILE.yaml", help="What to train and test on.")
    ] = "sprites",
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="How to distil; its teachers are trained first.")
    ] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights, order and crops.")] = 0,
    budget: Annotated[BudgetName, typer.Option(help="smoke stops after 2 epochs on 12 videos.")] = "quick",
    reports: ReportsOption = Path("reports"),
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of matrix products.")] = "auto",
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
) -> None:
    """Train one model with default settings and test it."""
    check_dataset(dataset)
    _plugins(plugin)
    from tal_bench.studies.single_run import train_one

    result = train_one(
        model,
        dataset,
        variant=variant,
        seed=seed,
        budget=budget,
        reports=reports,
        device=device,
        precision=precision,
        data_root=data_root,
    )
    for name, value in result.metrics.items():
        typer.echo(f"{name:10} {value:6.2f}")


def report(
    study_dir: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="For instance reports/two-by-two.")],
) -> None:
    """Write a study's page, tables and figures anew from its results, and print the table."""
    from tal_bench.report.study.collect import collect
    from tal_bench.report.study.terminal import print_study
    from tal_bench.report.study.write import write_report

    study = collect(study_dir)
    files = write_report(study_dir, study)
    print_study(study)
    names = [file.name for file in files if file.parent == study_dir]
    figures = f", and {len(files) - len(names)} files in figures" if len(files) > len(names) else ""
    typer.echo(f"\nWritten to {study_dir}: {', '.join(names)}{figures}")


def ui(
    tracking_uri: TrackingOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine alone.")] = 5000,
) -> None:
    """Look at every run in MLflow's pages, served to this machine alone."""
    uri = tracking_uri or f"{SQLITE}mlflow.db"
    if uri.startswith(("http://", "https://")):
        raise InputError(
            "that is a server already", where=f"--tracking-uri {uri}", hint="open it in a browser"
        )
    if not uri.startswith(SQLITE):
        hint = "give sqlite:///FILE"
        raise InputError("not a store that can be shown", where=f"--tracking-uri {uri}", hint=hint)
    file = Path(uri.removeprefix(SQLITE))
    if not file.is_file():
        raise InputError("no such file", where=file, hint="run a study here first, or give --tracking-uri")
    if importlib.util.find_spec("mlflow") is None:
        raise InputError("mlflow is not installed", hint="pip install mlflow")
    check_port(port)
    typer.echo(f"http://{LOCAL}:{port}  (Ctrl-C ends it)")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    words = [
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        LOCAL,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *words])


def check_port(port: int) -> None:
    """A server can listen on the port.

    Raises:
        InputError: another program does, or it is reserved.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, port))
        except OSError as error:
            hint = f"choose another, for instance --port {port + 1 if port < 65535 else 5000}"
            raise InputError(f"not free: {error.strerror}", where=f"--port {port}", hint=hint) from None


def _plugins(files: list[Path] | None) -> tuple[Path, ...]:
    from tal_bench.plugins import load_plugins

    given = tuple(files or ())
    load_plugins(given)
    return given
