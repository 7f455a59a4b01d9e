"""Data of the timeline of test videos, and its size."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from fake_study import CLASSES, ROWS, write_fake_study
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_bench.evaluation.matching import match
from tal_bench.report.diagnosis.source import has_detections, study_source
from tal_bench.report.diagnosis.video_timeline import FEWEST, select_videos, timeline_data
from tal_bench.report.study.collect import collect
from tal_bench.report.study.page import page
from tal_bench.results.folder import StudyFolder
from tal_bench.results.segment_files import read_result_file, read_segments


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1), st.integers(0, 30), min_size=1, max_size=30),
    st.integers(1, 12),
    st.integers(200, 5000),
)
def test_the_page_stays_small(truths: dict[str, int], rows: int, most: int) -> None:
    found = select_videos(truths, rows, most)
    assert set(found.names) <= set(truths)
    kept = [found.kept[name] for name in found.names]
    assert all(count >= max(FEWEST, truths[name]) for name, count in zip(found.names, kept, strict=True))
    if len(found.names) == len(truths) > 1:
        assert rows * sum(kept) <= most
    largest = max(found.kept.values())
    assert len(found.names) == 1 or rows * len(found.names) * FEWEST <= most + rows * largest * FEWEST


def test_many_videos_are_spread_over_all() -> None:
    found = select_videos({f"{k:04d}": 2 for k in range(5000)}, rows=13, most=10_000)
    places = [int(name) for name in found.names]
    assert places[0] == 0 and places[-1] == 4999
    assert 100 < len(places) <= 10_000 / 13 / FEWEST + 1
    assert max(b - a for a, b in pairwise(places)) < 1.5 * 5000 / len(places)


def test_segments_and_hits_are_those_of_the_files(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path, rows=ROWS[4:6], seeds=2, trials=0)
    files = StudyFolder(tmp_path)
    averages = {(row.name, 0): 10.0 + k for k, row in enumerate(record.rows)}
    assert has_detections(tmp_path)
    data = timeline_data(study_source(tmp_path), averages)
    assert data["of"] == 8
    assert data["classes"] == list(CLASSES) and data["tiou"] == pytest.approx(0.5)
    wanted = [{"name": n, "seed": 0, "map": m, "student": True} for n, m in (("none", 10.0), ("self", 11.0))]
    assert data["rows"] == wanted
    assert [video["name"] for video in data["videos"]] == [f"video_{k}" for k in range(8)]
    truth, videos = read_segments(tmp_path / "ground_truth.json")
    for index, row in enumerate(record.rows):
        table = read_result_file(files.run_file(row.finals[0], ".detections.json"))
        matches = match(table, truth, [0.5], videos=videos)
        correct = set(matches.row[matches.true_positive[0]].tolist())
        table = table.assign(hit=[k in correct for k in range(len(table))])
        for video in data["videos"]:
            flat = video["detections"][index]
            shown = [tuple(flat[k : k + 5]) for k in range(0, len(flat), 5)]
            best = table[table["video"] == video["name"]].nlargest(len(shown), "score")
            assert len(shown) == min(3 * 6, len(table[table["video"] == video["name"]]))
            assert [s[3] for s in shown] == [round(1000 * score) for score in best["score"]]
            assert [bool(s[4]) for s in shown] == best["hit"].tolist()
            assert [s[0] for s in shown] == [round(100 * start) for start in best["start"]]
            assert [CLASSES[s[2]] for s in shown] == best["label"].tolist()
    assert len(json.dumps(data, separators=(",", ":"))) < 20 * 2 * 8 * 18 * 1.3


def test_no_timeline_without_detections(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=ROWS[4:6], seeds=1, trials=0)
    for file in (tmp_path / "runs").glob("*.detections.json"):
        file.unlink()
    assert not has_detections(tmp_path)
    text = page(collect(tmp_path), {}, tmp_path)
    assert 'id="accuracy"' in text and "timeline-data" not in text


def test_detections_of_no_row_make_no_timeline(tmp_path: Path) -> None:
    """A folder may have runs of earlier settings before the first final run of a row has ended."""
    write_fake_study(tmp_path, rows=ROWS[4:6], seeds=1, trials=0)
    first, *others = (tmp_path / "runs").glob("*.detections.json")
    for file in others:
        file.unlink()
    first.rename(first.with_name("0123456789abcdef.detections.json"))
    assert not has_detections(tmp_path)
    assert "timeline-data" not in page(collect(tmp_path), {}, tmp_path)
