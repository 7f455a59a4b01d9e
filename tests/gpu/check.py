"""Check and measure tal_bench on a GPU in at most eight minutes, without network.

`python tests/gpu/check.py --out DIR` prints one table at its end and writes DIR/gpu-check.json. The exit
status is 1 if a check failed, and 2 if packages or the GPU are missing. `--device cpu` runs a short form with
small networks. The package need not be installed, only what it requires.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
MINUTES = 8.0
UNUSED = ("av", "mlflow", "sqlalchemy", "timm", "torchvision")
"""Requirements that the checks do not import: of video files, image networks, tracking and storage."""


def missing(requirements: Iterable[str]) -> list[str]:
    """Return the requirements `name>=version` that are not installed, or in an older version."""
    found = []
    for requirement in requirements:
        name, _, least = requirement.partition(">=")
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(requirement)
        else:
            if _version(installed) < _version(least):
                found.append(requirement)
    return found


def _version(text: str) -> tuple[int, ...]:
    """Return the numbers at the beginning of a version, such as (2, 6, 0) of `2.6.0+cu124`."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def needs() -> str:
    """Return in one line what has to be installed first; empty if nothing is missing."""
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return f"Python 3.11 to 3.13 is needed, this is {sys.version_info[0]}.{sys.version_info[1]}"
    import tomllib  # new in Python 3.11

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = [one for one in project["dependencies"] if one.partition(">=")[0] not in UNUSED]
    if lacking := missing(used):
        command = "python -m pip install --no-index --find-links WHEELS " + " ".join(
            f"'{requirement}'" for requirement in lacking
        )
        return f"missing packages; from a folder WHEELS: {command}"
    return ""


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), metavar="DIR")
    parser.add_argument(
        "--parity-dir", type=Path, action="append", metavar="DIR", help="default: tests/parity/excerpt"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=MINUTES,
        help="checks that would begin later are skipped (default: 8)",
    )
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run all checks; return the exit status."""
    given = arguments(words)
    if lacking := needs():
        print(f"tests/gpu/check.py: {lacking}", file=sys.stderr)
        return 2
    import torch

    from gpu import batches, correctness, repeatability, speed
    from gpu.rows import Settings, environment, print_rows, run_checks, write_rows

    if given.device == "cuda" and not torch.cuda.is_available():
        print("tests/gpu/check.py: --device cuda: no GPU is available; use --device cpu", file=sys.stderr)
        return 2
    began, machine = time.monotonic(), environment(given.device)
    settings = Settings(
        given.device,
        given.out,
        given.parity_dir or [ROOT / "tests" / "parity" / "excerpt"],
        began + 60 * given.minutes,
    )
    checks = [*correctness.CHECKS, *repeatability.CHECKS, *batches.CHECKS, *speed.CHECKS]
    rows = run_checks(checks, settings, lambda text: print(f"... {text}", file=sys.stderr, flush=True))
    file = write_rows(rows, settings, machine)
    failed = sum(row.status == "failed" for row in rows)
    place = f"{machine['device']}, torch {machine['torch']}, T {settings.frames}"
    title = f"{place}: {len(rows)} rows, {failed} failed, {time.monotonic() - began:.0f} s; also in {file}"
    print_rows(rows, title)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks")]
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *([inherited] if inherited else [])]
    )  # for studies
    sys.exit(main())
