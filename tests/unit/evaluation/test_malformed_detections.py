"""Malformed detections, ground truth and flags of `tal-bench evaluate`."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from malformed import Case, answered, call, cases, damaged, disturbed, empty_place, refused, tripwire

TRUTH = {
    "database": {
        "a": {"subset": "test", "annotations": [{"segment": [0, 4], "label": "run", "label_id": 0}]},
        "b": {"subset": "test", "annotations": [{"segment": [1, 5.5], "label": "jump", "label_id": 1}]},
        "c": {"subset": "training", "annotations": []},
    }
}
FOUND = {"version": "1.3", "results": {"a": [{"segment": [0, 4], "label": "run", "score": 0.5}], "b": []}}
TABLE = "video,start,end,label,score\na,0,4,run,0.5\nb,1,5,jump,0.25\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "files").mkdir()
    write(tmp_path / "files")
    with empty_place(tmp_path):
        yield tmp_path / "files"


def write(folder: Path) -> None:
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    (folder / "found.json").write_text(json.dumps(FOUND))
    (folder / "found.csv").write_text(TABLE)


def words(folder: Path, found: str) -> list[object]:
    return ["evaluate", "--ground-truth", folder / "truth.json", "--detections", folder / found]


def detection(**changed: Any) -> Callable[[Path], None]:
    """Return a file whose first detection has other values; `...` removes a value."""

    def make(folder: Path) -> None:
        item = {"segment": [0, 4], "label": "run", "score": 0.5, **changed}
        item = {key: value for key, value in item.items() if value is not ...}
        (folder / "found.json").write_text(json.dumps({"results": {"a": [item]}}))

    return make


def text(content: str | bytes, name: str = "found.json") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@cases(
    ("no such file", gone("found.json"), ("no such file",)),
    ("empty", text(""), ("not valid JSON", "line 1")),
    ("cut", text(json.dumps(FOUND)[:60]), ("not valid JSON",)),
    ("binary", text(b"\x93NUMPY\x01\x00\xff\xfe"), ("not a text file", "UTF-8")),
    ("a list", text("[]"), ("not an object",)),
    ("another key", text('{"result": {}}'), ("no 'results'", "it has result")),
    ("results as list", text('{"results": []}'), ("'results' is not an object that maps videos",)),
    ("video as object", text('{"results": {"a": {}}}'), ("video 'a' are not a list",)),
    ("video twice", text('{"results": {"a": [], "a": []}}'), ("duplicate key 'a'",)),
    (
        "detection as list",
        text('{"results": {"a": [[0, 4]]}}'),
        ("detection 0 of video 'a' is not an object",),
    ),
    ("no score", detection(score=...), ("has no 'score'", "it has segment, label")),
    ("score as text", detection(score="0.5"), ("the score of detection 0", "'0.5', not a number")),
    ("score NaN", detection(score=float("nan")), ("score is nan", "video 'a'")),
    ("score infinite", detection(score=float("inf")), ("score is inf",)),
    ("score too large", detection(score=10**400), ("the score", "too large")),
    ("no segment", detection(segment=...), ("has no 'segment'",)),
    (
        "one time",
        detection(segment=[1]),
        ("the segment of detection 0", "[1]", "give [start, end] in seconds"),
    ),
    ("time as text", detection(segment=["0", "4"]), ("the start of detection 0", "'0', not a number")),
    ("reversed", detection(segment=[4, 0]), ("[4.0, 0.0]", "ends before it starts")),
    ("label null", detection(label=None), ("the label of detection 0", "None", "give a name or a label id")),
    ("labels unknown", detection(label="fly"), ("no detection has a label", "'fly'", "has jump, run")),
    (
        "videos unknown",
        text('{"results": {"z": [{"segment": [0, 1], "label": "run", "score": 1}]}}'),
        ("'z'", "has a, b"),
    ),
    ("nested deeply", text("[" * 100_000), ("cannot parse JSON",)),
    (
        "a folder",
        lambda folder: ((folder / "found.json").unlink(), (folder / "found.json").mkdir()),
        ("Is a directory",),
    ),
)
def test_detections(case: Case, folder: Path) -> None:
    case.make(folder)
    err, out = refused(*words(folder, "found.json"))
    assert str(folder / "found.json") in err
    assert all(word in err for word in case.words), err
    assert out == ""


@cases(
    ("empty", text("", "found.csv"), ("not a readable table",)),
    (
        "no score column",
        text("video,start,end,label\na,0,4,run\n", "found.csv"),
        ("column score is missing", "confidence"),
    ),
    ("score empty", text(TABLE + "a,0,4,run,\n", "found.csv"), ("score is empty in line 4",)),
    ("short line", text(TABLE + "a,0,4\n", "found.csv"), ("label is empty in line 4",)),
    ("long line", text(TABLE + "a,0,4,run,1,1\n", "found.csv"), ("not a readable table", "line 4")),
    (
        "long first line",
        text("video,start,end,label,score\na,0,4,run,1,1\n", "found.csv"),
        ("not a readable table",),
    ),
    ("time as word", text(TABLE.replace("5,jump", "five,jump"), "found.csv"), ("end is five in line 3",)),
    ("no video", text(TABLE + ",0,4,run,1\n", "found.csv"), ("video is empty in line 4",)),
    (
        "reversed",
        text(TABLE + "b,4,0,run,1\n", "found.csv"),
        ("[4.0, 0.0]", "video 'b'", "ends before it starts"),
    ),
    ("binary", text(b"\xff\xfe\x00\x01", "found.csv"), ("not a text file",)),
)
def test_tables(case: Case, folder: Path) -> None:
    case.make(folder)
    err, _ = refused(*words(folder, "found.csv"))
    assert str(folder / "found.csv") in err
    assert all(word in err for word in case.words), err


def truth(**changed: Any) -> Callable[[Path], None]:
    """Return a file whose first annotation has other values."""

    def make(folder: Path) -> None:
        item = {"segment": [0, 4], "label": "run", "label_id": 0, **changed}
        item = {key: value for key, value in item.items() if value is not ...}
        (folder / "truth.json").write_text(
            json.dumps({"database": {"a": {"subset": "test", "annotations": [item]}}})
        )

    return make


@cases(
    ("no such file", gone("truth.json"), ("no such file",)),
    ("not JSON", text("video,start,end\n", "truth.json"), ("not valid JSON at line 1",)),
    ("no database", text("{}", "truth.json"), ("no 'database'",)),
    (
        "database as list",
        text('{"database": []}', "truth.json"),
        ("'database' is not an object",),
    ),
    (
        "another subset",
        text(json.dumps(TRUTH).replace('"test"', '"val"'), "truth.json"),
        ("subset 'test'", "training, val"),
    ),
    (
        "no annotation",
        text('{"database": {"a": {"subset": "test"}}}', "truth.json"),
        ("no segments in subset", "--subset"),
    ),
    (
        "annotations as object",
        text('{"database": {"a": {"subset": "test", "annotations": {}}}}', "truth.json"),
        ("video 'a'",),
    ),
    ("no segment", truth(segment=...), ("annotation 0 of video 'a'", "no 'segment'")),
    ("segment NaN", truth(segment=[0, float("nan")]), ("end is nan",)),
    ("no label", truth(label=...), ("annotation 0 of video 'a'", "no 'label'")),
    ("id as text", truth(label_id="1"), ("label_id", "'1', not a whole number")),
    ("id too large", truth(label_id=2**70), ("label_id", "not a whole number")),
)
def test_ground_truth(case: Case, folder: Path) -> None:
    case.make(folder)
    err, _ = refused(*words(folder, "found.json"))
    assert str(folder / "truth.json") in err
    assert all(word in err for word in case.words), err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tiou", "0.7:0.3:0.1"], "--tiou: got '0.7:0.3:0.1'"),
        (["--tiou", "50"], "--tiou: got '50'"),
        (["--exclude", "zz"], "--exclude zz: no such video"),
        (["--ap-method", "coco"], "--ap-method coco"),
        (["--subset", "val"], "no video of subset 'val'"),
        (["found.csv"], "found.csv: no such file"),
    ],
)
def test_flags(flags: list[str], said: str, folder: Path) -> None:
    err, _ = refused(*words(folder, "found.json"), *flags)
    assert said in err, err


@pytest.mark.parametrize("name", ["found.pkl", "found.pickle", "found.json", "found.csv"])
def test_a_pickle_is_not_run(name: str, folder: Path) -> None:
    (folder / name).write_bytes(pickle.dumps(tripwire(folder)))
    err, _ = refused(*words(folder, name))
    assert str(folder / name) in err
    assert "pickle" in err or "not a text file" in err
    assert not (folder / "exploded").exists()


def test_valid_files_are_accepted(folder: Path) -> None:
    for name in ("found.json", "found.csv"):
        assert call(*words(folder, name))[0] == 0


@settings(max_examples=10, deadline=None)
@given(disturbed(FOUND), disturbed(TRUTH))
def test_perturbed_json_gives_one_line(found: Any, truth: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, value in (("found", found), ("truth", TRUTH)), (("found", FOUND), ("truth", truth)):
            write(folder)
            (folder / f"{what[0]}.json").write_text(json.dumps(what[1]))
            (folder / f"{value[0]}.json").write_text(json.dumps(value[1]))
            answered(*words(folder, "found.json"))


@settings(max_examples=10, deadline=None)
@given(damaged(json.dumps(FOUND).encode()), damaged(TABLE.encode()))
def test_damaged_files_give_one_line(found: bytes, table: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        (folder / "found.json").write_bytes(found)
        (folder / "found.csv").write_bytes(table)
        answered(*words(folder, "found.json"))
        answered(*words(folder, "found.csv"))
