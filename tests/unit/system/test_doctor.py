from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tal_bench.system import cpu_count, doctor


def test_report_covers_the_machine() -> None:
    rows = doctor.report()
    items = {item: (value, advice) for item, value, advice in rows}
    assert len(items) == len(rows)
    for wanted in ("python", "torch", "numba", "CPU cores usable", "default --jobs", "torch threads"):
        assert wanted in items
    assert all(isinstance(part, str) and "\n" not in part for row in rows for part in row)
    speed = next(value for item, (value, _) in items.items() if item.startswith("fp32 matrix products"))
    assert float(speed.split()[0]) > 0.1


def test_missing_packages_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name in ("torch", "mlflow", "jupyterlab"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    items = {item: (value, advice) for item, value, advice in doctor.report()}
    assert items["mlflow"][0] == "missing" and "pip install mlflow" in items["mlflow"][1]
    assert "tal-bench[notebooks]" in items["jupyterlab"][1]
    assert items["devices"][0] == "unknown"


def test_a_failing_section_does_not_end_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.setattr(doctor, "_version", lambda _: None)
    items = {item: (value, advice) for item, value, advice in doctor.report()}
    assert items["processors"][0] == items["disks"][0] == "unknown"
    assert "psutil" in items["processors"][1]


def test_broken_packages_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        if name == "timm":
            raise RuntimeError("operator torchvision::nms\ndoes not exist")

    monkeypatch.setattr(doctor, "import_module", broken)
    rows = {item: advice for item, _, advice in doctor._packages()}
    assert rows["timm"] == "cannot be imported: RuntimeError: operator torchvision::nms does not exist"
    assert rows["numba"] == ""


@pytest.mark.parametrize(
    ("torch_version", "wanted", "answer"),
    [
        ("2.6.0+cpu", "torch==2.6.0", "match"),
        ("2.7.1", "torch ==2.6.0", "do not match"),
        ("2.15.0", "torch (>=2.14.0)", "match"),
        ("2.13.0", "torch (>=2.14.0)", "do not match"),
    ],
)
def test_torchvision_must_fit_torch(
    monkeypatch: pytest.MonkeyPatch, torch_version: str, wanted: str, answer: str
) -> None:
    monkeypatch.setattr(metadata, "version", {"torch": torch_version, "torchvision": "0.21.0"}.__getitem__)
    monkeypatch.setattr(metadata, "requires", lambda _: ["numpy", wanted, "torch==9; extra == 'x'"])
    ((item, value, advice),) = doctor._torch_pair()
    assert (item, value) == ("torch and torchvision", answer)
    assert ("pip install" in advice) == (answer != "match")


def test_unwritable_or_missing_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAL_BENCH_CACHE", str(tmp_path / "not" / "there"))
    value, advice = next((v, a) for item, v, a in doctor._disks() if item == "cache folder")
    assert str(tmp_path / "not" / "there") in value and "GB free" in value
    monkeypatch.setattr(os, "access", lambda *_: False)
    advice = next(a for item, _, a in doctor._disks() if item == "cache folder")
    assert "TAL_BENCH_CACHE" in advice


def cgroup(root: Path, monkeypatch: pytest.MonkeyPatch, lines: str, files: dict[str, str]) -> None:
    own_cgroup = root / "own"
    own_cgroup.write_text(lines)
    for name, text in files.items():
        file = root / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(cpu_count, "OWN_CGROUP", own_cgroup)
    monkeypatch.setattr(cpu_count, "CGROUPS", root / "fs")


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "350000 100000"}, 3.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        (
            "3:cpu,cpuacct:/x\n0::/\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "150000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            1.5,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
    ],
)
def test_quota_of_both_cgroup_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: str, files: dict[str, str], quota: float | None
) -> None:
    cgroup(tmp_path, monkeypatch, lines, files)
    assert cpu_count.cpu_quota() == quota
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert cpu_count.usable_cores() == (6 if quota is None else max(1, int(quota)))


def test_memory_limit_of_a_cgroup_counts_without_file_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stat = "anon 1\ninactive_file 1500000\n"
    files = {"a/memory.max": "3000000", "a/memory.current": "2500000", "a/memory.stat": stat}
    cgroup(tmp_path, monkeypatch, "0::/a/b\n", {**files, "a/b/memory.max": "max"})
    assert cpu_count.free_memory() == 2_000_000
    assert cpu_count.default_jobs() == 1


@pytest.mark.parametrize(
    ("usable", "memory", "jobs"), [(16, 64e9, 8), (4, 64e9, 4), (4, 5e9, 2), (4, 1e8, 1)]
)
def test_default_jobs(monkeypatch: pytest.MonkeyPatch, usable: int, memory: float, jobs: int) -> None:
    monkeypatch.setattr(cpu_count, "usable_cores", lambda: usable)
    monkeypatch.setattr(cpu_count, "free_memory", lambda: memory)
    assert cpu_count.default_jobs() == jobs


def test_cores_do_not_import_torch() -> None:
    code = (
        "import sys, tal_bench.system.cpu_count as c, tal_bench.system.doctor\n"
        "c.default_jobs()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
