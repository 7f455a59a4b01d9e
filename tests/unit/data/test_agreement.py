"""`data check` refuses what `ablate` refuses at any budget, and names times that are not seconds."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from malformed import call, empty_place, refused
from shared_faults import fault_files

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import scan_annotations
from tal_bench.data.checks.class_names import check_class_names
from tal_bench.data.dataset import open_dataset
from tal_bench.data.registry import read_dataset_file
from tal_bench.data.time_units import Extent, unit_finding

FPS, STRIDE = 8.0, 2.0
BUDGETS = ("smoke", "quick", "full")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "data").mkdir()
    with empty_place(tmp_path):
        yield tmp_path / "data"


def dataset(folder: Path, database: dict[str, Any], **keys: Any) -> Path:
    """Write a dataset with features for these annotations; return its YAML file."""
    random = np.random.default_rng(0)
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    for stream in ("rgb", "flow"):
        (folder / stream).mkdir()
        for name, video in database.items():
            steps = int(video["duration"] * video["fps"] / STRIDE)
            np.save(folder / stream / f"{name}.npy", random.normal(size=(steps, 4)).astype(np.float32))
    value = {
        "name": "faulty",
        "annotations": "annotations.json",
        "stride": STRIDE,
        "window": 4.0,
        "max_length": 512,
        "size": "small",
        "modalities": {
            "rgb": {"role": "primary", "folder": "rgb", "channels": 4},
            "flow": {"role": "privileged", "folder": "flow", "channels": 4},
        },
        **keys,
    }
    file = folder / "faulty.yaml"
    file.write_text(yaml.safe_dump(value))
    return file


def database(train: int = 8, test: int = 4, *, unlabelled: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return videos of 12 s with two segments each, except those of some numbers."""
    segments = [{"segment": [2.0, 5.0], "label": "run"}, {"segment": [7.0, 11.0], "label": "jump"}]
    return {
        f"v{index:02d}": {
            "subset": "training" if index < train else "test",
            "duration": 12.0,
            "fps": FPS,
            "annotations": [] if index in unlabelled else segments,
        }
        for index in range(train + test)
    }


def answers(file: Path) -> dict[str, tuple[int, str]]:
    """Return exit code and text of `data check` and of `ablate --dry-run` at every budget."""
    code, out, err = call("data", "check", file)
    found = {"check": (code, out + err)}
    for budget in BUDGETS:
        words = ("ablate", "--dataset", file, "--dry-run", "--tracking-uri", "off", "--device", "cpu")
        code, _, err = call(*words, "--budget", budget)
        found[budget] = (code, err)
    return found


EVERYWHERE = ("check", *BUDGETS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ms", "times look like milliseconds"),
        ("frames", "times look like frames"),
        ("notest", "none of 6 test videos has a segment"),
        ("one_train", "1 training video, cannot hold out a validation part"),
        ("sparse", ""),
    ],
)
def test_faulty_annotations(name: str, said: str, folder: Path) -> None:
    for files in fault_files("annotations"):
        place = folder / files.parent.name
        place.mkdir()
        file = dataset(place, json.loads((files / f"{name}.json").read_text())["database"])
        for command, (code, text) in answers(file).items():
            assert code == (2 if said else 0), (command, text)
            assert said in " ".join(text.split()), command
        shutil.rmtree(place)


@pytest.mark.parametrize(
    ("videos", "keys", "said", "where"),
    [
        (database(2, 2), {}, "1 training videos? are fewer than the batch size 2", EVERYWHERE),
        (database(2, 2), {"training": {"batch_size": 1}}, "", ()),
        (database(8, 4), {"training": {"batch_size": 16}}, "the batch size 16", ("check", "quick", "full")),
        (database(8, 4, unlabelled=tuple(range(8))), {}, "no(ne|t) of . .* has a segment", EVERYWHERE),
        (database(8, 4, unlabelled=tuple(range(12))), {}, "no classes", EVERYWHERE),
        (database(1, 0), {"folds": 3}, "1 groups of videos are too few for 3 folds", EVERYWHERE),
        (database(8, 4), {"max_length": 100}, "max_length", EVERYWHERE),
        (database(8, 4), {"train": ["training", "x"], "validation": ["x"]}, "0 of 8|in 'x'", EVERYWHERE),
        (database(8, 4), {"groups": "(v)"}, "in both training and test|group 'v' has", EVERYWHERE),
    ],
)  # fmt: skip
def test_commands_agree(
    videos: dict[str, Any], keys: dict[str, Any], said: str, where: tuple[str, ...], folder: Path
) -> None:
    for command, (code, text) in answers(dataset(folder, videos, **keys)).items():
        assert code == (2 if command in where else 0), (command, text)
        assert command not in where or re.search(said, " ".join(text.split())), (command, text)


def spec_of(file: Path) -> DatasetSpec:
    return read_dataset_file(file)


def test_a_budget_takes_videos_with_segments(folder: Path) -> None:
    videos = database(40, 40, unlabelled=tuple(n for n in range(80) if n % 4))
    data = open_dataset(spec_of(dataset(folder, videos)), ["rgb"], limit=12)
    for part in ("train+validation", "test"):
        with_segments = [name for name in data.ids(part) if videos[name]["annotations"]]  # type: ignore[arg-type]
        assert (len(data.ids(part)), len(with_segments)) == (12, 10)  # type: ignore[arg-type]


def test_a_budget_takes_videos_of_both_subsets(folder: Path) -> None:
    videos = database(40, 4)
    for name in list(videos)[30:40]:
        videos[name]["subset"] = "held"
    keys = {"train": ["training", "held"], "validation": ["held"]}
    data = open_dataset(spec_of(dataset(folder, videos, **keys)), ["rgb"], limit=12)
    assert (len(data.ids("train")), len(data.ids("validation"))) == (6, 6)


def unit_problem(videos: list[Extent], stride: float) -> str:
    finding = unit_finding(Path("a.json"), videos, stride)
    return finding.problem if finding else ""


UNITS = {
    "times look like milliseconds": (lambda video: 1e3, 1.0),
    "times look like frames": (lambda video: video.fps, 1.0),
    "times look like steps of the features": (lambda video: video.fps / 4, 1.0),
    "times look like minutes": (lambda video: 1 / 60, 1.0),
    "times look like a fraction of the video": (lambda video: 1 / video.duration, 1.0),
    "times look like percent of the video": (lambda video: 100 / video.duration, 1.0),
    "durations look like milliseconds": (lambda video: 1.0, 1e3),
    "durations look like minutes": (lambda video: 1.0, 1 / 60),
}


@pytest.mark.parametrize("unit", [*UNITS, ""])
@pytest.mark.parametrize("seed", range(8))
def test_units_are_named(unit: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    fps = float(random.choice([25.0, 30.0]))
    videos = []
    for _ in range(30):
        duration = float(random.uniform(10, 45) if "percent" in unit else random.uniform(40, 180))
        right = Extent("training", duration, fps, duration * float(random.uniform(0.4, 1.0)))
        times, length = UNITS[unit] if unit else (lambda video: 1.0, 1.0)
        videos.append(Extent("training", duration * length, fps, right.end * times(right)))
    assert unit_problem(videos, 4.0).startswith(unit)
    assert bool(unit_problem(videos, 4.0)) == bool(unit)


def test_one_subset_in_another_unit() -> None:
    seconds = [Extent("training", 60.0, 30.0, 50.0)] * 90
    frames = [Extent("test", 60.0, 30.0, 1500.0)] * 10
    assert unit_problem([*seconds, *frames], 4.0).startswith("times look like frames")
    assert not unit_problem(seconds, 4.0)


@pytest.mark.parametrize(
    "ends",
    [
        [0.9] * 5 + [1.5],  # one wrong duration
        [0.1, 0.05, 0.3, 0.9],  # early actions
        [0.02, 0.02],  # too few videos to tell
        [1.3, 1.2, 1.25, 0.9],  # no unit, but most segments do not fit
    ],
)
def test_seconds_stay_seconds(ends: list[float]) -> None:
    problem = unit_problem([Extent("training", 60.0, 30.0, 60 * end) for end in ends], 4.0)
    assert problem.startswith("times are not seconds") == (ends[0] > 1)


@pytest.mark.parametrize(
    ("durations", "ends", "severity"),
    [
        ((600.0, 900.0), (20.0, 60.0), "warning"),  # looks like percent of the video
        ((2000.0, 3600.0), (20.0, 32.0), "warning"),  # looks like minutes
        ((7200.0, 7200.0), (100.0, 200.0), "warning"),  # looks like durations in frames
        ((60.0, 180.0), (0.4, 1.0), "error"),  # a fraction of the video
        ((60.0, 110.0), (0.7, 1.0), "error"),  # minutes, or a fraction
        ((60.0, 180.0), (900.0, 1500.0), "error"),  # frames
    ],
)
def test_early_actions_of_long_videos_are_not_refused(
    durations: tuple[float, float], ends: tuple[float, float], severity: str
) -> None:
    random = np.random.default_rng(0)
    videos = [
        Extent("training", float(random.uniform(*durations)), 25.0, float(random.uniform(*ends)))
        for _ in range(20)
    ]
    finding = unit_finding(Path("a.json"), videos, 4.0)
    assert finding is not None
    assert finding.severity == severity


def test_an_error_in_one_subset_wins_over_a_warning() -> None:
    early = [Extent("training", 2700.0, 25.0, 30.0 + n % 10) for n in range(60)]
    frames = [Extent("test", 60.0, 25.0, 1400.0)] * 4
    finding = unit_finding(Path("a.json"), [*early, *frames], 4.0)
    assert finding is not None
    assert finding.severity == "error"


def test_a_dataset_of_early_actions_can_be_used(folder: Path) -> None:
    videos = database()
    for number, video in enumerate(videos.values()):
        video["duration"] = 600.0
        video["fps"] = 1.0
        video["annotations"] = [{"segment": [5.0, 20.0 + 3 * number], "label": "run"}]
    for command, (code, text) in answers(dataset(folder, videos)).items():
        assert code == 0, (command, text)
        assert "times look like percent of the video" in " ".join(text.split()), command
        assert "dropped or clipped" not in text


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    entry = '{"subset": "training", "duration": 9, "fps": 8, "annotations": [], "duration": 8}'
    file.write_text(f'{{"database": {{"v": {entry}}}}}')
    with pytest.raises(Exception, match="key 'duration' is repeated"):
        scan_annotations(file)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("run", " run"),
        ("run", "Run"),
        ("long run", "longrun"),
        ("é", "e\u0301"),
        ("run", "run\u200b"),
        ("run", "\u202erun"),
        ("run", "run\ufe0f"),
        ("a b", "a\u00a0b"),
        ("a\nb", "a b"),
        ("ﬁne", "fine"),
    ],
)
def test_classes_that_look_alike_are_a_warning(one: str, other: str, folder: Path) -> None:
    videos = database()
    for number, video in enumerate(videos.values()):
        video["annotations"] = [{**item, "label": (one, other)[number % 2]} for item in video["annotations"]]
    code, out, _ = call("data", "check", dataset(folder, videos))
    assert code == 0
    shown = " ".join(out.split())
    assert "similar-classes" in shown
    assert f"{one!a}" in shown or "look alike" in shown


def test_other_classes_do_not_look_alike(tmp_path: Path) -> None:
    names = [
        "run",
        "ran",
        "1",
        "2",
        "की",
        "कि",
        "a",
        "á",
        "走",
        "跑",
        "HighJump",
        "LongJump",
        "jump 1",
        "jump 2",
    ]
    assert check_class_names(tmp_path, names) == []


def test_half_a_character_is_refused(folder: Path) -> None:
    videos = database()
    videos["v00"]["annotations"] = [{"segment": [1, 2], "label": "\ud800"}]
    _, out = refused("data", "check", dataset(folder, videos))
    assert "half a character" in " ".join(out.split())
