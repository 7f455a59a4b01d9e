"""Mirror of a study folder in MLflow: one experiment per study, one run per row, and nested trials and seeds.

`sync` compares what the folder holds with what the server has and sends the difference. It can be called at
any time and any number of times; what a failed call left out, the next one adds.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import StudyRecord
from tal_bench.system.environment import software_state
from tal_bench.system.text import first_line
from tal_bench.tracking import mlflow_client, run_data
from tal_bench.tracking.dataframe import DEFAULT_URI
from tal_bench.tracking.dataset_input import dataset_input
from tal_bench.tracking.model_registry import register_best_student
from tal_bench.tracking.run_data import RunState
from tal_bench.tracking.stale_runs import PROCESS_TAG, end_stale_runs, this_process

LOG = logging.getLogger(__name__)
UNFINISHED = ("RUNNING", "SCHEDULED")
REJECTIONS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""Error codes of MLflow for requests that it will never accept."""
METRICS_PER_REQUEST = 1000
"""Largest number that MLflow accepts."""
Key = tuple[str, str]
"""Row and hash of a run; the hash is empty for the run of the row."""
StudyStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class MlflowMirror:
    """Makes an MLflow store show what a study folder holds.

    Args:
        uri: URI of the MLflow store. None uses `MLFLOW_TRACKING_URI` or, by default, `sqlite:///mlflow.db` in
            the working directory; `off` disables tracking.
        register: Whether the best student of a study is registered as a version of a model.
        system_metrics: Whether CPU, memory and GPU load are logged, to the run of the study's last row.

    Raises:
        InputError: The store is a folder, which MLflow no longer supports.
    """

    def __init__(
        self, uri: str | None = None, *, register: bool = True, system_metrics: bool = False
    ) -> None:
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        if self.uri != "off" and ("://" not in self.uri or self.uri.startswith("file:")):
            raise InputError(
                f"MLflow does not write to this store: '{self.uri}'",
                where="--tracking-uri",
                hint="give sqlite:///mlflow.db, a server's http(s) address, or off",
            )
        self._register, self._system_metrics = register, system_metrics
        self._monitor: Any = None
        self._rejected: set[Key] = set()

    def prepare(self) -> None:
        """Import MLflow for a `sync` in another thread: imports of two threads may disturb each other."""
        with suppress(Exception):  # `sync` raises it again
            if self.uri != "off":
                mlflow_client.prepare()

    def sync(
        self,
        folder: Path,
        status: StudyStatus = "RUNNING",
        reason: str = "",
        table: str = "",
        files: Sequence[Path] = (),
    ) -> None:
        """Send what the folder holds and the store lacks.

        Args:
            folder: Folder of a study.
            status: Status of the study; rows that have not ended get it.
            reason: Why the study was stopped.
            table: Markdown table of a study that has ended, shown as the description of the experiment.
            files: Tables and figures, logged as artifacts of the last row's run.

        Raises:
            Exception: The store cannot be written; the type depends on its server or database.
        """
        if self.uri == "off":
            return
        if status != "RUNNING":
            self._stop_monitor()
        study = StudyFolder(folder)
        record = study.read_study()
        client = mlflow_client.connect(self.uri)
        name, tags = run_data.experiment_name(record), run_data.study_tags(record)
        experiment = mlflow_client.experiment_id(client, self.uri, name, tags)
        end_stale_runs(client, experiment)
        states = run_data.states(record, study, status, reason)
        runs = self._sync_runs(client, experiment, record, states)
        last = runs.get((record.rows[-1].name, "")) if record.rows else None
        if last is not None and self._system_metrics and self._monitor is None and status == "RUNNING":
            self._monitor = _start_monitor(self.uri, last)
        if table:
            note = run_data.note(table, run_data.EXPERIMENT_NOTE_LIMIT)
            client.set_experiment_tag(experiment, "mlflow.note.content", note)
        if last is not None and table:
            client.log_dict(last, software_state(), "environment.json")
            for file in files:
                client.log_artifact(last, str(file))
        if self._register and table and record.finished and record.spec.budget != "smoke":
            register_best_student(client, record, study, runs)

    def _sync_runs(
        self, client: Any, experiment: str, record: StudyRecord, states: Sequence[RunState]
    ) -> dict[Key, str]:
        """Make the runs of an experiment those of the states, rows first; return their ids."""
        found = _present_runs(client, experiment, {state.key: state for state in states})
        ids = dict[Key, str]()
        for state in states:
            parent = ids.get((state.row, "")) if state.run_hash else None
            if state.key in self._rejected or state.key in ids or (state.run_hash and parent is None):
                continue
            run = found.get(state.key)
            if run is not None and _contradicts(run, state, parent):
                client.delete_run(run.info.run_id)
                run = None
            try:
                run = run or _create(client, experiment, state, parent)
                _update(client, record, state, run)
                ids[state.key] = run.info.run_id
            except Exception as error:
                if getattr(error, "error_code", "") not in REJECTIONS:
                    raise
                self._rejected.add(state.key)
                LOG.warning("MLflow rejected the run %s: %s", state.name, first_line(error))
                if run is not None:
                    client.delete_run(run.info.run_id)
        return ids

    def _stop_monitor(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None


def _start_monitor(uri: str, run_id: str) -> Any:
    """Log the machine's load to a run until `finish` of the returned monitor is called."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor


def _present_runs(client: Any, experiment: str, wanted: Mapping[Key, RunState]) -> dict[Key, Any]:
    """Return the runs of an experiment; those that exist twice, or that a row no longer has, are deleted."""
    rows, found = {row for row, _ in wanted}, dict[Key, Any]()
    for run in mlflow_client.search(client, [experiment], "tags.`tal_bench.row` != ''"):
        key = run.data.tags["tal_bench.row"], run.data.tags.get("tal_bench.hash", "")
        if key in found or (key[0] in rows and key not in wanted):
            client.delete_run(run.info.run_id)
        else:
            found[key] = run
    return found


def _contradicts(run: Any, state: RunState, parent: str | None) -> bool:
    """Whether a run has to be made anew.

    Its parent differs, or its params, which MLflow cannot change, or its training was repeated.
    """
    known = run.data.params
    other_params = state.params and any(state.params.get(name) != value for name, value in known.items())
    repeated = state.run_hash and run.info.status not in (*UNFINISHED, state.status)
    return bool(other_params or repeated) or run.data.tags.get("mlflow.parentRunId") != parent


def _create(client: Any, experiment: str, state: RunState, parent: str | None) -> Any:
    tags = {**state.tags, "mlflow.runName": state.name, PROCESS_TAG: this_process()}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    return client.create_run(experiment, start_time=state.start, tags=tags)


def _update(client: Any, record: StudyRecord, state: RunState, run: Any) -> None:
    """Send what a run lacks, its final status last: until then a later call completes it."""
    from mlflow.entities import Metric, Param, RunTag

    run_id, known = run.info.run_id, run.data
    tags = state.tags | ({PROCESS_TAG: this_process()} if state.status in UNFINISHED else {})
    last = {name: value for name, value, _ in state.metrics}
    changed = {name for name, value in last.items() if known.metrics.get(name) != value}
    if not (run.inputs and run.inputs.dataset_inputs):
        client.log_inputs(run_id, [dataset_input(record, state.tags["tal_bench.phase"])])
    if run.info.status != state.status:
        for file in state.artifacts:
            client.log_artifact(run_id, str(file))
    time_ms = state.end or int(1000 * time.time())
    metrics = [Metric(name, x, time_ms, step) for name, x, step in state.metrics if name in changed]
    new_params = [Param(name, value) for name, value in state.params.items() if name not in known.params]
    new_tags = [RunTag(name, value) for name, value in tags.items() if known.tags.get(name) != value]
    if new_params or new_tags:
        client.log_batch(run_id, params=new_params, tags=new_tags)
    for start in range(0, len(metrics), METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics[start : start + METRICS_PER_REQUEST])
    if run.info.status == state.status:
        return
    if state.status in UNFINISHED:
        client.update_run(run_id, status=state.status)
    else:
        client.set_terminated(run_id, state.status, state.end)
