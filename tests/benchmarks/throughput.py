"""Trainings per hour with one and two workers of one thread each; run it on an idle machine.

python tests/benchmarks/throughput.py FOLDER [DATASET]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

JOBS = (1, 2)


def trials_per_hour(folder: Path, dataset: str, jobs: int) -> tuple[int, float]:
    """Run a study without distillation; return its trainings, and trainings per hour with worker start-up."""
    folder.mkdir(parents=True)
    args = ["ablate", "--dataset", dataset, "--variant", "none", "--trials", "8", "--seeds", "4",
             "--jobs", str(jobs), "--device", "cpu", "--tracking-uri", "off", "--storage", "off"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "tal_bench", *args], cwd=folder, check=True, capture_output=True)
    (study,) = (folder / "reports").iterdir()
    end_times = [f.stat().st_mtime for f in study.glob("runs/*.json") if f.name.count(".") == 1]
    return len(end_times), 3600 * len(end_times) / (
        max(end_times) - (study / "ground_truth.json").stat().st_mtime
    )


def main(folder: Path, dataset: str = "sprites") -> None:
    """Print trainings per hour for one and two workers, and their ratio."""
    results = {jobs: trials_per_hour(folder / f"jobs-{jobs}", dataset, jobs) for jobs in JOBS}
    for jobs, (runs, rate) in results.items():
        print(f"--jobs {jobs}: {runs} trainings, {rate:.0f} an hour")
    print(f"ratio {results[2][1] / results[1][1]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
