"""Provenance of results: commit, versions, hardware."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("tal-bench", "torch", "numpy", "timm", "optuna")


def environment(device: torch.device) -> dict[str, str]:
    """Return commit, package versions, platform, device name and number of threads."""
    import torch

    return {
        **_versions(),
        "device": gpu_name(device) if device.type == "cuda" else _processor(),
        "threads": str(torch.get_num_threads()),
    }


def gpu_name(device: torch.device) -> str:
    """Return the model of a GPU; `cuda` where the driver does not answer."""
    import torch

    try:
        return torch.cuda.get_device_name(device)
    except (RuntimeError, AssertionError):
        return "cuda"


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "commit": _commit(),
    }
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@lru_cache(maxsize=1)
def _processor() -> str:
    """Return the model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit, followed by + if there are local changes; `unknown` for an installed wheel."""
    state = git_state()
    return state["commit"][:12] + ("+" if state["changes"] else "") if state else "unknown"


@lru_cache(maxsize=1)
def git_state() -> dict[str, str]:
    """Return `commit`, `branch` and `changes` (from `git status`) of the source tree; empty for a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {}

    def git(*arguments: str) -> str:
        process = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return process.stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "branch": git("rev-parse", "--abbrev-ref", "HEAD"),
            "changes": git("status", "--porcelain", "-uno"),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def software_state() -> dict[str, Any]:
    """Return the state of the source tree and the versions of all installed packages."""
    packages = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {"git": git_state(), "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower()))}
