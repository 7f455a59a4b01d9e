"""Parity fixtures on the device, the main comparison at smoke size, and its resumption after SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from parity.checks import Compared, kind_of
from parity.fixtures import discover
from processes import start, still_alive, workers
from tiny import write_dataset

from tal_bench.results.folder import StudyFolder
from tal_bench.training.device import Device

from .rows import Check, Row, Settings, one_line

ON_THE_CPU = ("maps", "nms")
"""Kinds of fixtures without tensors."""


def parity(settings: Settings) -> Iterator[Row]:
    """Compare all fixtures, in fp32 and float64 without TF32: a row per kind, with its worst error."""
    compared: dict[str, list[Compared]] = defaultdict(list)
    errors: dict[str, str] = {}
    fixtures = [one for folder in settings.parity for one in discover(folder) if not one.informational]
    device = Device(settings.device)
    for fixture in fixtures:
        kind = kind_of(fixture)
        if kind.check is None:
            continue
        try:
            with torch.device(device.torch), device.arithmetic():
                compared[kind.name] += list(kind.check(fixture))
        except Exception as error:  # the others are compared nevertheless
            errors.setdefault(kind.name, f"{fixture.id}: {one_line(error)}")
    if not fixtures:
        raise FileNotFoundError(f"no fixtures in {', '.join(map(str, settings.parity))}")
    for name in sorted(compared.keys() | errors.keys()):
        yield _kind_row(name, compared[name], errors.get(name, ""))


def _kind_row(name: str, compared: list[Compared], error: str) -> Row:
    failed = [one for one in compared if not one.ok]
    if error:
        return Row(f"parity: {name}", "failed", note=error)
    if failed or not compared:
        first = f": {failed[0].what}, {failed[0].error:.1e} > {failed[0].tolerance:.0e}" if failed else ""
        note = f"{len(failed)} of {len(compared)} comparisons failed{first}"
        return Row(f"parity: {name}", "failed", note=note)
    note = "without tensors on the device" if name in ON_THE_CPU else ""
    return Row(f"parity: {name}", value=float(len(compared)), unit="agree", note=note)


def smoke_study(settings: Settings) -> Iterator[Row]:
    """Train teachers, references, `none` and `both` on a tiny dataset."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        finish(start(_words(folder, settings), folder), settings)
        runs = _statuses(folder)
    if set(runs.values()) != {"finished"}:
        raise RuntimeError(f"runs ended as {sorted(runs.values())}")
    yield Row(
        "2 × 2 at smoke size", value=time.monotonic() - began, unit="s", note=f"{len(runs)} runs finished"
    )


def resumption(settings: Settings) -> Iterator[Row]:
    """Kill such a study in the middle of a training, and run the same command again."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = _words(folder, settings)
        process = start(words, folder)
        _wait(process, lambda: bool(_finished(folder)) and bool(list(folder.rglob("*.resume"))), settings)
        below = workers(process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if still_alive(below):
            raise RuntimeError("worker processes outlive the killed study")
        before = _finished(folder)
        finish(start(words, folder), settings)
        after, runs = _finished(folder), _statuses(folder)
        left = list(folder.rglob("*.resume"))
    again = [run for run, written in before.items() if after.get(run) != written]
    if again or left or set(runs.values()) != {"finished"}:
        raise RuntimeError(
            f"after resuming {len(again)} finished runs were repeated, {len(left)} training checkpoints are "
            f"left, and runs ended as {sorted(set(runs.values()))}"
        )
    note = f"{len(before)} of {len(after)} runs had finished when it was killed; none was repeated"
    yield Row("resumed after SIGKILL", note=note)


def _words(folder: Path, settings: Settings) -> list[str | Path]:
    """Return the command line of the study, with a dataset in the folder."""
    data = folder / "tiny"
    file = data / "dataset.yaml" if data.exists() else write_dataset(data)
    flags = "--variant both --budget smoke --jobs 1 --checkpoint-every 0 --tracking-uri off --storage off"
    return ["ablate", "--dataset", file, "--device", settings.device, *flags.split()]


def finish(process: subprocess.Popen[str], settings: Settings) -> None:
    """Wait for the end of a command.

    Raises:
        RuntimeError: It failed, or no time is left.
    """
    try:
        _, error = process.communicate(timeout=max(settings.remaining, 1.0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError("no time was left (--minutes)") from None
    if process.returncode:
        lines = error.strip().splitlines() or ["no message"]
        raise RuntimeError(f"the command ended with {process.returncode}: {lines[-1]}")


def _wait(process: subprocess.Popen[str], condition: Callable[[], bool], settings: Settings) -> None:
    while not condition():
        if process.poll() is not None or settings.remaining <= 0:
            process.kill()
            error = process.communicate()[1].strip().splitlines()
            raise RuntimeError(f"the study ended before it could be killed: {error[-1] if error else ''}")
        time.sleep(0.005)


def _study(folder: Path) -> StudyFolder:
    return StudyFolder(next(iter((folder / "reports").glob("two-by-two-*-smoke")), folder / "none"))


def _statuses(folder: Path) -> dict[str, str]:
    return {result.hash: result.status for result in _study(folder).runs()}


def _finished(folder: Path) -> dict[str, int]:
    """Return the finished runs with the time at which their record was written."""
    study = _study(folder)
    ended = [hash_ for hash_, status in _statuses(folder).items() if status == "finished"]
    return {hash_: study.run_file(hash_).stat().st_mtime_ns for hash_ in ended}


PARITY = Check("parity", parity)
CHECKS = [PARITY, Check("2 × 2 at smoke size", smoke_study), Check("resumed after SIGKILL", resumption)]
