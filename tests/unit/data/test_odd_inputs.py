"""Odd annotations, dataset files, detections: one line and exit code 2, or the right result; no traceback.

What `ablate` refuses, `data check` refuses, and the reverse.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from malformed import call, dataset_file, empty_place, is_one_line
from odd_inputs import TABLE, Odd, of_json, of_table, of_text, of_yaml

SEGMENTS = ((1, "run", 0), (5, "jump", 1))
TRUTH = {
    "database": {
        f"v{n}": {
            "subset": "test",
            "duration": 10.0,
            "annotations": [
                {"segment": [s, s + 2], "label": label, "label_id": k} for s, label, k in SEGMENTS
            ],
        }
        for n in range(3)
    }
}
FOUND = {
    "results": {
        f"v{n}": [{"segment": [s, s + 2], "label": label, "score": 0.5} for s, label, _ in SEGMENTS]
        for n in range(3)
    }
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset_file(tmp_path_factory.mktemp("odd") / "data")


@pytest.fixture
def folder(dataset: Path, tmp_path: Path) -> Iterator[Path]:
    """A valid dataset, ground truth and detections; the working directory is empty and stays so."""
    place = tmp_path / "files"
    shutil.copytree(dataset.parent, place)
    (place / "truth.json").write_text(json.dumps(TRUTH))
    (place / "found.json").write_text(json.dumps(FOUND))
    (place / "found.csv").write_text(TABLE)
    with empty_place(tmp_path):
        yield place


def annotations(folder: Path) -> Iterator[Odd]:
    file = folder / "annotations.json"
    good = json.loads(file.read_text())
    video: tuple[Any, ...] = ("database", "v00")
    item = (*video, "annotations", 0)
    keys = [(*video, key) for key in ("subset", "duration", "fps", "annotations")]
    inner = [item, (*item, "segment"), (*item, "segment", 0), (*item, "segment", 1), (*item, "label")]
    yield from of_text(json.dumps(good, indent=1))
    yield from of_json(good, (("database",), video, *keys, *inner))


def dataset_files(folder: Path) -> Iterator[Odd]:
    text = (folder / "small.yaml").read_text()
    yield from of_text(text)
    yield from of_yaml(
        yaml.safe_load(text),
        (
            *("name", "annotations", "modalities", "stride", "fps", "train", "test", "classes", "scores"),
            *("ignore_labels", "max_length", "folds", "validation"),
        ),
    )


def detections(folder: Path) -> Iterator[Odd]:
    item: tuple[Any, ...] = ("results", "v0", 0)
    yield from of_text(json.dumps(FOUND, indent=1))
    inner = [(*item, "segment"), (*item, "segment", 1), (*item, "label"), (*item, "score")]
    yield from of_json(FOUND, (("results",), ("results", "v0"), item, *inner))


def ground_truths(folder: Path) -> Iterator[Odd]:
    video: tuple[Any, ...] = ("database", "v0")
    item = (*video, "annotations", 0)
    yield from of_text(json.dumps(TRUTH, indent=1))
    inner = [(*item, "segment"), (*item, "segment", 1), (*item, "label"), (*item, "label_id")]
    yield from of_json(TRUTH, (("database",), video, (*video, "annotations"), item, *inner))


def tables(folder: Path) -> Iterator[Odd]:
    yield from of_text(TABLE)
    yield from of_table(TABLE)


def clean(code: int, err: str) -> bool:
    """Whether a command accepted its input, possibly with notes, or refused it in one line."""
    if code == 2:
        return is_one_line(err)
    return code == 0 and "Traceback" not in err and "warning:" not in err


def study_commands(folder: Path) -> list[str]:
    """Return what is wrong with the answers of `data check` and `ablate` for the dataset in a folder."""
    file = folder / "small.yaml"
    answers = {"check": call("data", "check", file)}
    words = ("ablate", "--dataset", file, "--dry-run", "--tracking-uri", "off", "--device", "cpu")
    for budget in ("quick",) if answers["check"][0] else ("smoke", "quick", "full"):
        answers[budget] = call(*words, "--budget", budget)
    wrong = [
        f"{name}: {code} {err[:300]}" for name, (code, _, err) in answers.items() if not clean(code, err)
    ]
    refused = [name for name, (code, _, _) in answers.items() if code]
    if refused and answers["check"][0] == 0:
        wrong.append(f"data check accepts it, refused by {refused}")
    return wrong


def evaluation(name: str) -> Callable[[Path], list[str]]:
    """Return a function that evaluates the detections of a file and returns what is wrong with the answer."""

    def command(folder: Path) -> list[str]:
        words = ("evaluate", "--ground-truth", folder / "truth.json", "--detections", folder / name, "--json")
        code, out, err = call(*words)
        wrong = [] if clean(code, err) else [f"{name}: {code} {err[:300]}"]
        return wrong or ([] if code else [f"mAP {json.loads(out)['average_map']}"])

    return command


KINDS: dict[str, tuple[Callable[[Path], Iterable[Odd]], str, Callable[[Path], list[str]]]] = {
    "annotations": (annotations, "annotations.json", study_commands),
    "dataset file": (dataset_files, "small.yaml", study_commands),
    "detections": (detections, "found.json", evaluation("found.json")),
    "ground truth": (ground_truths, "truth.json", evaluation("found.json")),
    "table": (tables, "found.csv", evaluation("found.csv")),
}


def answers(kind: str, folder: Path) -> Iterator[tuple[Odd, list[str]]]:
    """Yield every odd version of a file with what is wrong with the answers to it."""
    make, name, command = KINDS[kind]
    file = folder / name
    good = file.read_bytes()
    for odd in list(make(folder)):
        odd.write(file)
        yield odd, command(folder)
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(good)


@pytest.mark.parametrize("kind", KINDS)
def test_odd_files_are_refused_or_read(kind: str, folder: Path) -> None:
    wrong, count = [], 0
    for odd, found in answers(kind, folder):
        count += 1
        accepted = [text for text in found if text.startswith("mAP")]
        if odd.same and accepted not in ([], ["mAP 1.0"]):
            wrong.append(f"{odd.name}: {accepted[0]} where a valid file has 1.0")
        wrong += [f"{odd.name}: {text}" for text in found if text not in accepted]
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)
    assert count > 50
