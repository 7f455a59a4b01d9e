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
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def has_died(tag: str) -> bool:
    """Return whether a process of this host has ended; False for other hosts, whose processes are unknown."""
    host, _, rest = tag.partition(" ")
    pid, _, start_time = rest.partition(" ")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" != start_time
    except psutil.Error as error:
        return isinstance(error, psutil.NoSuchProcess)


def end_stale_runs(client: Any, own: str) -> None:
    """Mark the rows of studies that were killed on this host, and not resumed, as killed.

    Trials and seeds that are still running have been logged in part and are deleted.

    Args:
        client: MLflow client.
        own: Id of an experiment that is left as it is.
    """
    others = [e.experiment_id for e in client.search_experiments() if e.experiment_id != own]
    for status in ("RUNNING", "SCHEDULED") if others else ():
        for run in list(search(client, others, f"attributes.status = '{status}'")):
            if not has_died(run.data.tags.get(PROCESS_TAG, "")):
                continue
            if "mlflow.parentRunId" in run.data.tags:
                client.delete_run(run.info.run_id)
            else:
                client.set_tag(run.info.run_id, "tal_bench.reason", "interrupted")
                client.set_terminated(run.info.run_id, "KILLED")
