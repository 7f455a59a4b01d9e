"""Lock of a study's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from study_parts import result_of, run_specs

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.study_lock import STALE_AFTER, study_lock, termination_as_interrupt

HOLD = (
    "import sys, time; from pathlib import Path; from tal_bench.results.study_lock import study_lock\n"
    "with study_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_a_second_process_is_refused_and_a_killed_one_holds_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(
            InputError, match=rf"another tal-bench process uses this folder \(process {holder.pid} on"
        ):
            study_lock(tmp_path).__enter__()
    finally:
        holder.kill()
        holder.wait()
    with study_lock(tmp_path), pytest.raises(InputError, match="another"):
        study_lock(tmp_path).__enter__()
    with study_lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir()), "the lock file is removed"


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """A failed or damaged run is repeated, and goes on from its training checkpoint."""
    runs = tmp_path / "runs"
    ended: dict[str, str] = {}
    for seed, status in enumerate(("finished", "pruned", "failed")):
        result = result_of(run_specs().on_labels("conv", "final", seed, {}), status)
        StudyFolder(tmp_path).write_run(result)
        ended[status] = result.hash
    for name in (".a.json.x1", ".b.json.x2", "damaged.json", "damaged.resume", "running.resume"):
        (runs / name).write_text("{}")
    for hash_ in ended.values():
        (runs / f"{hash_}.resume").touch()
    long_ago = time.time() - 2 * STALE_AFTER
    os.utime(runs / ".a.json.x1", (long_ago, long_ago))
    with study_lock(tmp_path):
        assert {f.stem for f in runs.glob("*.resume")} == {ended["failed"], "damaged", "running"}
        assert [f.name for f in runs.glob(".*")] == [".b.json.x2"]


def test_sigterm_is_handled_as_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == before
