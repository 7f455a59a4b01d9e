"""Algorithms of a GPU that repeat their results: equal inputs give the same bits in every run.

https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, cast

import torch

from tal_bench.errors import InputError

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable that cuBLAS reads when a process begins to use a GPU."""
REPEATABLE = (":4096:8", ":16:8")
"""Its values with which products repeat their results; the first one needs more memory and is faster."""


def require_repeatable_products() -> None:
    """Make matrix products on GPUs repeatable in this process and in those that it starts.

    Raises:
        InputError: The environment variable has another value, or this process uses a GPU already.
    """
    value = os.environ.get(VARIABLE)
    if value in REPEATABLE:
        return
    hint = f"set {VARIABLE}={REPEATABLE[0]} before the start"
    if value is not None:
        raise InputError(
            f"does not repeat results with {VARIABLE}={value}", where="--deterministic", hint=hint
        )
    if torch.cuda.is_initialized():
        raise InputError("this process uses a GPU already", where="--deterministic", hint=hint)
    os.environ[VARIABLE] = REPEATABLE[0]


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Context in which operations repeat their results, or raise a RuntimeError where they cannot.

    New tensors are not filled, unlike by default in this mode: no operation reads them before it writes them.
    """
    # `torch.use_deterministic_algorithms` sets the same, and imports the compiler of torch, two seconds
    convolutions, memory = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
    mode, filled = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    before = convolutions.deterministic, convolutions.benchmark
    torch.set_deterministic_debug_mode("error")
    convolutions.deterministic, convolutions.benchmark = True, False
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        convolutions.deterministic, convolutions.benchmark = before
        memory.fill_uninitialized_memory = filled
