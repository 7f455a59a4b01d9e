"""Logging of a study to MLflow: one parent run, and one child run per ended run.

Only the main process of a study logs, and only results that are on disk. If the tracking server is
unavailable, a warning is issued, and missing runs are logged when the server is back or when the study is
started again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, RunResult, StudyRecord
from tal_bench.system.environment import git_state, software_state
from tal_bench.system.retry import RetryQueue
from tal_bench.tracking import mlflow_client, run_data
from tal_bench.tracking.dataframe import DEFAULT_URI, EXPERIMENT
from tal_bench.tracking.dataset_input import dataset_input
from tal_bench.tracking.model_registry import register_best_student
from tal_bench.tracking.stale_runs import PROCESS_TAG, stale, this_process

MLFLOW_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


@dataclass
class Child:
    """Child run that has been logged.

    Attributes:
        run_id: Id of the MLflow run.
        status: Status of the RunResult.
        has_cost: Whether the cost has been logged.
        kind: Kind of the run's row; empty while no row has the run.
    """

    run_id: str
    status: str
    has_cost: bool
    kind: str


class Tracker:
    """Logs studies to MLflow, one at a time.

    Args:
        uri: URI of the MLflow store. None uses `MLFLOW_TRACKING_URI` or, by default, `sqlite:///mlflow.db` in
            the working directory; `off` disables tracking.
        experiment: Name of the MLflow experiment.
        register: Whether the best student of a study is registered as a version of a model.
        system_metrics: Whether CPU, memory and GPU load are logged to the parent run.

    Raises:
        InputError: The store is a folder, which MLflow no longer supports.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = EXPERIMENT,
        *,
        register: bool = True,
        system_metrics: bool = False,
    ) -> None:
        self.register, self.system_metrics = register, system_metrics
        self._monitor: Any = None
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        self.experiment = experiment
        if self.uri != "off" and ("://" not in self.uri or self.uri.startswith("file:")):
            raise InputError(
                f"MLflow does not write to this store: '{self.uri}'",
                where="--tracking-uri",
                hint="give sqlite:///mlflow.db, a server's http(s) address, or off",
            )
        self._client: Any = None
        self._experiment_id = ""
        self._parent: str | None = None
        self._record: StudyRecord | None = None
        self._files: StudyFolder | None = None
        self._children: dict[tuple[str, str], Child] = {}
        self._retry_queue = RetryQueue(f"MLflow at {self.uri}", self._reset_connection)

    def study(self, record: StudyRecord, folder: Path) -> None:
        """Create or resume the study's parent run, and log the ended runs that MLflow does not have.

        Child runs that a killed process left with status RUNNING are marked as killed and logged again.
        """
        self._record, self._files, self._parent = record, StudyFolder(folder), None

        def call() -> None:
            self._open(record)
            self._log_missing(record)

        self._submit(call)

    def log(self, result: RunResult, row: RowRecord | str) -> None:
        """Log an ended run as a child run, unless it has been logged before. Requires a call of `study`.

        Args:
            result: Result of the run.
            row: Row of the run, or the name of the row that requested it.
        """
        record = self._record
        if record is None or self._files is None:
            raise RuntimeError("Tracker.log called before Tracker.study")
        rows = run_data.all_rows(record)
        known = next((r for r in rows if r.name == row), None) if isinstance(row, str) else row
        if known is not None and result.hash in (*known.trials, *known.finals):
            name: str = known.name
        else:
            name, known = run_data.early_row(result, known.name if known else str(row), record)

        def call() -> None:
            self._open(record)
            self._log(result, record, name, known)

        self._submit(call)

    def finish(
        self,
        record: StudyRecord,
        table: str,
        files: Sequence[Path] = (),
        status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED",
    ) -> None:
        """Log missing runs and the summary of the study, and end the parent run.

        Args:
            record: Record of the study with its rows.
            table: Markdown table, shown as the note of the parent run.
            files: Tables and figures to log as artifacts.
            status: Final status of the parent run.
        """
        self._record = record

        def call() -> None:
            parent = self._open(record)
            self._log_missing(record)
            self._update_rows(record)
            self._add_costs(record)
            tags = run_data.study_tags(record) | {"mlflow.note.content": run_data.note(table)}
            summary = run_data.summary(record, self._files) if self._files else []
            mlflow_client.send(self._client, parent, metrics=summary, tags=tags)
            for file in files:
                self._client.log_artifact(parent, str(file))
            self._client.log_dict(parent, software_state(), "environment.json")
            if self.register and record.finished and record.spec.budget != "smoke" and self._files:
                runs = {key: child.run_id for key, child in self._children.items()}
                register_best_student(self._client, record, self._files, runs)
            self._set_monitor(None)
            self._client.set_terminated(parent, status)
            self._parent = None

        self._submit(call)
        self._retry_queue.drain()

    def stop(self, status: Literal["FAILED", "KILLED"], why: str) -> None:
        """End the parent run of a failed or interrupted study, without waiting for an unavailable server."""

        def call() -> None:
            if self._parent is not None:
                self._client.set_tag(self._parent, "tal_bench.reason", why[: run_data.VALUE_LIMIT])
                self._client.set_terminated(self._parent, status)
                self._parent = None

        self._submit(call)

    def _submit(self, call: Callable[[], None]) -> None:
        """Make the calls now or, if the server is unavailable, later."""
        if self.uri != "off":
            self._retry_queue.submit(call)

    def _reset_connection(self) -> None:
        """Drop client and parent run after a failure; the next call connects again."""
        self._client, self._parent = None, None

    def _open(self, record: StudyRecord) -> str:
        """Return the id of the parent run, which is resumed or created if none is open."""
        if self._parent is not None:
            return self._parent
        with mlflow_client.sqlite_lock(self.uri):
            self._client = self._client or mlflow_client.connect(self.uri)
            self._experiment_id = mlflow_client.experiment_id(self._client, self.uri, self.experiment)
        commit = git_state().get("commit", "")
        tags = run_data.study_tags(record, commit) | {PROCESS_TAG: this_process()}
        existing = [
            run
            for run in self._search(f"tags.`tal_bench.fingerprint` = '{record.fingerprint}'")
            # a query cannot quote all values
            if all(run.data.tags.get(key) == tags[key] for key in run_data.IDENTITY_TAGS)
        ]
        self._children = {}
        if existing:
            parent = existing[0].info.run_id
            self._client.update_run(parent, status="RUNNING")
            if "tal_bench.reason" in existing[0].data.tags:
                self._client.delete_tag(parent, "tal_bench.reason")
            mlflow_client.send(self._client, parent, tags=tags)
            self._load_children(parent, existing[1:])
        else:
            name = run_data.parent_name(record)
            parent = self._client.create_run(self._experiment_id, run_name=name, tags=tags).info.run_id
            self._client.log_inputs(parent, [dataset_input(record, "study")])
        self._end_stale_studies()
        self._parent = str(parent)
        self._set_monitor(self._parent)
        return self._parent

    def _set_monitor(self, parent: str | None) -> None:
        """Log the machine's load to the given parent run, or stop logging it if None."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
        if parent is not None and self.system_metrics:
            self._monitor = mlflow_client.start_system_metrics(self.uri, parent)

    def _load_children(self, parent: str, others: Sequence[Any]) -> None:
        """Read the logged child runs, and mark RUNNING ones and duplicate parent runs as killed."""
        for run in self._search(f"tags.`mlflow.parentRunId` = '{parent}'"):
            tags = run.data.tags
            if run.info.status == "RUNNING":
                self._mark_killed(run.info.run_id, tags)
            elif "tal_bench.hash" in tags:
                key = (tags.get("tal_bench.row", ""), tags["tal_bench.hash"])
                self._children[key] = Child(
                    run.info.run_id,
                    tags.get("tal_bench.status", ""),
                    "cost/gmacs" in run.data.metrics,
                    tags.get("tal_bench.kind", ""),
                )
        for run in others:
            if run.info.status == "RUNNING":
                self._mark_killed(run.info.run_id, run.data.tags)

    def _end_stale_studies(self) -> None:
        """Mark the RUNNING runs of other studies that were killed on this machine as killed."""
        for study in stale(self._search("attributes.status = 'RUNNING'")):
            for run in (*self._search(f"tags.`mlflow.parentRunId` = '{study.info.run_id}'"), study):
                if run.info.status == "RUNNING":
                    self._mark_killed(run.info.run_id, run.data.tags)

    def _mark_killed(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Mark a run as killed, and remove its hash so that the run is not read as a result."""
        if "tal_bench.hash" in tags:
            self._client.delete_tag(run_id, "tal_bench.hash")
        self._client.set_tag(run_id, "tal_bench.reason", "interrupted or replaced")
        self._client.set_terminated(run_id, "KILLED")

    def _search(self, query: str) -> Iterator[Any]:
        return mlflow_client.search(self._client, self._experiment_id, query)

    def _log_missing(self, record: StudyRecord) -> None:
        """Log the ended runs of the record's rows that MLflow does not have."""
        if self._files is None:
            return
        for row in run_data.all_rows(record):
            for hash_ in (*row.trials, *row.finals):
                if (row.name, hash_) not in self._children:
                    result = self._files.read_run(hash_)
                    if result is not None:
                        self._log(result, record, row.name, row)

    def _update_rows(self, record: StudyRecord) -> None:
        """Update the tags of the child runs to the finished rows. Runs that a row no longer has leave it.

        Rows that are not in the record, from another choice of variants, are not changed.
        """
        all_rows = run_data.all_rows(record)
        rows = {(row.name, hash_): row for row in all_rows for hash_ in (*row.trials, *row.finals)}
        names, in_rows = {row.name for row in all_rows}, {hash_ for _, hash_ in rows}
        for key, child in list(self._children.items()):
            row = rows.get(key)
            result = self._files.read_run(key[1]) if self._files else None
            if result is None or child.kind == (row.kind if row else "") or (not row and key[0] not in names):
                continue
            del self._children[key]
            name = row.name if row else result.spec.model
            if row is None and (key[1] in in_rows or (name, key[1]) in self._children):
                self._client.delete_run(child.run_id)  # it is logged under its own row
                continue
            mlflow_client.send(
                self._client, child.run_id, tags=run_data.child_tags(result, record, name, row)
            )
            child.kind = row.kind if row else ""
            self._children[(name, key[1])] = child

    def _log(self, result: RunResult, record: StudyRecord, name: str, row: RowRecord | None) -> None:
        logged, files = self._children.get((name, result.hash)), self._files
        assert files is not None
        if logged is not None:
            if logged.status == result.status:
                return
            self._mark_killed(
                logged.run_id, {"tal_bench.hash": result.hash}
            )  # failed before and was repeated
        cost = files.read_cost(row.cost) if row is not None and row.cost else None
        metrics = run_data.metrics(result) + (run_data.cost_metrics(cost) if cost else [])
        file = files.run_file(result.hash)
        end = int(1000 * (file.stat().st_mtime if file.is_file() else time.time()))
        start = end - int(1000 * sum(result.timings.values()))
        tags = run_data.child_tags(result, record, name, row) | {"mlflow.parentRunId": str(self._parent)}
        run_id = self._client.create_run(self._experiment_id, start_time=start, tags=tags).info.run_id
        mlflow_client.send(
            self._client, run_id, metrics=metrics, params=run_data.params(result, row), timestamp=end
        )
        self._client.log_inputs(run_id, [dataset_input(record, result.spec.phase)])
        for suffix in (".json", ".detections.json", ".safetensors"):
            if files.run_file(result.hash, suffix).is_file():
                self._client.log_artifact(run_id, str(files.run_file(result.hash, suffix)))
        self._client.set_terminated(run_id, MLFLOW_STATUS[result.status], end)
        kind = row.kind if row else ""
        self._children[(name, result.hash)] = Child(run_id, result.status, cost is not None, kind)

    def _add_costs(self, record: StudyRecord) -> None:
        """Log the costs, which are measured after training, to the child runs logged before."""
        for row in record.rows:
            cost = self._files.read_cost(row.cost) if self._files and row.cost else None
            for hash_ in (*row.trials, *row.finals) if cost else ():
                child = self._children.get((row.name, hash_))
                if cost and child and not child.has_cost:
                    mlflow_client.send(self._client, child.run_id, metrics=run_data.cost_metrics(cost))
                    child.has_cost = True
