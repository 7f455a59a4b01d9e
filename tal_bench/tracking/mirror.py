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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult, StudyRecord
from tal_bench.system.environment import software_state
from tal_bench.system.retry import RetryQueue, first_line, is_permanent
from tal_bench.tracking import mlflow_client, run_data
from tal_bench.tracking.dataframe import DEFAULT_URI
from tal_bench.tracking.dataset_input import dataset_input
from tal_bench.tracking.model_registry import register_best_student
from tal_bench.tracking.run_data import RunState
from tal_bench.tracking.stale_runs import PROCESS_TAG, stale, this_process

LOG = logging.getLogger(__name__)
SYNCED, PARAMS = "tal_bench.synced", "tal_bench.params"
"""Tags with the hash of the state, and of the params, that a run was last written with."""
SYNC_SHARE = 0.1
"""Largest share of a study's time that is spent on sending."""
NO_PARAMS = run_data.params_hash({})
Key = tuple[str, str]
"""Row and hash of a run; the hash is empty for the run of the row."""
StudyStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass
class _Logged:
    """Run on the server: its id, and the hashes of its state and params."""

    run_id: str
    synced: str = ""
    params: str = ""


@dataclass
class _Connection:
    """Connection to one experiment.

    Attributes:
        client: MLflow client.
        experiment: Id of the experiment.
        runs: Runs of the experiment by row and hash.
    """

    client: Any
    experiment: str
    runs: dict[Key, _Logged] = field(default_factory=dict)


class MlflowMirror:
    """Makes an MLflow server show what a study folder holds.

    Only the main process of a study writes, after the results are on disk, so an unavailable server costs
    nothing but a warning.

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
        self._connection: _Connection | None = None
        self._monitor: Any = None
        self._results: dict[str, RunResult] = {}
        self._read_at: dict[str, int] = {}
        self._next_sync = 0.0
        self._rejected: set[tuple[Key, str]] = set()
        self._queue = RetryQueue(f"MLflow at {self.uri}", self._disconnect)

    def sync(self, folder: Path, status: StudyStatus = "RUNNING", reason: str = "") -> None:
        """Send what the folder holds and the server lacks, now or, if the server is unavailable, later.

        Args:
            folder: Folder of a study.
            status: Status of the study; rows that have not ended get it.
            reason: Why the study was stopped.
        """
        if self.uri != "off":
            self._queue.replace(partial(self._sync, StudyFolder(folder), status, reason))

    def sync_soon(self, folder: Path) -> None:
        """Sync a running study, unless that would take more than a small share of the time since the last.

        A later call, or `finish`, sends what this one leaves out.
        """
        started = time.monotonic()
        if started >= self._next_sync:
            self.sync(folder)
            ended = time.monotonic()
            self._next_sync = ended + (ended - started) / SYNC_SHARE

    def finish(
        self, folder: Path, table: str, files: Sequence[Path] = (), status: StudyStatus = "FINISHED"
    ) -> None:
        """Send what is missing, the table and the report; waits a while for an unavailable server.

        Args:
            folder: Folder of a study that has ended.
            table: Markdown table, shown as the description of the experiment.
            files: Tables and figures, logged as artifacts of the last row's run.
            status: Status of rows that have not ended.
        """
        if self.uri == "off":
            return

        def call() -> None:
            study = StudyFolder(folder)
            connection, record = self._sync(study, status)
            note = run_data.note(table, run_data.EXPERIMENT_NOTE_LIMIT)
            connection.client.set_experiment_tag(connection.experiment, "mlflow.note.content", note)
            last = connection.runs.get((record.rows[-1].name, "")) if record.rows else None
            if last is not None:
                for file in files:
                    connection.client.log_artifact(last.run_id, str(file))
                connection.client.log_dict(last.run_id, software_state(), "environment.json")
            if self._register and record.finished and record.spec.budget != "smoke":
                runs = {key: run.run_id for key, run in connection.runs.items()}
                register_best_student(connection.client, record, study, runs)
            self._stop_monitor()

        self._queue.replace(call)
        self._queue.drain()

    def _sync(
        self, folder: StudyFolder, status: StudyStatus, reason: str = ""
    ) -> tuple[_Connection, StudyRecord]:
        record = folder.read_study()
        connection = self._connection or self._connect(record)
        self._connection = connection
        results = self._read_results(folder)
        costs = {row.name: folder.read_cost(row.cost) for row in record.rows if row.cost}
        states = run_data.row_states(record, results, costs, status, reason)
        states += run_data.child_states(record, folder, results, costs)
        _delete_outdated(connection, states)
        for state in states:
            self._write(connection, record, state)
        if self._system_metrics and self._monitor is None and record.rows and status == "RUNNING":
            run_id = connection.runs[record.rows[-1].name, ""].run_id
            self._monitor = mlflow_client.start_system_metrics(self.uri, run_id)
        return connection, record

    def _read_results(self, folder: StudyFolder) -> dict[str, RunResult]:
        """Return the ended runs of the folder by hash; a file that has not changed is read only once."""
        for hash_, modified in folder.run_times().items():
            if self._read_at.get(hash_) != modified:
                with suppress(InputError):  # a damaged record is reported, and its run repeated, by the study
                    result = folder.read_run(hash_)
                    if result is not None:
                        self._results[hash_], self._read_at[hash_] = result, modified
        return self._results

    def _connect(self, record: StudyRecord) -> _Connection:
        """Connect to the study's experiment, which is created if missing, and read its runs."""
        with mlflow_client.sqlite_lock(self.uri):
            client = mlflow_client.connect(self.uri)
            experiment = mlflow_client.experiment_id(
                client, self.uri, run_data.experiment_name(record), run_data.study_tags(record)
            )
        connection = _Connection(client, experiment)
        for run in mlflow_client.search(client, [experiment], "tags.`tal_bench.row` != ''"):
            tags = run.data.tags
            key = (tags["tal_bench.row"], tags.get("tal_bench.hash", ""))
            connection.runs[key] = _Logged(run.info.run_id, tags.get(SYNCED, ""), tags.get(PARAMS, ""))
        self._end_stale_rows(connection)
        return connection

    def _end_stale_rows(self, connection: _Connection) -> None:
        """Mark the running rows of studies that were killed on this machine, and not resumed, as killed."""
        client, own = connection.client, connection.experiment
        others = [e.experiment_id for e in client.search_experiments() if e.experiment_id != own]
        for status in ("RUNNING", "SCHEDULED") if others else ():
            for run in stale(mlflow_client.search(client, others, f"attributes.status = '{status}'")):
                client.set_tag(run.info.run_id, "tal_bench.reason", "interrupted")
                client.set_terminated(run.info.run_id, "KILLED")

    def _write(self, connection: _Connection, record: StudyRecord, state: RunState) -> None:
        """Write a state; one that the server rejects is left out with a warning, and the others go on."""
        mark = (state.key, state.hash)
        if mark in self._rejected or (state.run_hash and (state.row, "") not in connection.runs):
            return
        try:
            _write(connection, record, state)
        except Exception as error:
            if not is_permanent(error):
                raise
            self._rejected.add(mark)
            LOG.warning("MLflow rejected the run %s: %s", state.name, first_line(error))

    def _disconnect(self) -> None:
        """Forget the server's state after a failure; the next call reads it again."""
        self._connection = None

    def _stop_monitor(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None


def _delete_outdated(connection: _Connection, states: Sequence[RunState]) -> None:
    """Delete runs that a row of the record no longer has, and runs whose params or outcome have changed."""
    desired = {state.key: state for state in states}
    rows = {state.row for state in states}
    changed = {
        key[0]
        for key, run in connection.runs.items()
        if key in desired and not key[1] and run.params not in ("", NO_PARAMS, desired[key].params_hash)
    }
    for key, run in list(connection.runs.items()):
        state = desired.get(key)
        gone = state is None and key[0] in rows
        if gone or key[0] in changed or (key[1] and state and run.params != state.params_hash):
            connection.client.delete_run(run.run_id)
            del connection.runs[key]


def _write(connection: _Connection, record: StudyRecord, state: RunState) -> None:
    """Create the run of a state, or update it if it has changed."""
    client, known = connection.client, connection.runs.get(state.key)
    if known is not None and known.synced == state.hash:
        return
    marks: Mapping[str, str] = {SYNCED: state.hash, PARAMS: state.params_hash}
    if known is None:
        tags = {**state.tags, "mlflow.runName": state.name}
        if state.run_hash:
            tags["mlflow.parentRunId"] = connection.runs[state.row, ""].run_id
        run = client.create_run(connection.experiment, start_time=state.start, tags=tags)
        known = connection.runs[state.key] = _Logged(run.info.run_id)
        client.log_inputs(known.run_id, [dataset_input(record, state.tags["tal_bench.phase"])])
        for file in state.artifacts:
            client.log_artifact(known.run_id, str(file))
        mlflow_client.send(client, known.run_id, metrics=state.curves(), timestamp=state.end)
    if known.params != state.params_hash:
        mlflow_client.send(client, known.run_id, params=state.params)
    process = {} if state.run_hash else {PROCESS_TAG: this_process()}
    mlflow_client.send(
        client, known.run_id, metrics=state.metrics, tags={**state.tags, **process}, timestamp=state.end
    )
    if state.status in ("RUNNING", "SCHEDULED"):
        client.update_run(known.run_id, status=state.status)
    else:
        client.set_terminated(known.run_id, state.status, state.end)
    mlflow_client.send(client, known.run_id, tags=marks)  # last, so that an interrupted write is repeated
    known.synced, known.params = state.hash, state.params_hash
