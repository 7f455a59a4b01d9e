"""Tests of the selection of videos: folds, groups and skipped videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from data_files import small_dataset
from hypothesis import given
from hypothesis import strategies as st

from tal_bench.config import DatasetSpec
from tal_bench.data.dataset import open_dataset
from tal_bench.data.selection import assign_folds, validation_ids
from tal_bench.data.splits import fingerprint
from tal_bench.errors import DataError

names = st.text("abcdef0123", min_size=1, max_size=6)
grouped = st.dictionaries(names, st.sampled_from("uvwxyz"), min_size=2, max_size=40)


@given(grouped, st.integers(2, 6), st.randoms(use_true_random=False))
def test_folds_depend_on_names_only_and_keep_groups(groups: dict[str, str], folds: int, random: Any) -> None:
    if len(set(groups.values())) < folds:
        with pytest.raises(DataError, match=f"are too few for {folds} folds"):
            assign_folds(groups, folds)
        return
    at = assign_folds(groups, folds)
    shuffled = list(groups.items())
    random.shuffle(shuffled)
    assert assign_folds(dict(shuffled), folds) == at
    assert set(at) == set(groups)
    assert set(at.values()) == set(range(folds)), "no fold is empty"
    assert all(len({at[v] for v in groups if groups[v] == g}) == 1 for g in set(groups.values()))


@given(st.lists(names, min_size=6, max_size=30, unique=True))
def test_folds_of_single_videos_are_even(ids: list[str]) -> None:
    at = assign_folds(dict(zip(ids, ids, strict=True)), 3)
    sizes = [sum(fold == k for fold in at.values()) for k in range(3)]
    assert max(sizes) - min(sizes) <= 1


@given(grouped, st.floats(0.05, 0.95))
def test_validation_keeps_groups(groups: dict[str, str], fraction: float) -> None:
    if len(set(groups.values())) < 2:
        with pytest.raises(DataError, match="only one group"):
            validation_ids(list(groups), fraction, groups)
        return
    chosen = validation_ids(list(groups), fraction, groups)
    assert 0 < len(chosen) < len(groups)
    inside = {groups[video] for video in chosen}
    assert inside.isdisjoint({groups[video] for video in groups if video not in chosen})


def with_(spec: DatasetSpec, **changes: Any) -> DatasetSpec:
    return DatasetSpec.model_validate({**spec.model_dump(), **changes})


def test_folds_pool_both_subsets(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    tested: list[str] = []
    for fold in range(3):
        data = open_dataset(with_(spec, folds=3, fold=fold), ["rgb"])
        assert sorted(data.ids("test") + data.ids("train+validation")) == [f"v{i:02d}" for i in range(13)]
        tested += data.ids("test")
    assert sorted(tested) == [f"v{i:02d}" for i in range(13)]
    assert open_dataset(with_(spec, folds=3, test=("training",)), ["rgb"]).ids("test"), "one subset is enough"


def test_groups_come_from_the_name_or_a_field(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    by_name = with_(spec, folds=2, groups=r"v\d(\d)")  # v00 and v10 are one
    data = open_dataset(by_name, ["rgb"])
    assert data.selection.groups["v00"] == data.selection.groups["v10"] == "0"
    assert ("v01" in data.ids("test")) == ("v11" in data.ids("test"))
    content = json.loads(spec.annotations.read_text())
    for index, entry in enumerate(content["database"].values()):
        entry["subject"] = index % 4
    spec.annotations.write_text(json.dumps(content))
    data = open_dataset(with_(spec, folds=4, group_field="subject"), ["rgb"])
    assert len(data.ids("test")) in (3, 4)
    assert len({data.selection.groups[video] for video in data.ids("test")}) == 1
    with pytest.raises(DataError, match=r"video 'v00': no group: field 'camera' is ''"):
        open_dataset(with_(spec, folds=4, group_field="camera"), ["rgb"])
    with pytest.raises(DataError, match=r"video 'v00': no group: the id does not match 'w\(.\)'"):
        open_dataset(with_(spec, groups="w(.)"), ["rgb"])


def test_subsets_must_not_share_a_group(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    with pytest.raises(DataError, match=r"3 groups are in both training and test, first '0' \(set 'folds'"):
        open_dataset(with_(spec, groups=r"v\d(\d)"), ["rgb"])
    assert open_dataset(with_(spec, groups=r"v(\d\d)"), ["rgb"]).ids("test")


def test_a_limit_takes_groups_in_turn(tmp_path: Path) -> None:
    spec = with_(small_dataset(tmp_path), folds=2, groups=r"v\d?([0-4]|[5-9])$")
    data = open_dataset(spec, ["rgb"], limit=2)
    taken = data.ids("train+validation")
    assert len(taken) == 2
    assert len({data.selection.groups[video] for video in taken}) == 2


def test_videos_without_features_are_left_out_in_every_row(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    (tmp_path / "flow" / "v02.npy").unlink()
    (tmp_path / "rgb" / "v10.npy").unlink()
    with pytest.raises(DataError, match=r"v10.npy: missing feature file .*'missing: skip' leaves"):
        open_dataset(spec, ["rgb"])
    skipping = with_(spec, missing="skip")
    data = open_dataset(skipping, ["rgb"])
    assert data.selection.skipped == {"v02": "no flow features", "v10": "no rgb features"}
    assert "v02" not in data.ids("train+validation"), "a row that reads RGB alone trains on the same videos"
    assert data.ids("test") == ["v09", "v11", "v12"]
    assert data.notes() == [
        "1 video left out, no flow features: v02",
        "1 video left out, no rgb features: v10",
    ]
    before = fingerprint(skipping)
    (tmp_path / "rgb" / "v11.npy").unlink()
    assert fingerprint(skipping) != before
    for video in (9, 12):
        (tmp_path / "rgb" / f"v{video:02d}.npy").unlink()
    with pytest.raises(DataError, match="no test videos are left"):
        open_dataset(skipping, ["rgb"])


def test_files_of_excluded_videos_are_not_needed(tmp_path: Path) -> None:
    spec = with_(small_dataset(tmp_path), exclude=("v09", "v00", "unknown"))
    for stream in ("rgb", "flow"):
        (tmp_path / stream / "v09.npy").unlink()
    data = open_dataset(spec, ["rgb", "flow"])
    assert data.ids("test") == ["v10", "v11", "v12"]
    assert data.selection.skipped == {"v09": "excluded", "v00": "excluded"}
    assert fingerprint(spec)
