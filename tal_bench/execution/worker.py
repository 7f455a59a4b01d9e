"""Set-up of worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from tal_bench.plugins import load_plugins


def prepare_worker(device: str, plugins: Sequence[Path]) -> None:
    """Load plugins, and on the CPU use one thread, so that results do not depend on the number of threads."""
    if device == "cpu":
        torch.set_num_threads(1)
    load_plugins(plugins)
