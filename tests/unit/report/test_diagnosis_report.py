"""Diagnosis of a study: tables, figures, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_study import ROWS, write_fake_study

from tal_bench.cli import main
from tal_bench.errors import InputError
from tal_bench.evaluation.diagnosis import CATEGORIES
from tal_bench.report.diagnosis.source import study_source
from tal_bench.report.diagnosis.summary import ALL_ERRORS, AVERAGE, MISSED, DiagnosisReport, diagnose_source
from tal_bench.report.diagnosis.tables import markdown, summary
from tal_bench.report.diagnosis.timelines import select_videos, timelines_figure
from tal_bench.results.folder import StudyFolder

CHOSEN = tuple(row for row in ROWS if row.name in ("none", "self", "both"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study")
    write_fake_study(path, seeds=2, videos=6, trials=1, rows=CHOSEN, failing=("self",))
    return path


@pytest.fixture(scope="module")
def found(folder: Path) -> DiagnosisReport:
    return diagnose_source(study_source(folder))


def test_average_map_equals_the_results_of_the_study(folder: Path, found: DiagnosisReport) -> None:
    files = StudyFolder(folder)
    gains = found.gains.set_index(["row", "seed", "what"])["points"]
    count = 0
    for row in files.read_study().rows:
        for seed, hash_ in zip(row.seeds, row.finals, strict=True):
            result = files.read_run(hash_)
            if result is not None and result.status == "finished":
                assert gains[row.name, seed, AVERAGE] == pytest.approx(result.metrics["map_avg"])
                total = sum(gains[row.name, seed, what] for what in (AVERAGE, ALL_ERRORS, MISSED))
                assert total == pytest.approx(100)
                count += 1
    assert count == len(found.runs) == 5
    assert found.source.notes == ("`self` has 1 of 2 runs.",)


def test_baseline_and_compared_row(found: DiagnosisReport) -> None:
    assert (found.against, found.compared) == ("none", "both")
    means = found.videos.groupby(["row", "video"])["ap"].mean()
    change = found.changes()
    assert change.is_monotonic_decreasing and len(change) == 6
    video = change.index[0]
    assert change.iloc[0] == pytest.approx(means["both", video] - means["none", video])
    shown = select_videos(found, 2)
    assert [v for v, points in shown if points > 0] == change[change > 0].index[:2].tolist()


def test_profile_counts_every_detection_once(found: DiagnosisReport) -> None:
    run = found.runs["none", 0]
    part = found.profile.query("row == 'none' and seed == 0")
    within = part.groupby("tiou")["detections"].sum()
    ranks = min(10, 1 + run.matches.label.size)
    assert ranks == 10 and (within <= run.counts.sum(axis=1)).all() and within.nunique() == 1
    table = found.shares("none")
    assert list(table.columns) == list(CATEGORIES) and list(table.index) == list(range(1, 11))
    filled = table.dropna()
    assert len(filled) and filled.sum(axis=1).to_numpy() == pytest.approx(100)


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the files that the command writes for two rows."""
    out = tmp_path_factory.mktemp("out")
    assert main(["diagnose", str(folder), "--row", "none", "--row", "both", "--out", str(out)]) == 0
    assert not (folder / "diagnosis").exists()
    return out


def test_written_files(folder: Path, written: Path) -> None:
    found = diagnose_source(study_source(folder), rows=["none", "both"])
    drawings = {
        f"{name}{s}" for name in ("profile", "gains", "groups", "timelines") for s in (".png", ".svg")
    }
    tables = {"profile.csv", "gains.csv", "groups.csv", "videos.csv"}
    assert {file.name for file in written.iterdir()} == {"diagnosis.md", "diagnosis.json"} | drawings | tables
    assert (written / "profile.png").read_bytes().startswith(b"\x89PNG")
    text = (written / "timelines.svg").read_text(encoding="utf-8")
    assert "both against none" in text and "fingerprint ffffffffffffffff" in text and "0123abc" in text
    assert pd.read_csv(written / "gains.csv")["points"].to_numpy() == pytest.approx(
        found.gains["points"].to_numpy(), abs=1e-4
    )
    value = json.loads((written / "diagnosis.json").read_text(encoding="utf-8"))
    assert value == json.loads(json.dumps(summary(found)))
    none = next(row for row in value["rows"] if row["name"] == "none")
    assert none["average_map"] + none["all_errors"] + none["missed"] == pytest.approx(100)
    assert sum(none["categories"].values()) == pytest.approx(none["detections"])
    assert f"| `none` | {none['average_map']:.1f} ± " in markdown(found)


def test_one_row_has_no_timelines(folder: Path) -> None:
    one = diagnose_source(study_source(folder), rows=["both"])
    assert one.compared is None and one.against == "both" and one.changes().empty
    assert timelines_figure(one) is None
    with pytest.raises(InputError, match="no row 'other'"):
        diagnose_source(study_source(folder), rows=["other"])


def test_the_command_on_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = StudyFolder(folder).read_study().rows
    files = [str(StudyFolder(folder).run_file(row.finals[0], ".detections.json")) for row in rows]
    truth = ["--ground-truth", str(folder / "ground_truth.json")]
    assert main(["diagnose", *files, *truth, "--tiou", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert f"{rows[0].finals[0]}.detections" in shown and "average mAP" in shown
    assert main(["diagnose", *files, *truth, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 3
    assert main(["diagnose", *files]) == 2
    assert "--ground-truth" in capsys.readouterr().err
    assert main(["diagnose", str(folder), *truth]) == 2
    assert "a study has its own" in capsys.readouterr().err
    assert main(["diagnose", str(folder), "--against", "nobody"]) == 2
    assert "choose from none, self, both" in capsys.readouterr().err


def test_timelines_show_both_rows(found: DiagnosisReport) -> None:
    drawing = timelines_figure(found, count=1)
    assert drawing is not None
    labels = [tick.get_text() for tick in drawing.axes[0].get_yticklabels()]
    assert labels == ["truth", "none", "both"]
    video = select_videos(found, 1)[0][0]
    run = found.runs["none", 0]
    truths = int((run.truth["video"] == video).sum())
    most = truths + 2 * int(np.ceil(1.5 * truths))
    assert truths < len(drawing.axes[0].patches) <= most
