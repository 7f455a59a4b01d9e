"""One process at a time in a study's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tal_bench.errors import InputError
from tal_bench.results.study_lock import ABANDONED, study_lock, termination_as_interrupt

HOLD = (
    "import sys, time; from pathlib import Path; from tal_bench.results.study_lock import study_lock\n"
    "with study_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_a_second_process_is_told_who_is_there_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(InputError, match=rf"another tal-bench works there \(process {holder.pid} on"):
            study_lock(tmp_path).__enter__()
    finally:
        holder.kill()
        holder.wait()
    with study_lock(tmp_path), pytest.raises(InputError, match="another"):
        study_lock(tmp_path).__enter__()
    with study_lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir()), "nothing is left"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in (".a.json.x1", ".b.json.x2", "ended.json", "ended.resume", "going.resume"):
        (runs / name).write_text("{}")
    long_ago = time.time() - 2 * ABANDONED
    os.utime(runs / ".a.json.x1", (long_ago, long_ago))
    with study_lock(tmp_path):
        assert {f.name for f in runs.iterdir()} == {".b.json.x2", "ended.json", "going.resume"}


def test_sigterm_is_as_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == before
