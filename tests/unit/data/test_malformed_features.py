"""Tests that `data check` lists malformed feature files, and that no pickle is executed."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from malformed import Case, answered, call, cases, damaged, dataset_file, empty_place, refused, tripwire

VIDEO = "v01"
SUFFIXES = (".npy", ".npz", ".pt")


def bytes_of(values: Any, suffix: str) -> bytes:
    """Write an array as a feature file."""
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, values)
    elif suffix == ".npz":
        np.savez(buffer, features=values)
    else:
        torch.save(torch.from_numpy(values), buffer)
    return buffer.getvalue()


def convert(file: Path, suffix: str) -> None:
    """Convert the dataset's features to another file type."""
    for path in list(file.parent.glob("*/*.npy")):
        content = bytes_of(np.load(path), suffix)
        path.unlink()
        path.with_suffix(suffix).write_bytes(content)
    text = yaml.safe_load(file.read_text())
    for modality in text["modalities"].values():
        modality["suffix"] = suffix
    file.write_text(yaml.safe_dump(text))


@pytest.fixture(params=SUFFIXES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """YAML file of the dataset, for each type of feature file."""
    yaml_file = dataset_file(tmp_path / "data")
    if request.param != ".npy":
        convert(yaml_file, request.param)
    with empty_place(tmp_path):
        yield yaml_file


def bad_file(file: Path, stream: str = "rgb") -> Path:
    (path,) = (file.parent / stream).glob(f"{VIDEO}.*")
    return path


def values(change: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[Path], None]:
    """Change the features of a video by a function."""

    def make(path: Path) -> None:
        video = json.loads((path.parents[1] / "annotations.json").read_text())["database"][VIDEO]
        steps = int(video["duration"] * video["fps"] / 2)
        whole = np.arange(steps * 6, dtype=np.float32).reshape(steps, 6) + 1
        path.write_bytes(bytes_of(change(whole), path.suffix))

    return make


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * share)])


def hole(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array[3, 1] = np.nan
    return array


def peak(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array[2:4, 0] = np.inf
    return array


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


TABLE = cases(
    ("missing", lambda path: path.unlink(), ("missing feature file",)),
    ("empty", lambda path: path.write_bytes(b""), ("empty file (0 bytes)",)),
    ("cut at the end", cut(0.9), ("truncated",)),
    ("cut at the start", cut(0.05), ("truncated",)),
    ("text", lambda path: path.write_text("1 2 3\n4 5 6\n"), ("truncated or not a",)),
    ("a folder", as_folder, ("cannot be read: Is a directory",)),
    ("NaN", values(hole), ("1 NaN or infinite value",)),
    ("infinite", values(peak), ("2 NaN or infinite values",)),
    ("too few channels", values(lambda a: a[:, :5]), ("5 channels, expected 6",)),
    ("too many channels", values(lambda a: np.hstack([a, a])), ("12 channels, expected 6",)),
    ("transposed", values(lambda a: a.T.copy()), ("it looks transposed",)),
    ("one dimension", values(lambda a: a.ravel()), ("shape [", "expected [T, 6]")),
    ("three dimensions", values(lambda a: a[None]), ("shape [1, ", "expected [T, 6]")),
    ("whole numbers", values(lambda a: a.astype(np.int32)), ("dtype int32, expected float16 or float32",)),
    ("complex", values(lambda a: a.astype(np.complex64)), ("dtype complex64",)),
    ("no steps", values(lambda a: a[:0]), ("no time steps",)),
)  # fmt: skip


@TABLE
def test_data_check_lists_it(case: Case, file: Path) -> None:
    path = bad_file(file)
    case.make(path)
    err, out = refused("data", "check", file)
    assert str(file) in err
    assert f"rgb/{path.name}" in out
    assert all(word in out for word in case.words), out


@TABLE
def test_study_does_not_start(case: Case, file: Path) -> None:
    path = bad_file(file)
    case.make(path)
    err, out = refused("ablate", "--dataset", file, "--tracking-uri", "off", "--budget", "smoke")
    assert str(path) in err
    assert all(word in err for word in case.words), err
    assert out == ""


@cases(
    ("half as long", values(lambda a: a[::2].copy()), ("steps, expected about", "stride 2 (stride ")),
    (
        "twice as long",
        values(lambda a: np.repeat(a, 2, axis=0)),
        ("steps, expected about", "stride 2 (stride 1 "),
    ),
    ("all zero", values(np.zeros_like), ("every value of rgb is 0",)),
)
def test_data_check_finds_invalid_features(case: Case, file: Path) -> None:
    case.make(bad_file(file))
    _, out = refused("data", "check", file)
    assert all(word in out for word in case.words), out


def test_several_arrays_without_a_name(tmp_path: Path) -> None:
    file = dataset_file(tmp_path / "data")
    convert(file, ".npz")
    np.savez(bad_file(file), a=np.ones((9, 6)), b=np.ones((9, 6)))
    _, out = refused("data", "check", file)
    unwrapped = " ".join(out.split())  # the table wraps between words
    assert (
        "contains 2 arrays (a, b), unclear which has the features (rename one of them to 'rgb')" in unwrapped
    )


def objects(path: Path, bomb: Any) -> None:
    """Write a pickle in the format of the file."""
    array = np.array([bomb], dtype=object)
    if path.suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    elif path.suffix == ".npz":
        np.savez(path, allow_pickle=True, features=array)
    else:
        torch.save({"features": bomb}, path)


def plain(path: Path, bomb: Any) -> None:
    """Write a plain pickle under the name of a feature file."""
    path.write_bytes(pickle.dumps(bomb))


def old(path: Path, bomb: Any) -> None:
    """Write a pickle in the legacy format of torch."""
    torch.save({"features": bomb}, path, _use_new_zipfile_serialization=False)


def inside(path: Path, bomb: Any) -> None:
    """Write an archive of torch with another pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(bomb, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("features.npy", b"\x80\x04.")


@pytest.mark.parametrize("make", [objects, plain, old, inside])
def test_pickle_is_rejected_and_not_executed(make: Callable[[Path, Any], None], file: Path) -> None:
    path = bad_file(file)
    make(path, tripwire(file.parent))
    _, out = refused("data", "check", file)
    assert f"rgb/{path.name}" in out
    err, _ = refused("ablate", "--dataset", file, "--tracking-uri", "off", "--budget", "smoke")
    assert str(path) in err
    if make is objects:
        unwrapped = " ".join(out.split())
        assert "refused: a pickle of Python objects, which can run code" in unwrapped
        assert "save only the array" in unwrapped
    assert not (file.parent / "exploded").exists()


def test_the_tripwire_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(tripwire(tmp_path)))
    assert (tmp_path / "exploded").exists()


def test_valid_files_are_accepted(file: Path) -> None:
    assert call("data", "check", file)[0] == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_handled(suffix: str, tmp_path: Path) -> None:
    content = bytes_of(np.random.default_rng(0).random((12, 6), dtype=np.float32), suffix)

    @settings(max_examples=8, deadline=None)
    @given(damaged(content))
    def run(bad: bytes) -> None:
        with tempfile.TemporaryDirectory() as name:
            file = dataset_file(Path(name) / "data")
            text = yaml.safe_load(file.read_text())
            text["modalities"]["rgb"]["suffix"] = suffix
            file.write_text(yaml.safe_dump(text))
            for path in list((file.parent / "rgb").iterdir()):
                path.unlink()
                path.with_suffix(suffix).write_bytes(bad)
            answered("data", "check", file)

    run()
