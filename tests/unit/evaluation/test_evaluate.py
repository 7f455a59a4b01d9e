"""`tal-bench evaluate`: input formats, several files, and alignment of names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tal_bench.cli import main
from tal_bench.cli.commands.evaluate import column_names
from tal_bench.errors import DataError, InputError
from tal_bench.evaluation.evaluate import evaluate
from tal_bench.evaluation.files import read_detections, read_video_names
from tal_bench.evaluation.mean_ap import format_threshold

RUNS = [([0, 10], "run"), ([20, 30], "run"), ([40, 50], "swim")]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    annotations = [{"segment": segment, "label": label} for segment, label in RUNS]
    database = {
        "a1": {"subset": "Test", "annotations": annotations},
        "b2": {"subset": "test", "annotations": annotations},
        "c3": {"subset": "training", "annotations": annotations},
    }
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({"database": database}))
    return file


def results(*videos: str, shift: float = 0.0, labels: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the ground truth of all videos as detections, shifted by some seconds."""
    named = labels or {}
    return {
        video: [
            {"segment": [s + shift, e + shift], "label": named.get(label, label), "score": 0.5}
            for (s, e), label in RUNS
        ]
        for video in videos
    }


def save(file: Path, found: dict[str, Any], key: str = "results") -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"version": "1.3", key: found, "external_data": {}}))
    return file


def evaluated(capsys: pytest.CaptureFixture[str], truth: Path, *words: object) -> Any:
    code = main(["evaluate", "--ground-truth", str(truth), "--json", *map(str, words)])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def test_results_of_several_files_equal_those_of_single_files(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save(tmp_path / "good.json", results("a1", "b2"))
    poor = save(tmp_path / "poor.json", results("a1", shift=4))
    alone = {
        name: evaluated(capsys, truth, "--detections", file)
        for name, file in (("good", good), ("poor", poor))
    }
    assert alone["good"]["average_map"] == 1.0
    assert alone["poor"]["average_map"] < 0.5
    assert evaluated(capsys, truth, "--detections", good, "--detections", poor) == alone
    assert evaluated(capsys, truth, "--detections", good, poor) == alone


def test_one_column_per_file(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = save(tmp_path / "one" / "result_detection.json", results("a1", "b2"))
    two = save(tmp_path / "two" / "result_detection.json", results("a1"))
    words = ["evaluate", "--ground-truth", str(truth), "--detections", str(one), str(two)]
    assert main([*words, "--tiou", "0.5", "--per-class"]) == 0
    rows = {row[0]: row[1:] for line in capsys.readouterr().out.splitlines() if (row := line.split())}
    assert rows["mAP"] == ["in", "percent", "one/result_detection", "two/result_detection"]
    assert rows["run"] == rows["swim"] == rows["average"] == ["100.00", "50.00"]
    assert rows["detections"] == ["6", "3"]
    assert main([*words, "--tiou", "0.5"]) == 0
    assert "swim" not in capsys.readouterr().out


def test_classes_are_shown_on_request(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--ground-truth", str(truth), "--detections", str(tmp_path / "d.json")]
    save(tmp_path / "d.json", results("a1"))
    assert main(words) == 0
    assert "swim" not in capsys.readouterr().out
    assert main([*words, "--per-class"]) == 0
    assert "swim" in capsys.readouterr().out


def test_both_ap_methods(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A detection with a tIoU of exactly 0.5 is a true positive in only one of the AP methods."""
    half = {"a1": [{"segment": [0, 5], "label": "run", "score": 1}]}
    found = save(tmp_path / "d.json", half)
    value = {
        name: evaluated(capsys, truth, "--detections", found, "--tiou", "0.5", "--ap-method", name)
        for name in ("activitynet", "thumos")
    }
    assert [value[name]["ap_method"] for name in value] == list(value)
    assert value["activitynet"]["per_class"]["run"]["0.50"] == 0.25
    assert value["thumos"]["map"] == {"0.50": 0.0}


def test_labels_are_printed_verbatim(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth.write_text(truth.read_text().replace("swim", "[red]\\u001b[2J"))
    save(tmp_path / "d.json", results("a1"))
    words = ["evaluate", "--ground-truth", str(truth), "--detections", str(tmp_path / "d.json")]
    assert main([*words, "--per-class"]) == 0
    assert "[red]�[2J" in capsys.readouterr().out


def test_column_names_are_distinct() -> None:
    assert column_names([Path("x/a.json"), Path("y/b.csv")]) == ["a", "b"]
    assert column_names([Path("x/a.json"), Path("x/a.csv")]) == ["a.json", "a.csv"]
    assert column_names([Path("x/1/a.json"), Path("y/1/a.json"), Path("b.json")])[:2] == ["x/1/a", "y/1/a"]
    with pytest.raises(InputError, match="given twice"):
        column_names([Path("a.json"), Path("x/../a.json")])


def test_excluded_videos_are_ignored(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = save(tmp_path / "d.json", results("a1"))
    blocked = tmp_path / "blocked.json"
    blocked.write_text('["b2", "of another subset"]')
    assert evaluated(capsys, truth, "--detections", found)["average_map"] == 0.5
    for word in ("b2", blocked):
        value = evaluated(capsys, truth, "--detections", found, "--exclude", word)
        assert (value["average_map"], value["videos"], value["ground_truths"]) == (1.0, 1, 3)
    assert evaluated(capsys, truth, "--detections", found, "--exclude", "a1")["detections"] == 0
    assert (
        main(["evaluate", "--ground-truth", str(truth), "--detections", str(found), "--exclude", "zz"]) == 2
    )
    assert "--exclude zz: no such video" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["v_{}", "{}.mp4", "v_{}.MKV"])
def test_video_names_are_aligned(
    name: str, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = save(tmp_path / "d.json", results(name.format("a1"), name.format("b2")))
    assert evaluated(capsys, truth, "--detections", found)["average_map"] == 1.0


def test_detections_of_another_subset_are_reported(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = save(tmp_path / "d.json", results("c3"))
    assert main(["evaluate", "--ground-truth", str(truth), "--detections", str(found)]) == 2
    line = capsys.readouterr().err
    assert "no detection is in a video of the ground truth, the first is in 'c3'" in line
    assert "see --subset" in line


def test_ignored_detections_are_reported(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = save(tmp_path / "d.json", results("a1", "c3", labels={"swim": "fly"}))
    assert main(["evaluate", "--ground-truth", str(truth), "--detections", str(found)]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert [note.rpartition(": ")[2] for note in notes] == ["2", "2"]


TABLES = {
    "comma.csv": "video,start,end,label,score\na1,0,10,run,0.5\n",
    "semicolon.csv": "video-id;t-start;t-end;label;score\na1;0;10;run;0.5\n",
    "tab.tsv": "score\tlabel\tt_end\tt_start\tvideoid\n0.5\trun\t10\t0\ta1\n",
    "mark.csv": "\ufeffvideo, start, end, label, score\r\na1, 0, 10, run, 0.5\r\n",
    "index.csv": ",video,start,end,label,score\n0,a1,0,10,run,0.5\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_table_separators(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TABLES[name], encoding="utf-8", newline="")
    assert read_detections(tmp_path / name).to_dict("records") == [
        {"video": "a1", "start": 0.0, "end": 10.0, "label": "run", "score": 0.5}
    ]


def test_names_in_tables_are_kept_as_text(tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    file.write_text("video,start,end,label,score\n007,0,1,NA,1\nNA,0,1,07,1\n")
    assert read_detections(file)[["video", "label"]].to_numpy().tolist() == [["007", "NA"], ["NA", "07"]]


def test_ego4d_and_numeric_labels(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = save(tmp_path / "d.json", results("a1", "b2"), key="detect_results")
    assert evaluated(capsys, truth, "--detections", found)["average_map"] == 1.0
    text = truth.read_text()
    truth.write_text(text.replace('"run"', '"7"').replace('"swim"', '"8"'))
    found = save(tmp_path / "d.json", results("a1", "b2", labels={"run": 7, "swim": 8}))
    assert evaluated(capsys, truth, "--detections", found)["average_map"] == 1.0


def test_read_video_names(tmp_path: Path) -> None:
    file = tmp_path / "names"
    file.write_text("a\n\n b\r\n")
    assert read_video_names(file) == ("a", "b")
    for text in ("", "{}", "[1]", "[]", "["):
        file.write_text(text)
        with pytest.raises(DataError):
            read_video_names(file)


def test_format_threshold() -> None:
    assert [format_threshold(x) for x in (0.5, 0.3 + 0.1, 1.0, 0.125, 0.005)] == [
        "0.50",
        "0.40",
        "1.00",
        "0.125",
        "0.005",
    ]


def test_python_and_command_line_agree(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "found.json", results("a1", "b2", shift=2.0, labels={"swim": "run"}))
    shown = evaluated(capsys, truth, "--detections", file, "--tiou", "0.5,0.6", "--exclude", "b2")
    found = evaluate(truth, str(file), tiou=(0.5, 0.6), exclude=["b2"])
    assert found.as_dict() == {key: shown[key] for key in found.as_dict()}
    assert 0 < found.average < 1
    assert evaluate(truth, file, subset=None).average < evaluate(truth, file).average  # c3 has no detections
    with pytest.raises(InputError, match="no such video in subset 'test'"):
        evaluate(truth, file, exclude=["d4"])
