"""Commands that run studies and read what they wrote."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tal_bench.cli.options import (
    BudgetName,
    BudgetOption,
    CheckpointEveryOption,
    DataRootOption,
    DatasetOption,
    DeterministicOption,
    Device,
    DeviceOption,
    FoldsOption,
    GraphsOption,
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
    fold_choice,
    same_options,
    search_space,
    seconds,
)
from tal_bench.cli.tables import output_console, print_table
from tal_bench.errors import InputError
from tal_bench.results.places import REPORTS
from tal_bench.system.text import duration

if TYPE_CHECKING:
    from tal_bench.config import StudySpec
    from tal_bench.studies.dry_run import PlanSummary

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
    folds: FoldsOption = None,
    student: Annotated[
        str | None, typer.Option(metavar="NAME", help="Registered student, the same in every row.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Replaces the transformer teacher; FILE holds its weights."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tuning trials per student row.",
            show_default="the budget's; 4 times that for several objectives",
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Final runs per row.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan: rows, runs, how many are on disk.")
    ] = False,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
    checkpoint_every: CheckpointEveryOption = 30.0,
    graphs: GraphsOption = "auto",
    reports: ReportsOption = REPORTS,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    teacher_precision: TeacherPrecisionOption = None,
    deterministic: DeterministicOption = None,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan of --dry-run as JSON.")] = False,
) -> None:
    """Run an ablation: tune, train and test every row, and print the table. Run again to go on."""
    flags = locals()
    from tal_bench.studies.definition import study_spec

    _run_study(lambda fields: study_spec(study, fields), flags)


@same_options(ablate, leave_out=("study",))
def tune(**flags: Any) -> None:
    """Search on validation, and test what was found: the best settings, or a front of students' sizes."""
    from tal_bench.studies.definition import tuning_spec

    _run_study(tuning_spec, flags)


SPEC_FLAGS = (
    *("dataset", "student", "teacher", "trials", "seeds", "device", "precision", "teacher_precision"),
    *("deterministic", "budget", "sampler", "pruner", "patience"),
)
"""Flags that are fields of a study under the same name."""
EXECUTION_FLAGS = (
    *("reports", "jobs", "scheduler", "storage", "tracking_uri", "checkpoint_every", "data_root"),
    "graphs",
    *("warm_start", "register", "system_metrics"),
)
"""Flags that are fields of `ExecutionOptions` under the same name."""


def _run_study(
    spec_of: Callable[[Mapping[str, Any]], tuple[StudySpec, Mapping[str, str]]], flags: Mapping[str, Any]
) -> None:
    """Turn flags into a study and its options; carry it out, or print its plan."""
    import tal_bench

    if flags["as_json"] and not flags["dry_run"]:
        raise InputError("prints a plan", where="--json", hint="add --dry-run")
    options = tal_bench.ExecutionOptions(
        command=shlex.join(["tal-bench", *sys.argv[1:]]),
        plugins=_plugins(flags["plugin"]),
        timeout=seconds(flags["timeout"]),
        **{name: flags[name] for name in EXECUTION_FLAGS},
    )
    objective = (flags["objective"] or "").replace(" ", "").split(",")
    spec, places = spec_of(
        {
            "variants": tuple(flags["variant"] or ()),
            "objective": tuple(filter(None, objective)),
            "search": search_space(flags["search"]),
            "folds": fold_choice(flags["folds"]),
            **{name: flags[name] for name in SPEC_FLAGS},
        }
    )
    if not flags["dry_run"]:
        tal_bench.ablate(spec, options, places)
        return
    plan = tal_bench.dry_run(spec, options, places)
    if flags["as_json"]:
        typer.echo(json.dumps(asdict(plan), indent=1))
    else:
        _print_plan(plan)


def _print_plan(plan: PlanSummary) -> None:
    rows = [
        (
            row.name,
            row.kind,
            ", ".join(dict.fromkeys(row.teachers)) or "-",
            *(str(n) if n else "-" for n in (row.trials, row.seeds, row.runs, row.on_disk)),
        )
        for row in plan.rows
    ]
    headings = ("row", "kind", "teachers", "trials", "seeds", "runs", "on disk")
    title = f"{plan.study} on {plan.dataset}"
    print_table(output_console(), headings, rows, title=title, text_columns=range(3))
    typer.echo(f"{plan.runs} different runs (rows share teachers), {plan.on_disk} on disk in {plan.folder}")
    if plan.replaces:
        typer.echo(f"replaces {plan.replaces}; the earlier one will be kept in {plan.folder}/earlier")
    if plan.seconds is None:
        typer.echo("no run on disk to estimate the time from")
    elif plan.runs > plan.on_disk:
        jobs = f"{plan.jobs} job{'s' * (plan.jobs > 1)}"
        typer.echo(f"about {duration(plan.seconds)} left with {jobs}, from the runs on disk")


def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Registered student or teacher.")],
    dataset: Annotated[
        str, typer.Option(metavar="NAME|FILE.yaml", help="Dataset to train and test on.")
    ] = "sprites",
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Distillation variant; its teachers are trained first.")
    ] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Seed of initial weights, order and crops.")] = 0,
    budget: Annotated[
        BudgetName, typer.Option(help="Budget; smoke stops after 2 epochs on 12 videos.")
    ] = "quick",
    reports: ReportsOption = REPORTS,
    device: Annotated[Device, typer.Option(help="Device to compute on.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of matrix products.")] = "auto",
    graphs: GraphsOption = "auto",
    deterministic: DeterministicOption = None,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
) -> None:
    """Train one model with default settings and test it."""
    _plugins(plugin)
    import tal_bench
    from tal_bench.studies.definition import check_dataset

    check_dataset(dataset)
    result = tal_bench.train_one(
        model,
        dataset,
        variant=variant,
        seed=seed,
        budget=budget,
        reports=reports,
        device=device,
        precision=precision,
        graphs=graphs,
        deterministic=bool(deterministic),
        data_root=data_root,
    )
    for name, value in result.metrics.items():
        typer.echo(f"{name:10} {value:6.2f}")


def report(
    study_dir: Annotated[
        Path,
        typer.Argument(metavar="STUDY_DIR", help="Folder of a study, such as reports/two-by-two-sprites."),
    ],
    plugin: PluginOption = None,
) -> None:
    """Rewrite the page, tables and figures of a study from its results, and print the table."""
    _plugins(plugin)
    from tal_bench.report.common.report_files import IncompleteReportError
    from tal_bench.report.study.collect import collect
    from tal_bench.report.study.terminal import print_study
    from tal_bench.report.study.write import write_report

    study = collect(study_dir)
    try:
        files = write_report(study_dir, study)
    except IncompleteReportError:
        print_study(study)
        raise
    print_study(study)
    names = [file.name for file in files if file.parent == study_dir]
    figures = f", and {len(files) - len(names)} files in figures" if len(files) > len(names) else ""
    typer.echo(f"\nWritten to {study_dir}: {', '.join(names)}{figures}")
    typer.echo(f"report: {study_dir / 'page.html'}")


def ui(
    tracking_uri: TrackingOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Start the MLflow UI on 127.0.0.1."""
    uri = tracking_uri or f"{SQLITE}mlflow.db"
    if uri.startswith(("http://", "https://")):
        raise InputError("is a server", where=f"--tracking-uri {uri}", hint="open it in a browser")
    if not uri.startswith(SQLITE):
        hint = "give sqlite:///FILE"
        raise InputError("cannot be shown", where=f"--tracking-uri {uri}", hint=hint)
    file = Path(uri.removeprefix(SQLITE))
    if not file.is_file():
        raise InputError("no such file", where=file, hint="run a study here first, or give --tracking-uri")
    if importlib.util.find_spec("mlflow") is None:
        raise InputError("mlflow is not installed", hint="pip install mlflow")
    check_port(port)
    from tal_bench.tracking.mlflow_client import check_schema

    check_schema(uri)
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
    """Check that a server can listen on the port.

    Raises:
        InputError: The port is in use or reserved.
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
