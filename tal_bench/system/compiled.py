"""Compilation of plain functions by numba at their first use, cached on disk where possible."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def compiled(
    function: Callable[..., Any], signature: str, fastmath: frozenset[str] = frozenset()
) -> Callable[..., Any]:
    """Return a compiled function, from the disk cache or compiled now (about a second each).

    Args:
        function: Function of numbers and arrays that numba can compile.
        signature: Its only signature, in the notation of numba.
        fastmath: Liberties of the compiler with floating-point numbers, in the notation of LLVM.
    """
    from numba import njit

    options: dict[str, Any] = {"nogil": True}  # other threads run meanwhile
    if fastmath:
        options |= {"fastmath": set(fastmath), "error_model": "numpy"}
    try:
        result: Callable[..., Any] = njit(signature, cache=True, **options)(function)
    except (RuntimeError, OSError):
        # no writable cache folder (read-only installation and no home), or the disk is full
        result = njit(signature, **options)(function)
    return result
