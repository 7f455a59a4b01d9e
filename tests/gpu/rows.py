"""Rows of the check: what is measured or verified, under which settings, and how the table shows it."""

from __future__ import annotations

import contextlib
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from published import FRAMES, dataset
from torch import Tensor

from tal_bench.config import DatasetSpec
from tal_bench.profiling.inputs import hardware_name
from tal_bench.profiling.latency import measure_latency
from tal_bench.system.files import write_atomically

SHORT_FRAMES = 256
"""Length T of the short form on the CPU; the published one is 2304."""
HEADINGS = ("check", "result", "unit", "dense bf16", "share", "peak MB", "note")
LONGEST = 0.5
"""Seconds of the calls that follow each other without waiting for the device."""
NOTE = 110
"""Longest note in the table; the JSON has all of it."""


@dataclass(frozen=True)
class Row:
    """Result of a check.

    Attributes:
        check: What was checked.
        status: `ok`, `failed`, or `skipped` where the device or the time does not allow the check.
        value: Measured value; None where there is none.
        unit: Unit of the value.
        dense_tflops: Throughput in TFLOP/s of a dense bf16 product, measured alternately.
        share: Throughput of the work relative to that of the dense product.
        peak_mb: Peak memory in MB (1e6 bytes). On a GPU all that PyTorch had allocated; on the CPU what one
            call allocates in addition to weights and inputs.
        note: Details, or why the check failed or was skipped, in one line.
    """

    check: str
    status: Literal["ok", "failed", "skipped"] = "ok"
    value: float | None = None
    unit: str = ""
    dense_tflops: float | None = None
    share: float | None = None
    peak_mb: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Settings:
    """Settings of all checks.

    Attributes:
        device: `cuda` or `cpu`; on the CPU all sizes are small (the short form).
        out: Folder of the JSON and of the studies.
        parity: Folders of parity fixtures.
        ends: Time of `time.monotonic` at which the last check has to end.
        rows: Rows so far, for checks that compare earlier results.
    """

    device: Literal["cpu", "cuda"]
    out: Path
    parity: Sequence[Path]
    ends: float
    rows: list[Row] = field(default_factory=list)

    @property
    def data(self) -> DatasetSpec:
        """Dataset with the streams of THUMOS14, at the published size or short with small networks."""
        if self.device == "cuda":
            return dataset()
        return dataset().model_copy(update={"max_length": SHORT_FRAMES, "size": "small"})

    @property
    def frames(self) -> int:
        """Length T of the inputs."""
        return FRAMES if self.device == "cuda" else SHORT_FRAMES

    @property
    def remaining(self) -> float:
        """Seconds until the check has to end."""
        return self.ends - time.monotonic()

    def value(self, check: str) -> float:
        """Return the value of an earlier row.

        Raises:
            LookupError: The row is missing, or it has no value.
        """
        for row in self.rows:
            if row.check == check and row.value is not None:
                return row.value
        raise LookupError(f"needs the result of {check!r}")


@dataclass(frozen=True)
class Check:
    """A check by name; `run` yields its rows, and raises an exception if it fails."""

    name: str
    run: Callable[[Settings], Iterable[Row]]
    needs_cuda: bool = False


class DenseProduct:
    """Product of two square bf16 matrices, the reference of all times of a run."""

    def __init__(self, device: torch.device) -> None:
        size = 8192 if device.type == "cuda" else 1024
        self.flop = 2.0 * size**3
        self._factors: tuple[Tensor, Tensor] = (
            torch.randn(size, size, device=device, dtype=torch.bfloat16),
            torch.randn(size, size, device=device, dtype=torch.bfloat16),
        )

    def __call__(self) -> None:
        torch.mm(*self._factors)


def timed(
    work: Callable[[], object], flop: float, device: torch.device, *, videos: int = 0
) -> dict[str, Any]:
    """Time work and dense bf16 products alternately and return the fields of a `Row`.

    Calls of the work follow each other without waiting for the device, as in a training.

    Args:
        work: Function to time, after its own warm-up.
        flop: Floating-point operations of a call.
        device: Device on which it runs.
        videos: Number of videos of a call: the value is then videos per minute, else milliseconds per call.
    """
    rounds, most = (7, 10) if device.type == "cuda" else (3, 1)
    product = DenseProduct(device)
    product()
    first = measure_latency(work, device, warmup=0, runs=1).median / 1e3
    calls = max(1, min(most, round(LONGEST / first)))

    def several() -> None:
        for _ in range(calls):
            work()

    seconds, dense = list[float](), list[float]()
    for _ in range(rounds):
        dense.append(measure_latency(product, device, warmup=0, runs=1).median / 1e3)
        seconds.append(measure_latency(several, device, warmup=0, runs=1).median / 1e3 / calls)
    once = statistics.median(seconds)
    share = statistics.median(flop / s / (product.flop / d) for s, d in zip(seconds, dense, strict=True))
    return {
        "value": 60 * videos / once if videos else 1e3 * once,
        "unit": "videos/min" if videos else "ms",
        "dense_tflops": product.flop / statistics.median(dense) / 1e12,
        "share": share,
    }


def beside(rate: float, device: torch.device) -> dict[str, float]:
    """Measure dense bf16 products and return the fields of a `Row` for work of so many FLOP/s."""
    product = DenseProduct(device)
    dense = product.flop / (measure_latency(product, device, warmup=1, runs=5).median / 1e3)
    return {"dense_tflops": dense / 1e12, "share": rate / dense}


def run_checks(checks: Iterable[Check], settings: Settings, tell: Callable[[str], object]) -> list[Row]:
    """Run checks one after the other and return their rows; a check that raises is a row saying so."""
    for check in checks:
        tell(f"{check.name} ({settings.remaining:.0f} s left)")
        settings.rows.extend(_rows_of(check, settings))
    return settings.rows


def _rows_of(check: Check, settings: Settings) -> Iterator[Row]:
    if check.needs_cuda and settings.device != "cuda":
        yield Row(check.name, "skipped", note="needs a GPU")
        return
    if settings.remaining <= 0:
        yield Row(check.name, "skipped", note="no time was left (--minutes)")
        return
    try:
        yield from check.run(settings)
    except Exception as error:
        yield Row(check.name, "failed", note=one_line(error))
    finally:
        gc.collect()
        with contextlib.suppress(RuntimeError):  # of a GPU that a failed check has left unusable
            torch.cuda.empty_cache()


def one_line(error: BaseException) -> str:
    """Return the type of an error and its message in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def print_rows(rows: Iterable[Row], title: str) -> None:
    """Print the table, one line a row."""
    cells = [_cells(row) for row in rows]
    widths = [max(len(line[k]) for line in [HEADINGS, *cells]) for k in range(len(HEADINGS))]
    print(title)
    for line in [HEADINGS, *cells]:
        numbers = {1, 3, 4, 5}
        texts = (
            x.rjust(w) if k in numbers else x.ljust(w)
            for k, (x, w) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(texts).rstrip())


def _cells(row: Row) -> tuple[str, ...]:
    note = row.note if len(row.note) <= NOTE else f"{row.note[: NOTE - 1]}…"
    return (
        row.check,
        row.status if row.value is None else _number(row.value),
        row.unit,
        "" if row.dense_tflops is None else f"{_number(row.dense_tflops)} TFLOP/s",
        "" if row.share is None else f"{100 * row.share:.1f} %",
        "" if row.peak_mb is None else f"{row.peak_mb:.0f}",
        note if row.status == "ok" or row.value is None else f"{row.status}: {note}",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def environment(device: str) -> dict[str, Any]:
    """Return the versions and the hardware of the run."""
    found: dict[str, Any] = {
        "device": hardware_name(torch.device(device)),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    if device == "cuda":
        facts = torch.cuda.get_device_properties(0)
        found |= {
            "gpus": torch.cuda.device_count(),
            "capability": f"{facts.major}.{facts.minor}",
            "memory_mb": round(facts.total_memory / 1e6),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def write_rows(rows: Iterable[Row], settings: Settings, machine: dict[str, Any]) -> Path:
    """Write the rows with the environment as `gpu-check.json`."""
    file = settings.out / "gpu-check.json"
    content = {
        "environment": machine,
        "frames": settings.frames,
        "size": settings.data.size,
        "rows": [asdict(row) for row in rows],
    }
    write_atomically(file, json.dumps(content, indent=1) + "\n")
    return file
