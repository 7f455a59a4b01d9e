"""Settings of memory management: the C library's allocator, and Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`."""
COLLECT_AFTER, YOUNG_COLLECTIONS = 100_000, 20
"""Objects allocated between two garbage collections, and collections of young objects between older ones."""


def keep_freed_memory() -> None:
    """Keep up to 2 GB of freed memory in this process for reuse. Has no effect without glibc.

    Networks and videos allocate large buffers of the same sizes repeatedly. By default glibc returns each to
    the system at once, which hands it out again page by page, zeroed. This takes a fifth of the time of
    feature extraction, a part that does not run in parallel across processes, and a twentieth of a training
    step at the published size.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def collect_garbage_rarely() -> None:
    """Look for reference cycles among new objects after 100,000 instead of 700, among all after 40 million.

    A command imports a million objects that stay, and then reads JSON files and draws figures, which make
    many objects at once. Python's default visits all of them again and again: a quarter of the time of a
    report. Objects outside of cycles are freed at once in either case.
    """
    gc.set_threshold(COLLECT_AFTER, YOUNG_COLLECTIONS, YOUNG_COLLECTIONS)
