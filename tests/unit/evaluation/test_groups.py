"""Groups of videos in intervals and reports, and a second grid of tIoU thresholds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_study import ROWS, write_fake_study

from tal_bench.config import DatasetSpec, ModalitySpec, parse_spec
from tal_bench.data.annotations import AnnotatedVideo
from tal_bench.data.selection import held_out_ids
from tal_bench.errors import DataError, InputError
from tal_bench.evaluation.mean_ap import interpolated_ap, match
from tal_bench.evaluation.significance import contrast, interval, paired_difference, sample_row, video_draws
from tal_bench.inference import scoring
from tal_bench.report.study.collect import collect
from tal_bench.report.study.notes import notes
from tal_bench.report.study.tables import csv, markdown
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import StudyRecord
from tal_bench.results.segment_files import read_groups
from tal_bench.tracking import run_data as tracked
from tal_bench.tracking.dataframe import _column

FEW = tuple(row for row in ROWS if row.name in ("none", "both"))
PEOPLE = ("ann", "bob", "cem", "ann", "bob", "dia")


def test_bootstrap_draws_whole_groups() -> None:
    drawn = video_draws(6, 500, 0, PEOPLE)
    assert drawn.shape == (500, 6)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 3])
    np.testing.assert_array_equal(drawn[:, 1], drawn[:, 4])
    np.testing.assert_array_equal(drawn[:, [0, 1, 2, 5]].sum(axis=1), 4)
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.15)


@pytest.mark.parametrize("seeds", [1, 3])
def test_coverage_with_groups(seeds: int) -> None:
    """If persons differ, intervals cover the true value only if the bootstrap draws persons, not videos."""
    rng = np.random.default_rng(seeds)
    people, each, repetitions = 12, 5, 600
    of = [str(person) for person in range(people) for _ in range(each)]
    held = {"people": 0, "videos": 0}
    weights = {"people": video_draws(len(of), 300, 0, of), "videos": video_draws(len(of), 300, 0)}
    for _ in range(repetitions):
        person = np.repeat(rng.normal(size=people), each)
        score = person + 0.5 * rng.normal(size=len(of)) + 0.3 * rng.normal(size=(seeds, len(of)))
        for kind, drawn in weights.items():
            bootstrap = score @ (drawn / drawn.sum(axis=1, keepdims=True)).T
            groups = people if kind == "people" else 0
            found = interval(score.mean(axis=1), bootstrap, n_videos=len(of), n_groups=groups)
            held[kind] += not found.excludes_zero
    assert 0.92 < held["people"] / repetitions < 0.98
    assert held["videos"] / repetitions < 0.8


def tables(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    start = np.arange(24) * 10.0
    videos = np.repeat([f"v{i}" for i in range(6)], 4)
    labels = np.tile(["a", "b"], 12)
    truth = pd.DataFrame({"video": videos, "start": start, "end": start + 5, "label": labels})
    shift = rng.normal(scale=1.2, size=24)
    return truth, truth.assign(start=start + shift, end=start + 5 + shift, score=rng.random(24))


def rows() -> list:
    truth = tables(0)[0]
    return [
        [match(tables(10 * row + seed)[1], truth, [0.3, 0.5, 0.7]) for seed in range(3)] for row in (1, 2)
    ]


def test_one_group_per_video_equals_no_groups() -> None:
    a, b = rows()
    alone = paired_difference(a, b, groups={f"v{i}": f"g{i}" for i in range(6)})
    plain = paired_difference(a, b)
    assert (alone.low, alone.high) == (plain.low, plain.high)
    assert (alone.groups, plain.groups, alone.videos) == (6, 0, 6)
    people = paired_difference(a, b, groups={f"v{i}": person for i, person in enumerate(PEOPLE)})
    assert people.groups == 4
    assert people.estimate == plain.estimate
    assert people.high - people.low != plain.high - plain.low


def test_invalid_groups() -> None:
    a, b = rows()
    people = {f"v{i}": person for i, person in enumerate(PEOPLE)}
    with pytest.raises(InputError, match="1 videos have no group, for example 'v5'"):
        sample_row(a, groups={k: v for k, v in people.items() if k != "v5"})
    with pytest.raises(InputError, match="1 groups of videos"):
        sample_row(a, groups=dict.fromkeys(people, "ann"))
    with pytest.raises(InputError, match="different groups"):
        contrast([sample_row(a, groups=people), sample_row(b)], [1, -1])


# --- the report --------------------------------------------------------------------------------------------


def give_groups(folder: Path, groups: dict[int, str]) -> None:
    file = folder / "ground_truth.json"
    content = json.loads(file.read_text())
    for place, entry in enumerate(content["database"].values()):
        if place in groups:
            entry["group"] = groups[place]
    file.write_text(json.dumps(content))


def test_report_with_groups(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=FEW, seeds=2)
    before = collect(tmp_path)
    assert read_groups(tmp_path / "ground_truth.json") is None
    give_groups(tmp_path, {place: f"person {place // 2}" for place in range(8)})
    study = collect(tmp_path)
    found, plain = (s.students()[-1].differences["none"] for s in (study, before))
    assert (found.videos, found.groups) == (8, 4)
    assert found.estimate == plain.estimate
    assert (found.low, found.high) != (plain.low, plain.high)
    assert any("8 test videos belong to 4 groups" in line for line in notes(study))
    assert not any("belong to" in line for line in notes(before))


def test_single_group_and_missing_groups(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=FEW, seeds=2)
    give_groups(tmp_path, dict.fromkeys(range(8), "ann"))
    study = collect(tmp_path)
    assert not any(row.differences for row in study.rows)
    assert any("only one group" in warning for warning in study.warnings)
    write_fake_study(tmp_path, rows=FEW, seeds=2)
    give_groups(tmp_path, {0: "ann"})
    with pytest.raises(InputError, match="7 videos without a group"):
        collect(tmp_path)


# --- a second grid -----------------------------------------------------------------------------------------


def dataset(**fields: object) -> DatasetSpec:
    stream = ModalitySpec(role="primary", folder=Path("acc"), channels=4)
    value = {
        "name": "d",
        "annotations": Path("a.json"),
        "modalities": {"acc": stream},
        "stride": 1,
        "window": 1,
    }
    return parse_spec(DatasetSpec, {**value, **fields}, where="test")


def test_average_over_second_grid() -> None:
    truth, found = tables(3)
    videos = [f"v{i}" for i in range(6)]
    assert scoring.additional_averages(dataset(), found, truth, videos) == {}
    spec = dataset(tiou=[0.3], extra_tiou=[0.5, 0.7, 0.9])
    wanted = 100 * interpolated_ap(found, truth, [0.5, 0.7, 0.9], videos=videos).average
    assert scoring.additional_averages(spec, found, truth, videos) == {"map_0.50-0.90": pytest.approx(wanted)}


def test_metric_name_in_mlflow() -> None:
    for name in ("map_0.50-0.95", "map_0.50", "map_avg"):
        assert _column((tracked.metric_name(name), 1.0)) == (name, 1.0)


def test_table_shows_second_average(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=FEW, seeds=2)
    files = StudyFolder(tmp_path)
    record: StudyRecord = files.read_study()
    for row in record.rows:
        for hash_ in row.finals:
            run = files.read_run(hash_)
            assert run is not None
            more = {**run.metrics, "map_0.50-0.95": run.metrics["map_avg"] / 2}
            files.write_run(run.model_copy(update={"metrics": more}))
    study = collect(tmp_path)
    assert study.additional_averages == ("map_0.50-0.95",)
    assert "Avg @0.50:0.95 ↑" in markdown(study)
    assert "map_0.50-0.95_mean" in csv(study).splitlines()[0]


# --- validation by subset ----------------------------------------------------------------------------------


def video(name: str, subset: str) -> AnnotatedVideo:
    nothing = np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    return AnnotatedVideo(name, subset, 10.0, 1.0, *nothing)


def test_named_subsets_are_held_out() -> None:
    videos = [video("a", "training"), video("b", "Validation"), video("c", "training")]
    spec = dataset(train=["training", "validation"], validation=["validation"])
    assert held_out_ids(spec, videos, {}) == {"b"}
    for some in (videos[:1], videos[1:2]):
        with pytest.raises(DataError, match="of 1 training videos are in subset validation"):
            held_out_ids(spec, some, {})
    for wrong in ({"validation": ["other"]}, {"train": ["a", "b"], "validation": ["b"], "folds": 3}):
        with pytest.raises(InputError, match="validation"):
            dataset(**wrong)
