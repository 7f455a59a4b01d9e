"""Local servers for tests: PostgreSQL, MLflow, a Dask scheduler with workers."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

TIMEOUT = 120.0
HOST = "127.0.0.1"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "OMP_NUM_THREADS": "1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for(server: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not ready():
        assert time.monotonic() < deadline, f"{server} did not start in time"
        time.sleep(0.1)


class Postgres:
    """PostgreSQL server with a temporary data folder, run by another user if the tests run as root."""

    def __init__(self) -> None:
        if shutil.which("pg_ctl") is None or shutil.which("initdb") is None:
            pytest.skip("PostgreSQL is not installed")
        pytest.importorskip("psycopg")
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="pg")), free_port()
        self._run_as: list[str] = []
        if os.getuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._run_as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "tester", "--no-sync")
        self.start()
        self._psql = f"postgresql://tester@{HOST}:{self.port}/"

    def url(self, name: str) -> str:
        """Create a database and return its URL."""
        import psycopg

        with psycopg.connect(f"{self._psql}postgres", autocommit=True) as connection:
            connection.execute(f'create database "{name}"'.encode())
        return f"{self._psql}{name}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses={HOST} -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """Stop immediately, as in a crash."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the running server."""
        parent = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]))
        return [parent, *parent.children(recursive=True)]

    def remove(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder)

    def _run(self, *words: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*self._run_as, *words], cwd=self.folder, check=True, timeout=TIMEOUT, **quiet)  # type: ignore[call-overload]


@contextmanager
def process(words: Sequence[str | Path], folder: Path) -> Iterator[psutil.Popen]:
    """Run a Python module as a process; it and its descendants are killed at the end of the context."""
    with (folder / f"{Path(words[0]).name}.log").open("wb") as log:
        started = psutil.Popen(
            [sys.executable, "-m", *map(str, words)],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | ENVIRONMENT,
        )
    try:
        yield started
    finally:
        with suppress(psutil.NoSuchProcess):
            descendants = started.children(recursive=True)
            for running in (started, *descendants):
                with suppress(psutil.NoSuchProcess):
                    running.kill()
        started.wait()


@contextmanager
def mlflow_server(folder: Path, store: str) -> Iterator[str]:
    """Run an MLflow server that serves artifacts, and yield its address."""
    port = free_port()
    words = ["mlflow", "server", "--backend-store-uri", store, "--host", HOST, "--port", str(port)]
    words += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    address = f"http://{HOST}:{port}"

    def is_healthy() -> bool:
        with suppress(OSError):
            return bool(urllib.request.urlopen(f"{address}/health", timeout=5).status == 200)
        return False

    with process(words, folder):
        wait_for("MLflow", is_healthy)
        yield address


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[tuple[str, psutil.Popen]]:
    """Run a Dask scheduler and workers; yield the scheduler's address and the workers' parent process."""
    pytest.importorskip("distributed")
    address = f"tcp://{HOST}:{free_port()}"
    port = address.rpartition(":")[2]
    scheduler = ["distributed.cli.dask_scheduler", "--host", HOST, "--port", port, "--no-dashboard"]
    worker_command = ["distributed.cli.dask_worker", address, "--nworkers", str(workers), "--nthreads", "1",
            "--host", HOST, "--no-dashboard", "--local-directory", folder]  # fmt: skip
    with process(scheduler, folder), process(worker_command, folder) as parent:
        yield address, parent
