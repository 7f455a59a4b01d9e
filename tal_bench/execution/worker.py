"""Set-up of a process that computes runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from tal_bench.plugins import load_plugins


def prepare_worker(device: str, plugins: Sequence[Path]) -> None:
    """Set a worker up: on the CPU one thread, so that results do not depend on their number."""
    if device == "cpu":
        torch.set_num_threads(1)
    load_plugins(plugins)
