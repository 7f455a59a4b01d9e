"""A study in MLflow: one parent run, one child per ended run, from what is on disk already.

Only the process that runs the study writes here, after a result is on disk, so a tracking server that is down
costs nothing but a warning: what it missed is logged when it is back, or when the study starts again.
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
from tal_bench.system.environment import git_state
from tal_bench.system.retry import RetryQueue
from tal_bench.tracking import mlflow_client as store
from tal_bench.tracking import run_data as tracked
from tal_bench.tracking.dataframe import DEFAULT_URI, EXPERIMENT
from tal_bench.tracking.model_registry import dataset_input, register, surroundings
from tal_bench.tracking.stale_runs import PROCESS, left_behind, this_process

OUTCOME = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


@dataclass
class Child:
    """A run that the server knows already."""

    run_id: str
    status: str
    costed: bool
    kind: str
    """Of its row; empty while no row has it."""


class Tracker:
    """Logs one study at a time.

    Args:
        uri: of the MLflow store; none for `MLFLOW_TRACKING_URI` or `sqlite:///mlflow.db` in the working
            directory; `off` for no tracking.
        experiment: that the studies' runs belong to.
        register: whether a study's best student becomes a version of a registered model.
        system_metrics: whether load of processor, memory and GPU is logged to the study's run.

    Raises:
        InputError: a folder is given as the store, which MLflow no longer writes.
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
                f"not a store that MLflow writes: '{self.uri}'",
                where="--tracking-uri",
                hint="give sqlite:///mlflow.db, a server's http(s) address, or off",
            )
        self._client: Any = None
        self._experiment_id = ""
        self._parent: str | None = None
        self._record: StudyRecord | None = None
        self._files: StudyFolder | None = None
        self._children: dict[tuple[str, str], Child] = {}
        self._retry_queue = RetryQueue(f"MLflow at {self.uri}", self._forget)

    def study(self, record: StudyRecord, folder: Path) -> None:
        """Open the study's parent run, or resume it, and log what is on disk and not there yet.

        Children that a killed process left RUNNING are marked as killed and logged anew.
        """
        self._record, self._files, self._parent = record, StudyFolder(folder), None

        def work() -> None:
            self._open(record)
            self._catch_up(record)

        self._spared(work)

    def log(self, result: RunResult, row: RowRecord | str) -> None:
        """Log an ended run as a child of the study, after `study`; one that was logged before is skipped.

        Args:
            result: of the run.
            row: that it belongs to, or the name of the row that asked for it.
        """
        record = self._record
        if record is None or self._files is None:
            raise RuntimeError("Tracker.log before Tracker.study")
        rows = tracked.all_rows(record)
        known = next((r for r in rows if r.name == row), None) if isinstance(row, str) else row
        if known is not None and result.hash in (*known.trials, *known.finals):
            name: str = known.name
        else:
            name, known = tracked.early_row(result, known.name if known else str(row), record)

        def work() -> None:
            self._open(record)
            self._log(result, record, name, known)

        self._spared(work)

    def finish(
        self,
        record: StudyRecord,
        table: str,
        files: Sequence[Path] = (),
        status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED",
    ) -> None:
        """Log what is still missing, then the study's summary, and end the parent run.

        Args:
            record: with its rows.
            table: Markdown, shown as the run's note.
            files: tables and figures.
            status: FINISHED, or how else the study ended.
        """
        self._record = record

        def work() -> None:
            parent = self._open(record)
            self._catch_up(record)
            self._settle(record)
            self._add_costs(record)
            tags = tracked.study_tags(record) | {"mlflow.note.content": tracked.note(table)}
            summary = tracked.summary(record, self._files) if self._files else []
            store.send(self._client, parent, metrics=summary, tags=tags)
            for file in files:
                self._client.log_artifact(parent, str(file))
            self._client.log_dict(parent, surroundings(), "environment.json")
            if self.register and record.finished and record.spec.budget != "smoke" and self._files:
                runs = {key: child.run_id for key, child in self._children.items()}
                register(self._client, record, self._files, runs)
            self._watch(None)
            self._client.set_terminated(parent, status)
            self._parent = None

        self._spared(work)
        self._retry_queue.drain()

    def stop(self, status: Literal["FAILED", "KILLED"], why: str) -> None:
        """End the parent run of a study that does not go on; a server that is away is not waited for."""

        def work() -> None:
            if self._parent is not None:
                self._client.set_tag(self._parent, "tal_bench.reason", why[: tracked.VALUE_LIMIT])
                self._client.set_terminated(self._parent, status)
                self._parent = None

        self._spared(work)

    def _spared(self, work: Callable[[], None]) -> None:
        """Do it, now or when the server is back; results are safe on disk."""
        if self.uri != "off":
            self._retry_queue.submit(work)

    def _forget(self) -> None:
        """After a failure nothing is known of the server; the next request learns it anew."""
        self._client, self._parent = None, None

    def _open(self, record: StudyRecord) -> str:
        """The study's parent run: the open one, an earlier one resumed, or a new one."""
        if self._parent is not None:
            return self._parent
        with store.sqlite_lock(self.uri):
            self._client = self._client or store.connect(self.uri)
            self._experiment_id = store.experiment_id(self._client, self.uri, self.experiment)
        commit = git_state().get("commit", "")
        tags = tracked.study_tags(record, commit) | {PROCESS: this_process()}
        found = [
            run
            for run in self._search(f"tags.`tal_bench.fingerprint` = '{record.fingerprint}'")
            if all(
                run.data.tags.get(key) == tags[key] for key in tracked.IDENTITY
            )  # a query cannot quote all
        ]
        self._children = {}
        if found:
            parent = found[0].info.run_id
            self._client.update_run(parent, status="RUNNING")
            if "tal_bench.reason" in found[0].data.tags:
                self._client.delete_tag(parent, "tal_bench.reason")  # why it had stopped
            store.send(self._client, parent, tags=tags)
            self._sweep(parent, found[1:])
        else:
            name = tracked.parent_name(record)
            parent = self._client.create_run(self._experiment_id, run_name=name, tags=tags).info.run_id
            self._client.log_inputs(parent, [dataset_input(record, "study")])
        self._sweep_others()
        self._parent = str(parent)
        self._watch(self._parent)
        return self._parent

    def _watch(self, parent: str | None) -> None:
        """Log the machine's load to the study's run from now on, or no longer."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
        if parent is not None and self.system_metrics:
            self._monitor = store.watch(self.uri, parent)

    def _sweep(self, parent: str, others: Sequence[Any]) -> None:
        """Learn which children are there, and end those that nobody will."""
        for run in self._search(f"tags.`mlflow.parentRunId` = '{parent}'"):
            tags = run.data.tags
            if run.info.status == "RUNNING":
                self._abandon(run.info.run_id, tags)
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
                self._abandon(run.info.run_id, run.data.tags)

    def _sweep_others(self) -> None:
        """End what other studies, killed on this machine and not taken up again, left running."""
        for study in left_behind(self._search("attributes.status = 'RUNNING'")):
            for run in (*self._search(f"tags.`mlflow.parentRunId` = '{study.info.run_id}'"), study):
                if run.info.status == "RUNNING":
                    self._abandon(run.info.run_id, run.data.tags)

    def _abandon(self, run_id: str, tags: Mapping[str, str]) -> None:
        """End a run as killed; without its hash it is no result, and is logged anew."""
        if "tal_bench.hash" in tags:
            self._client.delete_tag(run_id, "tal_bench.hash")
        self._client.set_tag(run_id, "tal_bench.reason", "interrupted or replaced")
        self._client.set_terminated(run_id, "KILLED")

    def _search(self, query: str) -> Iterator[Any]:
        return store.search(self._client, self._experiment_id, query)

    def _catch_up(self, record: StudyRecord) -> None:
        """Log every ended run of the record's rows that the server does not know."""
        if self._files is None:
            return
        for row in tracked.all_rows(record):
            for hash_ in (*row.trials, *row.finals):
                if (row.name, hash_) not in self._children:
                    result = self._files.read_run(hash_)
                    if result is not None:
                        self._log(result, record, row.name, row)

    def _settle(self, record: StudyRecord) -> None:
        """Say of every child what the finished rows say; runs that their row has no more belong to none.

        Rows that the record does not have, from another choice of variants, stay as they are.
        """
        every = tracked.all_rows(record)
        rows = {(row.name, hash_): row for row in every for hash_ in (*row.trials, *row.finals)}
        names, in_rows = {row.name for row in every}, {hash_ for _, hash_ in rows}
        for key, child in list(self._children.items()):
            row = rows.get(key)
            result = self._files.read_run(key[1]) if self._files else None
            if result is None or child.kind == (row.kind if row else "") or (not row and key[0] not in names):
                continue
            del self._children[key]
            name = row.name if row else result.spec.model
            if row is None and (key[1] in in_rows or (name, key[1]) in self._children):
                self._client.delete_run(child.run_id)  # it stands under its own row
                continue
            store.send(self._client, child.run_id, tags=tracked.child_tags(result, record, name, row))
            child.kind = row.kind if row else ""
            self._children[(name, key[1])] = child

    def _log(self, result: RunResult, record: StudyRecord, name: str, row: RowRecord | None) -> None:
        known, files = self._children.get((name, result.hash)), self._files
        assert files is not None
        if known is not None:
            if known.status == result.status:
                return
            self._abandon(known.run_id, {"tal_bench.hash": result.hash})  # it failed once, and was run again
        cost = files.read_cost(row.cost) if row is not None and row.cost else None
        measured = tracked.metrics(result) + (tracked.cost_metrics(cost) if cost else [])
        file = files.run_file(result.hash)
        end = int(1000 * (file.stat().st_mtime if file.is_file() else time.time()))
        start = end - int(1000 * sum(result.timings.values()))
        tags = tracked.child_tags(result, record, name, row) | {"mlflow.parentRunId": str(self._parent)}
        run_id = self._client.create_run(self._experiment_id, start_time=start, tags=tags).info.run_id
        store.send(self._client, run_id, metrics=measured, params=tracked.params(result, row), when=end)
        self._client.log_inputs(run_id, [dataset_input(record, result.spec.phase)])
        for suffix in (".json", ".detections.json", ".safetensors"):
            if files.run_file(result.hash, suffix).is_file():
                self._client.log_artifact(run_id, str(files.run_file(result.hash, suffix)))
        self._client.set_terminated(run_id, OUTCOME[result.status], end)
        kind = row.kind if row else ""
        self._children[(name, result.hash)] = Child(run_id, result.status, cost is not None, kind)

    def _add_costs(self, record: StudyRecord) -> None:
        """Costs are measured after the training; give them to the children logged before."""
        for row in record.rows:
            cost = self._files.read_cost(row.cost) if self._files and row.cost else None
            for hash_ in (*row.trials, *row.finals) if cost else ():
                child = self._children.get((row.name, hash_))
                if cost and child and not child.costed:
                    store.send(self._client, child.run_id, metrics=tracked.cost_metrics(cost))
                    child.costed = True
