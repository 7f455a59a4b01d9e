"""Trials per hour with one worker and with two, of one thread each; for a machine with nothing else to do.

python tests/benchmarks/throughput.py FOLDER [DATASET]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

JOBS = (1, 2)


def trials_per_hour(folder: Path, dataset: str, jobs: int) -> tuple[int, float]:
    """Trainings of a study without distillation, and how many an hour holds, workers' starting included."""
    folder.mkdir(parents=True)
    words = ["ablate", "--dataset", dataset, "--variant", "none", "--trials", "8", "--seeds", "4",
             "--jobs", str(jobs), "--device", "cpu", "--tracking-uri", "off", "--storage", "off"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "tal_bench", *words], cwd=folder, check=True, capture_output=True)
    (study,) = (folder / "reports").iterdir()
    ended = [f.stat().st_mtime for f in study.glob("runs/*.json") if f.name.count(".") == 1]
    return len(ended), 3600 * len(ended) / (max(ended) - (study / "ground_truth.json").stat().st_mtime)


def main(folder: Path, dataset: str = "sprites") -> None:
    """Print both, and their ratio."""
    found = {jobs: trials_per_hour(folder / f"jobs-{jobs}", dataset, jobs) for jobs in JOBS}
    for jobs, (runs, rate) in found.items():
        print(f"--jobs {jobs}: {runs} trainings, {rate:.0f} an hour")
    print(f"ratio {found[2][1] / found[1][1]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
