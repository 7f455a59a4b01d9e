"""Fixtures of the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from published import THREADS

from tal_bench.profiling.inputs import torch_threads


@pytest.fixture
def published_threads() -> Iterator[None]:
    """Use the number of threads of the measurements at the published size."""
    with torch_threads(THREADS):
        yield
