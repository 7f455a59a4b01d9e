from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import entry, small_dataset, write_json

from tal_bench.config import DatasetSpec, ModalitySpec
from tal_bench.data.annotations import read_annotations
from tal_bench.data.check import check
from tal_bench.data.statistics import statistics


def _found(spec: DatasetSpec) -> set[tuple[str, str, str]]:
    """(severity, kind, last part of the file)."""
    return {(f.severity, f.kind, f.file.rsplit("/", 1)[-1]) for f in check(spec).findings}


@pytest.mark.parametrize("half", [False, True])
def test_a_good_dataset_has_no_findings(tmp_path: Path, half: bool) -> None:
    calls: list[tuple[int, int]] = []
    report = check(small_dataset(tmp_path, half=half), progress=lambda *at: calls.append(at))
    assert report.findings == ()
    assert report.ok
    assert (report.videos, report.files) == (13, 26)
    assert calls[-1] == (13, 13)


def test_everything_is_found_at_once(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    rgb, flow = tmp_path / "rgb", tmp_path / "flow"
    values = {path.name: np.load(path) for path in sorted(rgb.iterdir())}
    (rgb / "v00.npy").unlink()
    (rgb / "v01.npy").write_bytes(b"")
    (rgb / "v02.npy").write_bytes((rgb / "v02.npy").read_bytes()[:200])
    np.save(rgb / "v03.npy", np.where(values["v03.npy"] == 105.75, np.nan, values["v03.npy"]))
    np.save(rgb / "v04.npy", values["v04.npy"][:, :5])
    np.save(rgb / "v05.npy", values["v05.npy"].astype(np.int64))
    np.save(rgb / "v06.npy", values["v06.npy"][::2])
    np.save(flow / "v07.npy", np.zeros_like(np.load(flow / "v07.npy")))
    shutil.copy(rgb / "v12.npy", rgb / "v08.npy")
    report = check(spec)
    found = {(f.severity, f.kind, f.file.rsplit("/", 1)[-1]) for f in report.findings}
    assert found >= {
        ("error", "missing", "v00.npy"),
        ("error", "empty", "v01.npy"),
        ("error", "truncated", "v02.npy"),
        ("error", "nan", "v03.npy"),
        ("error", "width", "v04.npy"),
        ("error", "dtype", "v05.npy"),
        ("error", "length", "v06.npy"),
        ("error", "streams-differ", "video 'v06'"),
        ("error", "zeros", "v07.npy"),
        ("warning", "same-features", "v12.npy"),
    }
    assert not report.ok
    length = next(f.problem for f in report.findings if f.kind == "length" and "v06" in f.file)
    assert "stride 4" in length or "stride 3.9" in length
    severities = [f.severity for f in report.findings]
    assert severities == sorted(severities)


def test_annotations_and_splits(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    database = json.loads(spec.annotations.read_text())["database"]
    database["v00"]["annotations"].append({"segment": [4, 3], "label": "run"})
    database["v01"]["annotations"].append({"segment": [4, 4], "label": "run"})
    database["v02"]["annotations"].append({"segment": [4, 400], "label": "run"})
    database["v03"]["annotations"] *= 2
    database["v04"]["annotations"] = []
    database["v09"]["annotations"].append({"segment": [1, 2], "label": "fly"})
    write_json(spec.annotations, database)
    kinds = {(severity, kind) for severity, kind, _ in _found(spec)}
    assert kinds == {
        ("error", "reversed"),
        ("warning", "zero-length"),
        ("warning", "outside"),
        ("warning", "duplicate"),
        ("warning", "no-segments"),
        ("warning", "unknown-label"),
    }


def test_overlapping_and_empty_splits(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    overlap = spec.model_copy(update={"test": ("TRAINING",)})
    assert check(overlap).counts == {"two-splits": 9}
    empty = spec.model_copy(update={"test": ("test", "testing")})
    (finding,) = check(empty).findings
    assert finding.kind == "empty-subset"
    assert "'testing'" in finding.problem
    assert "Training, test" in finding.problem


def test_a_folder_without_any_file_is_one_finding(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    shutil.rmtree(tmp_path / "flow")
    (finding,) = check(spec).findings
    assert finding.file == str(tmp_path / "flow")
    assert "none of 13 feature files is here, 'v00.npy' first; there is no such folder" in finding.problem
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "flow_v00.npy").touch()
    (finding,) = check(spec).findings
    assert "the folder has 'flow_v00.npy': see prefix and suffix" in finding.problem


def test_a_shared_file_is_reported_once(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    streams = {
        "a": ModalitySpec(role="primary", folder=tmp_path / "rgb", channels=4, columns=(0, 4)),
        "b": ModalitySpec(role="privileged", folder=tmp_path / "rgb", channels=2, columns=(4, 6)),
    }
    spec = spec.model_copy(update={"modalities": streams})
    assert check(spec).findings == ()
    (tmp_path / "rgb" / "v01.npy").unlink()
    np.save(tmp_path / "rgb" / "v02.npy", np.load(tmp_path / "rgb" / "v02.npy")[:20])
    assert check(spec).counts == {"missing": 1, "length": 1}


def test_a_shared_archive_is_reported_once(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    streams = {}
    for name, width in (("rgb", 6), ("flow", 2)):
        role = "primary" if name == "rgb" else "privileged"
        value = {"role": role, "folder": tmp_path, "channels": width, "suffix": ".npz"}
        streams[name] = ModalitySpec.model_validate(value)
    for path in (tmp_path / "rgb").iterdir():
        arrays = {name: np.load(tmp_path / name / path.name) for name in streams}
        np.savez(tmp_path / path.with_suffix(".npz").name, **arrays)
    spec = spec.model_copy(update={"modalities": streams})
    assert check(spec).findings == ()
    (tmp_path / "v04.npz").write_bytes(b"PK")
    assert check(spec).counts == {"truncated": 1}


def test_an_unreadable_annotation_file_is_a_finding(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    spec.annotations.write_text("{")
    report = check(spec)
    assert report.counts == {"annotations": 1}
    assert "line 1" in report.lines()[0]


def test_display_is_capped_and_json_is_not(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    for path in sorted((tmp_path / "rgb").iterdir())[1:]:
        path.unlink()
    report = check(spec)
    assert report.counts == {"missing": 12}
    lines = report.lines(shown=5)
    assert len(lines) == 6
    assert lines[-1] == "error: … and 7 more of kind 'missing'"
    value = json.loads(report.to_json())
    assert len(value["findings"]) == 12
    assert value["counts"] == {"missing": 12}
    assert value["ok"] is False


def test_statistics(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "a.json",
        {
            "a": entry(40, [(0, 4, "x"), (2, 6, "y"), (8, 9, "x")]),
            "b": entry(80, [], "TRAINING"),
            "c": entry(40, [(0, 10, "x")], "test"),
        },
    )
    frame = statistics(read_annotations(path))
    assert list(frame.index) == ["training", "test"]
    row = frame.loc["training"]
    assert (row["videos"], row["segments"], row["classes"]) == (2, 3, 2)
    assert row["hours"] == pytest.approx(30 / 3600)
    assert row["segments_per_video"] == 1.5
    assert (row["segment_median"], row["segment_max"]) == (4.0, 4.0)
    assert (row["video_median"], row["video_max"]) == (15.0, 20.0)
    assert row["background"] == pytest.approx(1 - 7 / 30)
    assert row["overlap"] == pytest.approx(2 / 7)
    assert frame.loc["test", "background"] == 0.0
