"""What lies in reports/published: folders are described, and the other program of the comparison works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tal_bench import evaluate
from tal_bench.report.leaderboard.result import read_results

PUBLISHED = Path(__file__).parents[3] / "reports" / "published"
CLASSES = ("jump", "run")


def test_every_study_is_in_the_overview() -> None:
    text = (PUBLISHED / "README.md").read_text(encoding="utf-8")
    studies = {file.parent.name for file in PUBLISHED.glob("*/table.md")} - {"comparison"}
    assert studies == set(re.findall(r"^\| \[([\w-]+)\]\(", text, flags=re.MULTILINE))


@pytest.mark.parametrize("folder", sorted(PUBLISHED.glob("*/results")), ids=lambda f: f.parent.name)
def test_results_are_the_numbers_of_the_table(folder: Path) -> None:
    rows = json.loads((folder.parent / "summary.json").read_text(encoding="utf-8"))["rows"]
    results = {result.name: result for result in read_results([folder.parent])}
    assert set(results) == {row["row"] for row in rows}
    for row in rows:
        found = results[row["row"]]
        assert found.map["map_avg"] == row["map_avg_mean"] and found.costs["gmacs"] == row["gmacs"]
        assert found.measured is not None and found.measured.commit == row["commit"]


def test_the_other_program_finds_what_its_features_show(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "rgb").mkdir()
    database = {}
    for number in range(6):
        starts = [8.0, 40.0]
        annotations = [
            {"segment": [start, start + 12.0], "label": CLASSES[(number + k) % 2]}
            for k, start in enumerate(starts)
        ]
        database[f"v{number}"] = {
            "subset": "test" if number > 3 else "training",
            "duration": 60.0,
            "annotations": annotations,
        }
        features = random.normal(0, 0.1, (120, 4))
        for a in annotations:
            first, last = (round(2 * second) for second in a["segment"])
            features[first:last, CLASSES.index(a["label"])] += 1
        np.save(tmp_path / "rgb" / f"v{number}.npy", features)
    truth = tmp_path / "annotations.json"
    truth.write_text(json.dumps({"database": database}))
    out = tmp_path / "found.csv"
    command = [sys.executable, PUBLISHED / "comparison" / "framewise.py", tmp_path, "rgb", out]
    subprocess.run([*map(str, command)], check=True, timeout=120)
    score = evaluate(truth, out, subset="test", tiou=(0.5,))
    assert score.average > 0.6, "runs at several thresholds find every segment, with false positives"
