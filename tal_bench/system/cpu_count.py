"""Number of worker processes that the machine supports; does not import torch."""

from __future__ import annotations

import os
from pathlib import Path

BYTES_PER_JOB = 2e9
"""Memory reserved per training worker."""

MAX_JOBS = 8

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return the number of cores that affinity and cgroup quotas allow this process to use, at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not available on macOS and Windows
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def free_memory() -> float:
    """Return the bytes available without swapping, within the limits of this process's cgroups."""
    import psutil

    free = [float(psutil.virtual_memory().available)]
    for folder in _folders("memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            free.append(max(0.0, limit - used + _file_cache(folder)))
    return min(free)


def default_jobs() -> int:
    """Return the default number of worker processes: one per core and per 2 GB of free memory, at most 8."""
    return max(1, min(usable_cores(), int(free_memory() // BYTES_PER_JOB), MAX_JOBS))


def cpu_quota() -> float | None:
    """Return the CPU quota of this process's cgroups (version 1 or 2) in cores, None if unlimited."""
    quotas = []
    for folder in _folders("cpu"):
        text = _read(folder / "cpu.max").split()
        quota, period = text if len(text) == 2 else ("", "")
        quota = quota or _read(folder / "cpu.cfs_quota_us").strip()
        period = period or _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdecimal() and period.isdecimal() and int(period):  # "max" and -1 mean no limit
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _folders(controller: str) -> list[Path]:
    """Return the folders of this process's cgroup and its parents for a controller, in both layouts."""
    folders: list[Path] = []
    for line in _read(OWN_CGROUP).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            roots = [CGROUPS / controllers, CGROUPS / controller]
        elif number == "0":
            roots = [CGROUPS, CGROUPS / "unified"]
        else:
            continue
        for root in roots:
            own = root / path.strip("/")
            folders += [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return list(dict.fromkeys(folders))


def _file_cache(folder: Path) -> float:
    """Return the bytes of reclaimable file cache, which the memory usage of a cgroup includes."""
    stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
    cache = stat.get("total_inactive_file") or stat.get("inactive_file") or "0"  # version 1 has both keys
    return float(cache) if cache.isdecimal() else 0.0


def _number(file: Path) -> float | None:
    text = _read(file).strip()
    return float(text) if text.isdecimal() else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
