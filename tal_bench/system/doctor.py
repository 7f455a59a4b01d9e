"""Report of the installation and the machine, with advice: `tal-bench doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tal_bench.system.cache_folder import default_cache_dir
from tal_bench.system.cpu_count import default_jobs, free_memory, usable_cores

if TYPE_CHECKING:
    import torch

Row = tuple[str, str, str]

PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("torch", "torch", "everything but tables and evaluation"),
    ("torchvision", "torchvision", "image backbones"),
    ("timm", "timm", "image backbones"),
    ("optuna", "optuna", "tuning"),
    ("mlflow", "mlflow", "tracking"),
    ("numba", "numba", "NMS"),
    ("opencv-contrib-python-headless", "cv2", "optical flow"),
    ("av", "av", "decoding video"),
    ("pandas", "pandas", "results and tables"),
    ("safetensors", "safetensors", "weights"),
    ("platformdirs", "platformdirs", "finding the cache folder"),
    ("psutil", "psutil", "choosing the number of workers"),
)
"""Distribution, module, and the purpose it is needed for."""

EXTRAS: tuple[tuple[str, str, str], ...] = (("jupyterlab", "notebooks", "notebooks"),)
"""Distribution, the extra that installs it, and the purpose it is needed for."""

MIN_FREE_BYTES = 5e9
MEASURED_SECONDS = 0.2
MATRIX_SIZE = 768


def report() -> list[Row]:
    """Return rows of item, value and advice; the advice is empty where nothing needs to change."""
    rows: list[Row] = []
    for title, section in SECTIONS:
        try:
            rows += section()
        except Exception as error:  # one failing section must not hide the others
            rows.append((title, "unknown", _one_line(error)))
    return rows


def _python() -> Iterator[Row]:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield "python", platform.python_version(), "" if fits else "use Python 3.11 to 3.13"


def _packages() -> Iterator[Row]:
    for package, module, purpose in PACKAGES:
        version = _version(package)
        if version is None:
            yield package, "missing", f"needed for {purpose}: pip install {package}"
            continue
        problem = _import_problem(module)
        yield package, version, f"cannot be imported: {problem}" if problem else ""


def _torch_pair() -> Iterator[Row]:
    """Check that the installed torchvision supports the installed torch."""
    torch_version, vision_version = _version("torch"), _version("torchvision")
    if torch_version is None or vision_version is None:
        return
    from packaging.requirements import Requirement

    required = [Requirement(text) for text in metadata.requires("torchvision") or []]
    wanted = [r.specifier for r in required if r.name == "torch" and r.marker is None]
    if all(specifier.contains(torch_version, prereleases=True) for specifier in wanted):
        yield "torch and torchvision", "match", ""
    else:
        need = " and ".join(str(specifier) for specifier in wanted)
        advice = f"torchvision {vision_version} needs torch {need}: pip install --upgrade torch torchvision"
        yield "torch and torchvision", "do not match", advice


def _extras() -> Iterator[Row]:
    for package, extra, purpose in EXTRAS:
        version = _version(package)
        advice = "" if version else f"only for {purpose}: pip install 'tal-bench[{extra}]'"
        yield package, version or "not installed", advice


def _processors() -> Iterator[Row]:
    cores, present = usable_cores(), os.cpu_count() or 1
    yield (
        "CPU cores usable",
        f"{cores} of {present}",
        "" if cores == present else "limited by affinity or cgroup",
    )
    jobs, memory = default_jobs(), free_memory()
    short = jobs < min(cores, 8)
    advice = "free memory for more: each worker takes up to 2 GB" if short else ""
    yield "free memory", f"{memory / 1e9:.1f} GB", advice
    yield "default --jobs", f"{jobs}, one thread each", ""


def _devices() -> Iterator[Row]:
    if _version("torch") is None or _import_problem("torch"):
        yield "devices", "unknown", "install torch to see them"
        return
    import torch

    threads = torch.get_num_threads()
    too_many = threads > usable_cores()
    advice = f"more than the usable cores: set OMP_NUM_THREADS={usable_cores()}" if too_many else ""
    yield "torch threads", str(threads), advice
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            size = f"{properties.total_memory / 1e9:.0f} GB"
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            yield f"CUDA device {index}", f"{properties.name}, {size}, {bf16}", ""
    else:
        yield "CUDA devices", "none", _cuda_advice(torch.version.cuda)
    yield from _matrix_units(threads)


def _cuda_advice(built_for: str | None) -> str:
    """Explain why torch sees no GPU although an NVIDIA driver is installed; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return ""
    if built_for is None:
        return "this torch is built for CPUs; reinstall it with CUDA to use the GPU"
    return f"nvidia-smi is installed but torch (CUDA {built_for}) sees no GPU: check the driver"


def _matrix_units(threads: int) -> Iterator[Row]:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    units = bf16_units()
    yield "CPU vector units", f"{capability}; bf16: {', '.join(units) or 'none'}", ""
    where = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    fp32 = matrix_gflops(torch.float32)
    bf16 = matrix_gflops(torch.bfloat16)
    yield f"fp32 matrix products, {where}", f"{fp32:.0f} GFLOP/s", ""
    advice = f"--precision bf16 multiplies {bf16 / fp32:.1f} × faster here" if bf16 > 1.5 * fp32 else ""
    yield f"bf16 matrix products, {where}", f"{bf16:.0f} GFLOP/s", advice


def bf16_units() -> list[str]:
    """Return the bf16 instruction sets of the processor, of `avx512_bf16` and `amx`."""
    from torch import cpu

    checks = {"avx512_bf16": "_is_avx512_bf16_supported", "amx": "_is_amx_tile_supported"}
    has = [name for name, check in checks.items() if getattr(cpu, check, lambda: False)()]
    flags = _cpu_flags()
    has += [name for name, flag in (("avx512_bf16", "avx512_bf16"), ("amx", "amx_bf16")) if flag in flags]
    return sorted(set(has))


def matrix_gflops(dtype: torch.dtype, seconds: float = MEASURED_SECONDS) -> float:
    """Measure the throughput of square matrix products on the CPU in GFLOP/s."""
    import torch

    with torch.inference_mode():
        a, b = (torch.full((MATRIX_SIZE, MATRIX_SIZE), 0.5, dtype=dtype) for _ in range(2))
        out = a @ b  # warm-up
        start, products = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds or products == 0:
            torch.mm(a, b, out=out)
            products += 1
    return 2 * MATRIX_SIZE**3 * products / elapsed / 1e9


def _disks() -> Iterator[Row]:
    cache = default_cache_dir().absolute()
    for name, folder in (("working folder", Path.cwd()), ("cache folder", cache)):
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(existing).free
        advice = ""
        if not os.access(existing, os.W_OK):
            advice = "not writable" + (
                "; set TAL_BENCH_CACHE to a writable folder" if folder == cache else ""
            )
        elif free < MIN_FREE_BYTES:
            advice = "little disk space left"
        yield name, f"{folder}, {free / 1e9:.0f} GB free", advice


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _import_problem(module: str) -> str:
    """Return why a module cannot be imported, on one line; empty if it can."""
    try:
        import_module(module)
    except Exception as error:  # a broken installation can raise any exception
        return _one_line(error)
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((x for x in text.splitlines() if x.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


SECTIONS: tuple[tuple[str, Callable[[], Iterable[Row]]], ...] = (
    ("python", _python),
    ("packages", _packages),
    ("torch and torchvision", _torch_pair),
    ("extras", _extras),
    ("processors", _processors),
    ("devices", _devices),
    ("disks", _disks),
)
"""Title and function of every section of the report."""
