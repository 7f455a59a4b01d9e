"""Runs that MLflow shows as running although their process has died."""

from __future__ import annotations

import os
import socket
from typing import Any

import psutil

from tal_bench.tracking.mlflow_client import search

PROCESS_TAG = "tal_bench.process"
"""Tag of a run: host, process id and start time of the process that writes it."""


def this_process() -> str:
    """Return the value of the tag for this process."""
    return _tag(os.getpid(), psutil.Process().create_time())


def _tag(pid: int, started: float) -> str:
    return f"{socket.gethostname()} {pid} {started:.0f}"


def end_stale_runs(client: Any, own: str) -> None:
    """Mark the rows of studies that were killed on this host, and not resumed, as killed.

    Trials and seeds that are still running have been logged in part and are deleted.

    Args:
        client: MLflow client.
        own: Id of an experiment that is left as it is.
    """
    others = [e.experiment_id for e in client.search_experiments() if e.experiment_id != own]
    alive = {_tag(p.pid, p.info["create_time"]) for p in psutil.process_iter(["create_time"], ad_value=0.0)}
    for status in ("RUNNING", "SCHEDULED") if others else ():
        for run in search(client, others, f"attributes.status = '{status}'"):
            tag = run.data.tags.get(PROCESS_TAG, "")
            if tag in alive or not tag.startswith(f"{socket.gethostname()} "):
                continue  # processes of other hosts are unknown
            if "mlflow.parentRunId" in run.data.tags:
                client.delete_run(run.info.run_id)
            else:
                client.set_tag(run.info.run_id, "tal_bench.reason", "interrupted")
                client.set_terminated(run.info.run_id, "KILLED")
