from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import entry, small_dataset, write_json

from tal_bench.config import DatasetSpec, ModalitySpec
from tal_bench.data.annotations import read_annotations
from tal_bench.data.checks.dataset_check import check
from tal_bench.data.checks.picture import SHOWN_CLASSES, class_counts, figure, picture
from tal_bench.data.checks.statistics import statistics


def _found(spec: DatasetSpec) -> set[tuple[str, str, str]]:
    """Return severity, kind and file name of each finding."""
    return {(f.severity, f.kind, f.file.rsplit("/", 1)[-1]) for f in check(spec).findings}


@pytest.mark.parametrize("half", [False, True])
def test_valid_dataset_has_no_findings(tmp_path: Path, half: bool) -> None:
    calls: list[tuple[int, int]] = []
    report = check(small_dataset(tmp_path, half=half), progress=lambda *at: calls.append(at))
    assert report.findings == ()
    assert report.ok
    assert (report.videos, report.files) == (13, 26)
    assert calls[-1] == (13, 13)


def test_all_problems_are_reported(tmp_path: Path) -> None:
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
        ("error", "two-splits", "v12.npy"),
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
    assert "none of 13 feature files found, first 'v00.npy'; the folder does not exist" in finding.problem
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "flow_v00.npy").touch()
    (finding,) = check(spec).findings
    assert "the folder has 'flow_v00.npy': check prefix and suffix" in finding.problem


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


def test_the_kind_of_a_finding_is_not_guessed_from_words(tmp_path: Path) -> None:
    value = {"role": "primary", "folder": tmp_path, "channels": 6, "suffix": ".npz"}
    spec = small_dataset(tmp_path).model_copy(
        update={"modalities": {"rgb": ModalitySpec.model_validate(value)}}
    )
    for path in (tmp_path / "rgb").iterdir():
        values = np.load(path)
        np.savez(tmp_path / path.with_suffix(".npz").name, missing=values, truncated=values, refused=values)
    assert check(spec).counts == {"unreadable": 13}


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
    assert report.statistics.empty
    assert "line 1" in report.findings[0].problem
    assert json.loads(report.to_json())["statistics"] == {}


def test_display_is_capped_and_json_is_not(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    for path in sorted((tmp_path / "rgb").iterdir())[1:]:
        path.unlink()
    report = check(spec)
    assert report.counts == {"missing": 12}
    shown = report.shown(5)
    assert [f.file for f in shown] == [*(f"rgb/v{k:02d}.npy" for k in range(1, 6)), "…"]
    assert shown[-1].problem == "and 7 more"
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
            "d": entry(40, [], "other"),
        },
    )
    a, b, c, d = read_annotations(path).videos
    frame = statistics({"training": [a, b], "test": [c], "bare": [d], "none": []})
    assert list(frame.index) == ["training", "test", "bare"]
    row = frame.loc["training"]
    assert (row["videos"], row["segments"], row["classes"]) == (2, 3, 2)
    assert row["hours"] == pytest.approx(30 / 3600)
    assert row["segments_per_video"] == 1.5
    assert (row["segment_min"], row["segment_median"], row["segment_mean"], row["segment_max"]) == (
        1,
        4,
        3,
        4,
    )
    assert (row["video_min"], row["video_median"], row["video_mean"], row["video_max"]) == (10, 15, 15, 20)
    assert row["background"] == pytest.approx(1 - 7 / 30)
    assert row["overlap"] == pytest.approx(2 / 7)
    assert frame.loc["test", "background"] == 0.0
    assert np.isnan(frame.loc["bare", "segment_median"])
    assert frame.loc["bare", "background"] == 1.0


def test_splits_of_the_spec(tmp_path: Path) -> None:
    """Statistics cover the training and test videos only, not other subsets of the file."""
    spec = small_dataset(tmp_path)
    report = check(spec.model_copy(update={"exclude": ("v00", "v12", "nobody")}))
    assert report.counts == {"unknown-video": 1}
    assert report.statistics["videos"].to_dict() == {"training": 8, "test": 3}
    folds = check(spec.model_copy(update={"folds": 13, "fold": 12}))
    assert folds.findings == ()
    assert folds.statistics["videos"].to_dict() == {"training": 12, "test": 1}
    assert check(spec.model_copy(update={"folds": 14})).counts == {"folds": 1}
    value = json.loads(report.to_json())["statistics"]
    assert value["test"]["videos"] == 3
    nothing = check(spec.model_copy(update={"exclude": tuple(f"v{k:02d}" for k in range(9, 13))}))
    assert nothing.counts == {"empty-split": 1}


def test_groups_in_both_splits(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    grouped = spec.model_copy(update={"groups": r"v(\d)"})  # v00 … v09 and v10, v11, v12
    (finding,) = check(grouped).findings
    assert (finding.severity, finding.kind) == ("error", "group-in-two-splits")
    assert finding.problem == "group '0' has 9 training videos ('v00') and 1 test video ('v09')"
    assert check(grouped.model_copy(update={"groups": r"v(0)"})).counts == {
        "no-group": 3,
        "group-in-two-splits": 1,
    }


def test_duplicate_in_the_same_split_is_a_warning(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    shutil.copy(tmp_path / "flow" / "v01.npy", tmp_path / "flow" / "v02.npy")
    kinds = {(severity, kind) for severity, kind, _ in _found(spec)}
    assert ("warning", "same-features") in kinds
    assert ("error", "two-splits") not in kinds


def test_videos_that_may_be_skipped_are_warnings(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path).model_copy(update={"missing": "skip"})
    (tmp_path / "rgb" / "v03.npy").unlink()
    report = check(spec)
    assert report.ok
    assert [f.problem for f in report.findings] == ["missing feature file; its video is left out"]
    shutil.rmtree(tmp_path / "flow")
    assert not check(spec).ok


def test_files_of_one_stream_in_several_folders(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    both = ModalitySpec(role="primary", folder=tmp_path / "rgb", also=(tmp_path / "flow",), channels=8)
    spec = spec.model_copy(update={"modalities": {"both": both}})
    report = check(spec)
    assert (report.findings, report.files) == ((), 26)
    (tmp_path / "flow" / "v01.npy").unlink()
    np.save(tmp_path / "flow" / "v02.npy", np.load(tmp_path / "flow" / "v02.npy")[:-5])
    np.save(tmp_path / "flow" / "v03.npy", np.load(tmp_path / "flow" / "v03.npy")[:, :1])
    found = {(kind, file) for _, kind, file in _found(spec)}
    assert found == {("missing", "v01.npy"), ("streams-differ", "video 'v02'"), ("width", "v03.npy")} | (
        {("length", "v02.npy")} if ("length", "v02.npy") in found else set()
    )
    shutil.rmtree(tmp_path / "flow")
    (finding,) = check(spec).findings
    assert finding.file == str(tmp_path / "flow")


def test_features_that_cover_the_video_evenly_have_any_length(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    for path in (*(tmp_path / "rgb").iterdir(), *(tmp_path / "flow").iterdir()):
        np.save(path, np.load(path)[:30])
    assert check(spec).counts["length"] == 26
    assert check(spec.model_copy(update={"stride": 0.0})).findings == ()


def test_external_scores(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    file = tmp_path / "scores.json"
    spec = spec.model_copy(update={"scores": file})
    assert check(spec).counts == {"scores": 1}
    file.write_text(json.dumps({f"v{k:02d}": {"jump": 0.5, "run": 0.5} for k in range(9, 12)}))
    (finding,) = check(spec).findings
    assert (finding.kind, finding.problem) == ("scores", "test video 'v12' has no external scores")
    assert check(spec.model_copy(update={"missing": "skip"})).ok


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_archives_and_tensors_are_checked(tmp_path: Path, suffix: str) -> None:
    import torch

    spec = small_dataset(tmp_path)
    for path in (*(tmp_path / "rgb").iterdir(), *(tmp_path / "flow").iterdir()):
        values = np.load(path)
        if path.name == "v02.npy":
            values = values[:, :1]
        if suffix == ".npz":
            np.savez(path.with_suffix(suffix), feats=values)
        else:
            torch.save(torch.from_numpy(values), path.with_suffix(suffix))
    streams = {name: m.model_copy(update={"suffix": suffix}) for name, m in spec.modalities.items()}
    spec = spec.model_copy(update={"modalities": streams})
    assert check(spec).counts == {"width": 2}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_picture_of_the_labels(tmp_path: Path, suffix: str) -> None:
    report = check(small_dataset(tmp_path))
    content = picture(report.dataset, report.parts, report.classes, suffix)
    assert content.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])


def test_labels_of_the_picture_are_inside_it_and_do_not_overlap(tmp_path: Path) -> None:
    segments = [(k % 9, k % 9 + 0.5, f"class {k} with a name that goes on and on and $on") for k in range(70)]
    path = write_json(tmp_path / "a.json", {"a": entry(40, segments), "b": entry(40, [], "test")})
    annotations = read_annotations(path)
    a, b = annotations.videos
    parts = {"training": [a], "a split of a rather long name": [b]}
    counts = class_counts(parts, annotations.classes)
    assert counts["class"].nunique() == SHOWN_CLASSES
    drawing = figure("x" * 200, parts, annotations.classes)
    drawing.draw_without_rendering()
    drawn, (width, height) = drawing.get_tightbbox(), drawing.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height
    names = [t.get_window_extent() for t in drawing.axes[-1].get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(names))


def test_picture_without_data() -> None:
    assert picture("nothing", {"test": []}, ()).startswith(b"\x89PNG")
