"""Labels are names: every writer's file is read back to the same AP, and ids are looked up where they fit."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from malformed import call, refused
from shared_faults import fault_files

from tal_bench.data.dataset import Video
from tal_bench.errors import DataError
from tal_bench.evaluation.evaluate import evaluate
from tal_bench.evaluation.files import read_detections, read_ground_truth
from tal_bench.evaluation.label_alignment import Classes, label_meanings
from tal_bench.evaluation.mean_ap import interpolated_ap
from tal_bench.inference.detect import DetectionResult
from tal_bench.inference.detections import detections_json, ground_truth_json
from tal_bench.types import VideoMeta

TIOU = (0.3, 0.5, 0.7)
ODD_NAMES = (
    *("1", "2", "3", "0", "-1", "007", "1.0", "1e5", "NA", "nan", "null", "None", "True", "inf", ""),
    *(" run", "run ", "run", "Run", '"run"', "'", "a,b", "a;b", "a\tb", "a\nb", "a\r\nb", "a\rb", "\n", " "),
    *(
        "$x$",
        "label_id 1",
        "مرحبا",
        "\u202eabc",
        "🏃‍♂️",
        "e\u0301",
        "é",
        "\u200b",
        "#",
        "=1+1",
        "\\",
        "\0",
        "k" * 200,
    ),
)
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
CLASSES = st.lists(st.sampled_from(ODD_NAMES[:-1]).filter(bool) | NAMES, min_size=1, max_size=6, unique=True)


def made(classes: tuple[str, ...], seed: int) -> tuple[list[Video], pd.DataFrame]:
    """Return videos that lack some classes, and detections of various quality, some with equal scores."""
    random = np.random.default_rng(seed)
    videos, rows = [], []
    used = max(1, int(random.integers(len(classes) + 1)))
    for name in ("v_1", "01", "b.mp4", "a"):
        labels = random.integers(0, used, size=3)
        starts = random.uniform(0, 50, size=3).round(3)
        segments = np.stack([starts, starts + 4], axis=1)
        videos.append(
            Video(VideoMeta(name, 60.0, 8.0, 2.0, 4.0), {}, segments.astype(np.float32), labels, segments, 9)
        )
        for start, label in zip(starts.tolist(), labels.tolist(), strict=True):
            guess = int(random.integers(len(classes))) if random.random() < 0.3 else label
            shift = round(float(random.uniform(0, 2)), 3)
            score = float(random.choice([0.1, 0.2, 0.3]))
            rows.append((name, start + shift, start + shift + 4, classes[guess], score))
    return videos, pd.DataFrame(rows, columns=["video", "start", "end", "label", "score"])


@settings(max_examples=60, deadline=None)
@given(CLASSES, st.integers(0, 2**16))
@example(["1", "2", "3"], 0)
@example(["2", "3", "1", "0"], 1)
@example([name for name in ODD_NAMES if name], 2)
def test_every_writer_is_read_back_to_the_same_ap(names: list[str], seed: int) -> None:
    classes = tuple(names)
    videos, table = made(classes, seed)
    ids = [video.meta.id for video in videos]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "truth.json").write_text(json.dumps(ground_truth_json(videos, classes)), encoding="utf-8")
        result = DetectionResult(table, {}, {}, classes)
        (folder / "detect.csv").write_bytes(result.csv().encode())
        (folder / "run.json").write_text(json.dumps(detections_json(table)), encoding="utf-8")
        (folder / "ascii.json").write_text(
            json.dumps(detections_json(table), ensure_ascii=False), encoding="utf-8"
        )
        truth = read_ground_truth(folder / "truth.json")
        expected = interpolated_ap(table, truth, TIOU, videos=ids)
        for file in ("detect.csv", "run.json", "ascii.json"):
            pd.testing.assert_frame_equal(read_detections(folder / file), table)
            if expected.average or table["label"].isin(truth["label"]).any():
                found = evaluate(folder / "truth.json", folder / file, tiou=TIOU)
                np.testing.assert_allclose(found.average, expected.average, rtol=0, atol=1e-12)
                assert found.as_dict() == expected.as_dict()


NUMERIC = Classes.of(["1", "2", "3"], [(0, "1"), (1, "2"), (2, "3")])
WORDS = Classes.of(["run", "jump"], [(0, "run"), (1, "jump")])
ASK = "labels fit as names and as ids"


@pytest.mark.parametrize(
    ("classes", "labels", "meant"),
    [
        (NUMERIC, ["1", "2", "3"], ["1", "2", "3"]),
        (NUMERIC, [1, 2, 3], ["1", "2", "3"]),  # 3 is no id
        (NUMERIC, [0, 1, 2], ["1", "2", "3"]),  # 0 is no name
        (NUMERIC, ["1", "2"], ["1", "2"]),  # text of a program that writes names
        (NUMERIC, [1, 2], ASK),
        (NUMERIC, [0, 1, 3], ASK),
        (NUMERIC, ["0", "1", "2"], ASK),
        (WORDS, ["run", "jump"], ["run", "jump"]),
        (WORDS, [0, 1], ["run", "jump"]),
        (WORDS, ["0", "1"], ["run", "jump"]),
        (WORDS, ["1.0", " 0"], ["jump", "run"]),
        (WORDS, ["run", 1], ASK),
        (WORDS, ["run", "1"], ["run", "1"]),
        (WORDS, ["run ", "jump"], ["run", "jump"]),
        (Classes.of(["é"], []), ["e\u0301"], ["é"]),
        (Classes.of(["run", " run"], []), ["run ", " run"], ["run ", " run"]),
        (Classes.of(["7"], []), [7], ["7"]),
        (Classes.of(["1", "2"], [(1, "1"), (2, "2")]), [1, 2], ["1", "2"]),
    ],
)
def test_meaning_of_labels(classes: Classes, labels: list[Any], meant: list[str] | str) -> None:
    if isinstance(meant, str):
        with pytest.raises(DataError, match=meant) as caught:
            label_meanings(labels, classes, "found.csv")
        assert "--labels names or --labels ids" in str(caught.value)
        return
    assert [label_meanings(labels, classes)[label] for label in labels] == meant


def test_ids_of_two_names_are_refused() -> None:
    twice = Classes.of(["run", "jump"], [(0, "run"), (0, "jump")])
    with pytest.raises(DataError, match="label_id 0 of the ground truth is both 'run' and 'jump'"):
        label_meanings([0], twice)
    assert label_meanings(["run"], twice) == {"run": "run"}


def written(folder: Path, labels: tuple[object, ...]) -> tuple[Path, Path]:
    """Write a ground truth with classes 1, 2, 3 and ids 0, 1, 2, and a table of detections."""
    items = [{"segment": [5 * k, 5 * k + 4], "label": str(k + 1), "label_id": k} for k in range(3)]
    truth, found = folder / "truth.json", folder / "found.csv"
    truth.write_text(json.dumps({"database": {"v": {"subset": "test", "annotations": items}}}))
    rows = [f"v,{5 * k},{5 * k + 4},{label},0.9" for k, label in enumerate(labels)]
    found.write_text("\n".join(["video,start,end,label,score", *rows]))
    return truth, found


def test_the_flag_decides(tmp_path: Path) -> None:
    truth, found = written(tmp_path, (1, 2))
    words = ("evaluate", "--ground-truth", truth, "--detections", found, "--json")
    err, _ = refused(*words)
    assert f"{found}: {ASK}: 1 is the label_id of '2' and is the name of a class, too" in err
    values = {}
    for reading in ("names", "ids"):
        code, out, _ = call(*words, "--labels", reading)
        assert code == 0
        values[reading] = json.loads(out)["average_map"]
    assert values == {"names": pytest.approx(2 / 3), "ids": 0.0}
    assert call("diagnose", found, "--ground-truth", truth, "--labels", "names")[0] == 0
    refused("diagnose", found, "--ground-truth", truth)
    quoted = (
        found.read_text().replace(",1,0.9", ',"1",0.9').replace(",2,0.9", ',"2",0.9').replace("v,", '"v",')
    )
    found.write_text(quoted.replace('"v",', "v,", 0))
    assert json.loads(call(*words)[1])["average_map"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("suffix", ["csv", "json"])
@pytest.mark.parametrize("name", ["", "_space"])
def test_both_formats_agree(name: str, suffix: str) -> None:
    for folder in fault_files("labels"):
        found = evaluate(folder / f"gt{name}.json", folder / f"det{name}.{suffix}", subset="test")
        assert found.average == 1.0
