"""Training steps with terms at the published size, relative to steps without, given the teacher."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from published import times
from term_costs import steps

from tal_bench.training.device import Device

pytestmark = pytest.mark.usefixtures("published_threads")
MOST = 1.10
"""Largest time of a step with a method, relative to the step on labels alone."""
METHODS = {
    "logits": ("logits",),
    "logits-binary": ("logits-binary",),
    "at": ("at",),
    "cwd": ("cwd",),
    "pkd": ("pkd",),
    "dist": ("dist",),
    "bckd": ("bckd-classification", "bckd-localization"),
}


@pytest.mark.parametrize("method", METHODS)
def test_step_with_a_method(benchmark: Any, method: str) -> None:
    with_terms, alone, _ = steps(METHODS[method])
    seconds = times(benchmark, with_terms, alone, Device("cpu"), rounds=5)
    ratio = statistics.median(ours / without for ours, without in seconds)
    benchmark.extra_info["ratio"] = round(ratio, 3)
    assert ratio <= MOST
