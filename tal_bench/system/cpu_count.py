"""How many processes this machine can run at once for us; without torch."""

from __future__ import annotations

import os
from pathlib import Path

BYTES_PER_JOB = 2e9
"""Memory that a training worker is given room for."""

MOST_JOBS = 8

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Processor cores that this process may use, by affinity and by its cgroups' quotas; at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity to ask for
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def free_memory() -> float:
    """Bytes that can be had without swapping, within the limits of our cgroups."""
    import psutil

    free = [float(psutil.virtual_memory().available)]
    for folder in _folders("memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            free.append(max(0.0, limit - used + _file_cache(folder)))
    return min(free)


def default_jobs() -> int:
    """Worker processes to start by default: one per core, 2 GB of free memory each, at most 8."""
    return max(1, min(usable_cores(), int(free_memory() // BYTES_PER_JOB), MOST_JOBS))


def cpu_quota() -> float | None:
    """Cores' worth of time that our cgroups grant (version 1 or 2), none where unlimited."""
    quotas = []
    for folder in _folders("cpu"):
        text = _read(folder / "cpu.max").split()
        quota, period = text if len(text) == 2 else ("", "")
        quota = quota or _read(folder / "cpu.cfs_quota_us").strip()
        period = period or _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdecimal() and period.isdecimal() and int(period):  # "max" and -1 are no limit
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _folders(controller: str) -> list[Path]:
    """Our cgroup and those above it, for a controller, in both versions' layouts."""
    found: list[Path] = []
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
            found += [own, *(above for above in own.parents if above.is_relative_to(root))]
    return list(dict.fromkeys(found))


def _file_cache(folder: Path) -> float:
    """Bytes of cached files that the kernel would give back, which usage includes."""
    stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
    cache = stat.get("total_inactive_file") or stat.get("inactive_file") or "0"  # version 1 has both
    return float(cache) if cache.isdecimal() else 0.0


def _number(file: Path) -> float | None:
    text = _read(file).strip()
    return float(text) if text.isdecimal() else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
