from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_bench.data.annotations import SHORTEST, read_annotations, scan_annotations
from tal_bench.errors import DataError


def _file(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "a.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def _one(segments: list[object], **changes: object) -> dict[str, object]:
    video = {"subset": "train", "duration": 10.0, "fps": 25.0, "annotations": segments} | changes
    return {"database": {"v": {k: x for k, x in video.items() if x is not None}}}


def _seg(start: object, end: object, label: object = "a", **more: object) -> dict[str, object]:
    return {"segment": [start, end], "label": label, **more}


def test_reading(tmp_path: Path) -> None:
    annotations = read_annotations(_file(tmp_path, _one([_seg(4, 6, "b"), _seg(1.5, 2.25, "a")])))
    (video,) = annotations.videos
    assert annotations.classes == ("a", "b")
    assert (video.id, video.subset, video.duration, video.fps) == ("v", "train", 10.0, 25.0)
    np.testing.assert_array_equal(video.segments, [[4, 6], [1.5, 2.25]])
    assert video.segments.dtype == np.float64
    assert video.labels.tolist() == [1, 0]


def test_classes_follow_label_ids_only_when_all_have_one(tmp_path: Path) -> None:
    first, second = _seg(1, 2, "zebra", label_id=3), _seg(3, 4, "ant", label_id=7)
    assert read_annotations(_file(tmp_path, _one([first, second]))).classes == ("zebra", "ant")
    del second["label_id"]
    assert read_annotations(_file(tmp_path, _one([first, second]))).classes == ("ant", "zebra")


def test_video_without_segments_has_empty_arrays(tmp_path: Path) -> None:
    (video,) = read_annotations(_file(tmp_path, _one([]))).videos
    assert video.segments.shape == (0, 2)
    assert video.labels.shape == (0,)


def test_subsets_match_case_insensitively(tmp_path: Path) -> None:
    annotations = read_annotations(_file(tmp_path, _one([], subset="Validation")))
    assert [v.id for v in annotations.in_subsets(["VALIDATION"])] == ["v"]
    with pytest.raises(DataError, match=r"no videos in subset 'test' \(subsets of the file: Validation\)"):
        annotations.in_subsets(["test"])


def test_fps_of_the_spec_overrides_and_replaces(tmp_path: Path) -> None:
    path = _file(tmp_path, _one([], fps=None))
    with pytest.raises(DataError, match=r"video 'v': 'fps' is missing"):
        read_annotations(path)
    assert read_annotations(path, fps=12.5).videos[0].fps == 12.5
    assert read_annotations(_file(tmp_path, _one([])), fps=12.5).videos[0].fps == 12.5


@pytest.mark.parametrize(
    ("segments", "left", "kinds"),
    [
        ([_seg(-1, 2)], [[0, 2]], ["outside"]),
        ([_seg(8, 12)], [[8, 10]], ["outside"]),
        ([_seg(8, 10.03)], [[8, 10]], []),  # within a frame: rounding, not worth a word
        ([_seg(11, 12)], [], ["outside"]),
        ([_seg(12, 9.9)], [], ["outside"]),  # ends were cut at the video's end, starts were not
        ([_seg(-3, -1)], [], ["outside"]),
        ([_seg(4, 4)], [], ["zero-length"]),
        ([_seg(4, 5), _seg(4, 5)], [[4, 5]], ["duplicate"]),
        ([_seg(4, 5), _seg(4, 5, "b")], [[4, 5], [4, 5]], []),
    ],
)
def test_reading_repairs_and_scanning_reports(
    tmp_path: Path, segments: list[object], left: list[list[float]], kinds: list[str]
) -> None:
    annotations, findings = scan_annotations(_file(tmp_path, _one(segments)))
    assert annotations.videos[0].segments.tolist() == left
    assert [(f.severity, f.kind) for f in findings] == [("warning", kind) for kind in kinds]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{\n"database": {\n}, }', "not valid JSON at line 3"),
        ("[]", "no 'database' object"),
        ("[" * 100_000, "nested too deeply"),
        ({"database": {}}, "no 'database' object"),
        ({"database": {"v": 3}}, "video 'v': expected an object, got 3"),
        (_one([], subset=None), "'subset' is missing"),
        (_one([], duration=None), "'duration' is missing"),
        (_one([], duration="10"), "'duration' is '10', expected a number > 0"),
        (_one([], duration=0), "'duration' is 0"),
        (_one([], duration=float("nan")), "'duration' is nan"),
        (_one([], fps=True), "'fps' is True"),
        (_one([], annotations=None), "'annotations' is missing"),
        (_one(["x"]), "expected an object in 'annotations', got 'x'"),
        (_one([_seg(2, 1)]), r"segment \[2.0, 1.0\] 'a' ends before it starts"),
        (_one([_seg("1", 2)]), r"'segment' is \['1', 2\], expected \[start, end\] in seconds"),
        (_one([{"label": "a"}]), "'segment' is missing"),
        (_one([{"segment": [1, 2]}]), "'label' is missing"),
        (_one([_seg(1, float("inf"))]), "'segment' is"),
        (_one([_seg(1, 2, "a", label_id=0), _seg(1, 2, "b", label_id=0)]), "label_id 0 is both 'a' and 'b'"),
        (_one([_seg(1, 2, "a", label_id=0), _seg(3, 4, "a", label_id=1)]), "class 'a' has label_id 0 and 1"),
        (_one([_seg(1, 2, "a", label_id="0")]), "label_id of 'a' is '0', not an integer"),
        ('{"database": {"v": {"subset": "x"}, "v": {"subset": "y"}}}', "video 'v': repeated in 'database'"),
    ],
)
def test_malformed_files_are_one_line_errors(tmp_path: Path, value: object, message: str) -> None:
    path = _file(tmp_path, value)
    with pytest.raises(DataError, match=message) as caught:
        read_annotations(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such annotation file"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_annotations(tmp_path / "b.json")


def test_error_counts_further_problems(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 more"):
        read_annotations(_file(tmp_path, _one([_seg(2, 1), _seg(3, 1), _seg(4, 1)])))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    segment=json_values | st.tuples(st.floats(), st.floats()).map(list),
    label=json_values,
    duration=json_values | st.floats(0.1, 100),
)
def test_any_json_value_is_read_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, segment: object, label: object, duration: object
) -> None:
    value = _one([{"segment": segment, "label": label}], duration=duration)
    path = _file(tmp_path_factory.mktemp("any"), value)
    try:
        (video,) = read_annotations(path).videos
    except DataError as error:
        assert "\n" not in str(error)
        return
    assert np.isfinite(video.segments).all()
    assert (video.segments >= 0).all()
    assert (video.segments <= video.duration).all()
    assert (video.segments[:, 1] - video.segments[:, 0] >= SHORTEST).all()


def test_classes_that_never_occur_keep_their_index(tmp_path: Path) -> None:
    path = _file(tmp_path, _one([_seg(1, 2, "cut", label_id=3), _seg(3, 4, "wash", label_id=0)]))
    annotations = read_annotations(path, count=5)
    assert annotations.classes == ("wash", "class 1", "class 2", "cut", "class 4")
    assert annotations.videos[0].labels.tolist() == [3, 0]
    with pytest.raises(DataError, match="label_id 3 of 'cut', expected 0 to 2"):
        read_annotations(path, count=3)
    with pytest.raises(DataError, match="an annotation has no label_id, which numbers the 5 classes"):
        read_annotations(_file(tmp_path, _one([_seg(1, 2, "cut")])), count=5)


def test_ignored_labels_are_left_out(tmp_path: Path) -> None:
    path = _file(tmp_path, _one([_seg(1, 2, "Ambiguous"), _seg(3, 4, "b")]))
    annotations = read_annotations(path, ignore=("Ambiguous",))
    assert annotations.classes == ("b",)
    assert annotations.videos[0].segments.tolist() == [[3, 4]]


def test_only_the_wanted_subsets_are_read(tmp_path: Path) -> None:
    content = _one([_seg(1, 2)])
    content["database"]["w"] = {"subset": "Testing", "duration": 3.0}  # type: ignore[index]
    path = _file(tmp_path, content)
    with pytest.raises(DataError, match="video 'w': 'annotations' is missing"):
        read_annotations(path)
    assert [video.id for video in read_annotations(path, subsets=("TRAIN",)).videos] == ["v"]


def test_fps_from_number_of_frames(tmp_path: Path) -> None:
    assert read_annotations(_file(tmp_path, _one([], fps=None, frame=250))).videos[0].fps == 25.0
    with pytest.raises(DataError, match="'fps' is missing"):
        read_annotations(_file(tmp_path, _one([], fps=None, frame="many")))


def test_a_few_reversed_segments_are_dropped_and_counted(tmp_path: Path) -> None:
    """Up to 1 %; above, the file is rejected."""
    good = [_seg(k / 10, k / 10 + 0.05) for k in range(99)]
    annotations = read_annotations(_file(tmp_path, _one([*good, _seg(2, 1)])))
    assert len(annotations.videos[0].segments) == 99
    assert annotations.repairs == {"reversed": 1}
    with pytest.raises(DataError, match="ends before it starts"):
        read_annotations(_file(tmp_path, _one([*good, _seg(2, 1), _seg(3, 1)])))
    _, findings = scan_annotations(_file(tmp_path, _one([*good, _seg(2, 1)])))
    assert [(f.severity, f.kind) for f in findings] == [("warning", "reversed")]
    assert findings[0].problem.endswith("; dropped")
