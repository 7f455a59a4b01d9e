"""Tests that malformed dataset and study files are reported in one line with file, key and value."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import Case, answered, cases, damaged, dataset_file, disturbed, empty_place, refused

NAME = "small.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    dataset_file(tmp_path / "data")
    with empty_place(tmp_path):
        yield tmp_path / "data"


def text(content: str | bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / NAME).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def keys(**changed: Any) -> Callable[[Path], None]:
    """Change values of the file; `...` removes a key."""

    def make(folder: Path) -> None:
        value = {**yaml.safe_load((folder / NAME).read_text()), **changed}
        value = {key: item for key, item in value.items() if item is not ...}
        (folder / NAME).write_text(yaml.safe_dump(value))

    return make


def rgb(**changed: Any) -> Callable[[Path], None]:
    """Change values of the stream `rgb`; `...` removes a key."""

    def make(folder: Path) -> None:
        value = yaml.safe_load((folder / NAME).read_text())
        stream = {**value["modalities"]["rgb"], **changed}
        value["modalities"]["rgb"] = {key: item for key, item in stream.items() if item is not ...}
        (folder / NAME).write_text(yaml.safe_dump(value))

    return make


def append(more: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with (folder / NAME).open("a") as file:
            file.write(more)

    return make


BILLION_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
TABLE = (
    ("no such file", lambda folder: (folder / NAME).unlink(), ("no such file",)),
    ("empty", text(""), ("None",)),
    ("plain text", text("just words"), ("'just words'",)),
    ("a list", text("- 1\n- 2\n"), ("[1, 2]",)),
    ("not YAML", text("name: [\n"), ("not valid YAML at line 2",)),
    ("tab", text("name: x\n\tstride: 2\n"), ("not valid YAML at line 2",)),
    ("binary", text(b"\xff\xfe\x00\x80"), ("cannot be read",)),
    ("control character", text("name: \x07\n"), ("not valid YAML",)),
    ("object construction", text("!!python/object/apply:os.mkdir [exploded]\n"), ("line 1", "python/object")),
    ("invalid date", text("name: 2020-99-99\n"), ("not valid YAML",)),
    ("very long number", text("stride: " + "9" * 5000), ("not valid YAML",)),
    ("deep nesting", text("[" * 2000), ("not valid YAML",)),
    ("nested aliases", text(BILLION_LAUGHS), ("unknown key",)),
    ("nested aliases in a value", text(BILLION_LAUGHS + "name: *i\n"), ("small.yaml",)),
    ("alias of itself", text("name: &x [*x]\n"), ("name",)),
    ("repeated key", append("stride: 3\n"), ("key 'stride' is repeated",)),
    ("unknown key", append("strides: 3\n"), ("unknown key 'strides'", "did you mean 'stride'?")),
    ("unknown key of a stream", rgb(channel=6), ("unknown key 'modalities.rgb.channel'",)),
    ("no annotations", keys(annotations=...), ("annotations: Field required",)),
    ("no streams", keys(modalities={}), ("at least one must have role 'primary'",)),
    ("streams as list", keys(modalities=["rgb"]), ("modalities", "['rgb']")),
    ("no primary stream", rgb(role="privileged"), ("at least one must have role 'primary'",)),
    ("unknown role", rgb(role="secondary"), ("modalities.rgb.role", "'secondary'")),
    ("no channels", rgb(channels=...), ("modalities.rgb.channels: Field required",)),
    ("channels 0", rgb(channels=0), ("modalities.rgb.channels", "got 0")),
    ("channels as text", rgb(channels="many"), ("modalities.rgb.channels", "'many'")),
    ("columns of another width", rgb(columns=[0, 5]), ("columns [0, 5] are not 6 channels wide",)),
    ("columns reversed", rgb(columns=[6, 0]), ("columns [6, 0]",)),
    ("unknown type of file", rgb(suffix=".pkl"), ("'.pkl'", ".npy")),
    ("stride negative", keys(stride=-2), ("stride", "got -2")),
    ("stride as text", keys(stride="four"), ("stride", "'four'")),
    ("stride infinite", keys(stride=float("inf")), ("stride", "got inf")),
    ("stride NaN", keys(stride=float("nan")), ("stride", "got nan")),
    ("window missing", keys(window=...), ("window: Field required",)),
    ("window infinite", keys(window=float("inf")), ("window", "got inf")),
    ("fps 0", keys(fps=0), ("fps", "got 0")),
    ("fps infinite", keys(fps=float("inf")), ("fps", "got inf")),
    ("offset infinite", keys(offset=float("inf")), ("offset", "got inf")),
    ("tiou too large", keys(tiou=[0.5, 50]), ("tiou.1", "got 50")),
    ("tiou 0", keys(tiou=[0.5, 0.0]), ("tiou: [0.5, 0.0]", "all above 0")),
    ("no tiou", keys(tiou=[]), ("tiou: empty, give at least one threshold",)),
    ("validation part of 1", keys(validation_fraction=1), ("validation_fraction", "got 1")),
    ("too many classes", keys(classes=10**18), ("classes", "100000")),
    ("max_length too large", keys(max_length=10**18), ("max_length", "1000000")),
    ("max_length 0", keys(max_length=0), ("max_length", "got 0")),
    ("name with a path", keys(name="../../x"), ("name: not a valid folder name", "'../../x'")),
    ("name empty", keys(name=""), ("name: not a valid folder name",)),
    ("unknown size", keys(size="huge"), ("size", "'huge'")),
    ("invalid expression", keys(groups="v(\\d"), ("groups: not a regular expression",)),
    ("no capture group", keys(groups="v\\d"), ("no capture group",)),
    ("one fold", keys(folds=1), ("folds", "got 1")),
    ("fold beyond the folds", keys(folds=2, fold=2), ("fold: 2",)),
    ("unknown setting", keys(training={"lrr": 1}), ("training: unknown setting 'lrr'",)),
    ("setting out of range", keys(training={"lr": -1}), ("lr", "greater than 0", "-1")),
    ("unknown setting of a network", keys(detector={"depth": 1}), ("detector: 'depth'",)),
    ("unknown AP method", keys(ap_method="coco"), ("ap_method", "'coco'")),
)  # fmt: skip


@cases(*TABLE)
def test_malformed_dataset_file(case: Case, folder: Path) -> None:
    assert_rejected(("data", "check"), case, folder)


@cases(*TABLE[::6])
def test_malformed_dataset_file_of_a_study(case: Case, folder: Path) -> None:
    assert_rejected(("ablate", "--budget", "smoke", "--dataset"), case, folder)


def assert_rejected(command: tuple[str, ...], case: Case, folder: Path) -> None:
    case.make(folder)
    err, out = refused(*command, folder / NAME)
    assert str(folder / NAME) in err
    assert all(word in err for word in case.words), err
    assert len(err) < 1000
    assert out == ""
    assert not (folder.parent / "here" / "exploded").exists()


@cases(
    ("empty", text(""), ("None",)),
    ("no name", text("variants: [both]\n"), ("name: Field required",)),
    ("unknown key", text("name: x\nvariant: [both]\n"), ("'variant'", "did you mean 'variants'?")),
    ("unknown variant", text("name: x\nvariants: [bth]\n"), ("'bth'", "did you mean 'both'?")),
    ("unknown student", text("name: x\nstudent: convv\n"), ("unknown student 'convv'",)),
    ("unknown dataset", text("name: x\ndataset: sprits\n"), ("'sprits'", "did you mean 'sprites'?")),
    ("variants as word", text("name: x\nvariants: both\n"), ("variants", "'both'")),
    ("no trials", text("name: x\ntrials: 0\n"), ("trials", "got 0")),
    ("seeds as text", text("name: x\nseeds: three\n"), ("seeds", "'three'")),
    ("unknown budget", text("name: x\nbudget: huge\n"), ("budget", "'huge'")),
    ("name with a path", text("name: ../../x\nvariants: [none]\n"), ("name", "'../../x'")),
    ("name of a number", text("name: 3\n"), ("name", "got 3")),
)  # fmt: skip
def test_malformed_study_file(case: Case, folder: Path) -> None:
    case.make(folder)
    err, out = refused("ablate", folder / NAME)
    assert str(folder / NAME) in err
    assert all(word in err for word in case.words), err
    assert out == ""


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_mutated_files_are_handled(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = dataset_file(Path(name) / "data")
        good = file.read_bytes()
        file.write_text(yaml.safe_dump(data.draw(disturbed(yaml.safe_load(good)))))
        answered("data", "check", file)
        file.write_bytes(data.draw(damaged(good)))
        answered("data", "check", file)
