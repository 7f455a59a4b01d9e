"""Tests that `data check` lists problems of annotation files and that a study does not start."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import (
    Case,
    answered,
    call,
    cases,
    damaged,
    dataset_file,
    disturbed,
    empty_place,
    refused,
    tripwire,
)

NAME = "annotations.json"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    dataset_file(tmp_path / "data")
    with empty_place(tmp_path):
        yield tmp_path / "data"


def text(content: str | bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / NAME).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def database(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the videos by a function."""

    def make(folder: Path) -> None:
        content = json.loads((folder / NAME).read_text())
        change(content["database"])
        (folder / NAME).write_text(json.dumps(content))

    return make


def entry(**changed: Any) -> Callable[[Path], None]:
    """Change values of the first video's entry; `...` removes a key."""

    def change(videos: dict[str, Any]) -> None:
        videos["v00"].update(changed)
        videos["v00"] = {key: value for key, value in videos["v00"].items() if value is not ...}

    return database(change)


def segment(**changed: Any) -> Callable[[Path], None]:
    """Change values of the first annotation of the first video; `...` removes a key."""

    def change(videos: dict[str, Any]) -> None:
        item = {**videos["v00"]["annotations"][0], **changed}
        videos["v00"]["annotations"][0] = {key: value for key, value in item.items() if value is not ...}

    return database(change)


def repeat_video(folder: Path) -> None:
    content = (folder / NAME).read_text()
    entry = json.dumps(json.loads(content)["database"]["v00"])
    (folder / NAME).write_text(content.replace('"v01"', f'"v00": {entry}, "v01"', 1))


def subset(name: str) -> Callable[[Path], None]:
    return database(lambda videos: [video.update(subset=name) for video in videos.values()])


def relabelled(videos: dict[str, Any]) -> None:
    for number, video in enumerate(videos.values()):
        for item in video["annotations"]:
            item["label_id"] = number


TABLE = cases(
    ("no such file", lambda folder: (folder / NAME).unlink(), ("no such annotation file",)),
    ("empty", text(""), ("not valid JSON at line 1",)),
    ("cut", text('{"database": {"a": {"subset"'), ("not valid JSON at line 1",)),
    ("binary", text(b"\x80\x04\xff"), ("cannot be read",)),
    ("a list", text("[]"), ("no 'database' object",)),
    ("no database", text('{"videos": {}}'), ("no 'database' object",)),
    ("no videos", text('{"database": {}}'), ("no 'database' object",)),
    ("nested deeply", text('{"database":' + "[" * 100_000), ("nested too deeply",)),
    ("video as list", database(lambda videos: videos.update(v00=[1])), ("expected an object, got [1]",)),
    ("repeated video", repeat_video, ("'v00'", "repeated in 'database'")),
    ("no subset", entry(subset=...), ("'v00'", "'subset' is missing")),
    ("subset as number", entry(subset=3), ("'subset' is 3",)),
    ("another subset", subset("val"), ("'train'" , "training")),
    ("no duration", entry(duration=...), ("'v00'", "'duration' is missing")),
    ("duration 0", entry(duration=0), ("'duration' is 0", "a number > 0")),
    ("duration NaN", entry(duration=float("nan")), ("'duration' is nan",)),
    ("duration as text", entry(duration="10 s"), ("'duration' is '10 s'",)),
    ("duration too large", entry(duration=10**400), ("'duration' is",)),
    ("no fps", entry(fps=...), ("'fps' is missing", "fps: 30")),
    ("fps negative", entry(fps=-8), ("'fps' is -8",)),
    ("no annotations", entry(annotations=...), ("'annotations' is missing",)),
    ("annotations as object", entry(annotations={}), ("'annotations' is {}",)),
    ("annotation as list", entry(annotations=[[1, 2]]), ("expected an object in 'annotations', got [1, 2]",)),
    ("no segment", segment(segment=...), ("'segment' is missing",)),
    ("one time", segment(segment=[1]), ("'segment' is [1]", "[start, end] in seconds")),
    ("time as text", segment(segment=["1", "2"]), ("'segment' is ['1', '2']",)),
    ("time NaN", segment(segment=[1, float("nan")]), ("'segment' is [1, nan]",)),
    ("time too large", segment(segment=[1, 10**400]), ("'segment' is",)),
    ("reversed", segment(segment=[3, 1]), ("[3.0, 1.0]", "ends before it starts")),
    ("control characters", segment(segment=[3, 1], label="\x1b[2J"), ("reversed", "'�[2J'")),
    ("half a character", segment(segment=[3, 1], label="\ud800"), ("reversed", "'�'")),
    ("no label", segment(label=...), ("'label' is missing",)),
    ("label as number", segment(label=7), ("'label' is 7",)),
    ("label empty", segment(label=""), ("'label' is ''",)),
    ("id as text", segment(label_id="1"), ("label_id of 'jump' is '1'",)),
    ("one class of many ids", database(relabelled), ("class 'jump' has label_id 0 and 1",)),
)  # fmt: skip


@TABLE
def test_data_check_lists_it(case: Case, folder: Path) -> None:
    case.make(folder)
    err, out = refused("data", "check", folder / "small.yaml")
    assert str(folder / "small.yaml") in err
    assert NAME in out
    unwrapped = " ".join(out.split())  # the table wraps between words
    assert all(word in unwrapped for word in case.words), out


@TABLE
def test_study_does_not_start(case: Case, folder: Path) -> None:
    case.make(folder)
    words = ("ablate", "--dataset", folder / "small.yaml", "--tracking-uri", "off", "--budget", "smoke")
    err, out = refused(*words)
    assert str(folder / NAME) in err
    assert out == ""


def test_pickle_is_not_executed(folder: Path) -> None:
    (folder / NAME).write_bytes(pickle.dumps(tripwire(folder)))
    refused("data", "check", folder / "small.yaml")
    assert not (folder / "exploded").exists()


def test_valid_file_is_accepted(folder: Path) -> None:
    assert call("data", "check", folder / "small.yaml")[0] == 0


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (dataset_file(tmp_path_factory.mktemp("good") / "data").parent / NAME).read_bytes()


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_mutated_files_are_handled(good: bytes, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = dataset_file(Path(name) / "data")
        content = json.loads(good)
        content["database"] = data.draw(disturbed(content["database"]))
        (file.parent / NAME).write_text(json.dumps(content))
        answered("data", "check", file)
        (file.parent / NAME).write_bytes(data.draw(damaged(good)))
        answered("data", "check", file)
