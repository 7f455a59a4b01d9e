"""Freed memory is kept by the process, large pages are enabled, and garbage is collected rarely."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from tal_bench.system.allocator import COLLECT_AFTER
from tal_bench.system.worker_pool import SpawnedProcesses

FAULTS = """
import resource, sys
import numpy as np
from tal_bench.system.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    for _ in range(20):
        np.ones(8_000_000)  # 64 MB: larger than what glibc keeps by default
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_buffers_are_reused_without_page_faults() -> None:
    def faults(word: str) -> int:
        command = [sys.executable, "-c", FAULTS, word]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    if faults("drop") < 1000:
        pytest.skip("this C library keeps freed memory by default")
    assert faults("keep") < 1000


LARGE = """
import os, sys
import tal_bench
assert "torch" not in sys.modules, "torch has read its settings already"
print(os.environ["THP_MEM_ALLOC_ENABLE"])
"""


@pytest.mark.parametrize(("variables", "expected"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
def test_large_pages_are_enabled_before_torch_is_imported(variables: dict[str, str], expected: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"} | variables
    process = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True, env=environment
    )
    assert process.stdout.strip() == expected


def test_commands_and_their_workers_collect_garbage_rarely() -> None:
    code = "import gc; from tal_bench.cli import main; main(['list', '--help']); print(gc.get_threshold()[0])"
    command = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert command.stdout.splitlines()[-1] == str(COLLECT_AFTER)
    with SpawnedProcesses(1) as process:
        assert process.submit(gc.get_threshold).result()[0] == COLLECT_AFTER
