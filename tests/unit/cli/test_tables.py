"""Tables keep their words whole in a terminal of 80 columns."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tal_bench.cli import main
from tal_bench.cli.commands.study import _print_plan
from tal_bench.cli.tables import output_console, print_table
from tal_bench.studies.dry_run import PlanSummary, RowSummary

WIDTH = 80


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def assert_whole(output: str, words: str) -> None:
    """Every word is in the output as such, and no line is wider than the terminal."""
    missing = set(words.split()) - set(output.split())
    assert not missing, output
    assert max(map(len, output.splitlines())) <= WIDTH


def printed(
    headings: list[str], rows: list[list[str]], *, text: tuple[int, ...] = (0,), width: int = WIDTH
) -> str:
    stream = io.StringIO()
    print_table(Console(file=stream, width=width), headings, rows, title="title", text_columns=text)
    return stream.getvalue()


def write_detections(folder: Path, names: list[str]) -> list[str]:
    """Write ground truth and detections, and return the arguments that name them."""
    annotations = [{"segment": [0, 10], "label": "run"}, {"segment": [20, 30], "label": "run"}]
    database = {"a": {"subset": "test", "duration": 60, "annotations": annotations}}
    truth = folder / "truth.json"
    truth.write_text(json.dumps({"database": database}))
    for name in names:
        (folder / f"{name}.csv").write_text("video,start,end,label,score\na,0,10,run,0.9\na,20,26,run,0.8\n")
    return [str(truth), *(str(folder / f"{name}.csv") for name in names)]


def test_evaluate_at_ten_thresholds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = write_detections(tmp_path, ["found"])
    assert main(["evaluate", "--ground-truth", truth, "--detections", found, "--tiou", "0.5:0.95:0.05"]) == 0
    output = capsys.readouterr().out
    assert_whole(output, "0.50 0.55 0.60 0.65 0.70 0.75 0.80 0.85 0.90 0.95 average")
    lines = output.splitlines()
    assert sum(line.startswith("mAP in percent") for line in lines) == 2
    values = [value for line in lines if line.startswith("all classes") for value in line.split()[2:]]
    assert len(values) == 11


def test_evaluate_of_many_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"detections_of_model_{k}" for k in range(6)]
    truth, *files = write_detections(tmp_path, names)
    assert main(["evaluate", "--ground-truth", truth, "--detections", *files]) == 0
    assert_whole(capsys.readouterr().out, " ".join(["mAP in percent", *names]))


def test_diagnose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, *files = write_detections(tmp_path, ["conv-dw-hallucinated-ta-small", "other"])
    assert main(["diagnose", *files, "--ground-truth", truth]) == 0
    assert_whole(
        capsys.readouterr().out, "mAP double label localization confusion background all missed other"
    )


def test_profile(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["conv-dw-hallucinated-ta-small", "temporalmaxer-privileged-ta-small"]
    words = "--frames 64 --channels rgb=8,flow=8 --classes 3 --device cpu"
    assert main(["profile", *names, *words.split()]) == 0
    headings = "model params (M) GMACs hallucination backbone neck heads ms at p5 – p95 videos/s, batch MB"
    assert_whole(capsys.readouterr().out, " ".join([headings, *names]))


def test_columns_of_corruptions() -> None:
    names = ["black frame", "motion blur", "overexposure", "occlusion", "packet loss", "gaussian noise"]
    row = ["both without hallucination", "81.0", "70.0", *["12.3"] * len(names)]
    output = printed(["row", "clean", "under", *names], [row])
    assert_whole(output, " ".join([*names, row[0]]))
    assert output.count(row[0]) == 2, "every block names its rows"


def test_findings_of_data_check_keep_paths_and_headings() -> None:
    path = "features/flow/video_with_a_very_long_name_of_its_own_0001.npy"
    row = ["warning", "another length", path, "90 steps where the annotations say 160"]
    output = printed(["", "kind", "where", "what"], [row], text=(0, 1, 2, 3))
    assert_whole(output, "warning kind where what another length annotations")
    assert path in output.split(), "a path is copied as a whole, also if it is wide"


WORDS = st.text("abc日é-_/.*[]`|$é", min_size=1, max_size=14)
NAMES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join) | st.integers(1, 60).map(lambda n: "n" * n)
NUMBERS = st.sampled_from(["0.5", "–", "45.3 ± 0.8", "≈ +0.4 [−1.0, +1.8]", "123456.789", "100"])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], tuple[int, ...]]:
    """Headings, rows and positions of the columns of text."""
    columns = draw(st.integers(1, 9))
    text = (0, *draw(st.sets(st.integers(1, 8), max_size=3)))
    cells = [NAMES if k in text else NUMBERS for k in range(columns)]
    headings = draw(st.lists(NAMES | st.just(""), min_size=columns, max_size=columns))
    rows = draw(st.lists(st.tuples(*cells).map(list), min_size=1, max_size=30))
    return headings, rows, text


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([60, 80, 100, 120]))
def test_words_and_numbers_are_whole_at_any_width(
    table: tuple[list[str], list[list[str]], tuple[int, ...]], width: int
) -> None:
    headings, rows, text = table
    lines = printed(headings, rows, text=text, width=width).splitlines()
    assert max(map(cell_len, lines)) <= width
    found = [f" {line} " for line in lines]
    for row in [headings, *rows]:
        for k, cell in enumerate(row):
            for whole in cell.split() if k in text or row is headings else [cell]:
                assert any(f" {whole} " in line for line in found), (whole, lines)
    every = Counter(word for row in rows for cell in row[1:] for word in cell.split())
    assert not every - Counter(word for line in lines for word in line.split()), "no cell is left out"


def test_only_words_longer_than_the_terminal_are_broken() -> None:
    output = printed(["row", "value"], [["x" * 130, "1.25"], ["y z", "3.50"]], width=60)
    assert [len(line) for line in output.splitlines() if "x" in line] == [60, 60, 10]
    assert "1.25" in output.split() and "y z" in output


def test_names_above_their_numbers() -> None:
    names = [f"a-name-of-sixty-characters-that-cannot-be-broken-{k:011d}" for k in range(2)]
    headings = ["row", *(f"@0.{k}" for k in range(3, 8)), "Avg", "Δ none"]
    row = ["51.5", "46.2", "40.1", "33.3", "25.0", "39.2 ± 0.8", "≈ +0.4 [−1.0, +1.8]"]
    lines = printed(headings, [[name, *row] for name in names]).splitlines()
    assert [lines[2], lines[4]] == names[:1] + names[1:] or lines[3] == names[0]
    assert all(line.split()[:5] == row[:5] for line in lines if line.startswith(" ") and "51.5" in line)


def test_a_wide_console_has_one_block() -> None:
    output = printed(["row", *"abcdefghijkl"], [["x", *["12345678"] * 12]], width=200)
    assert len(output.splitlines()) == 3


def test_control_sequences_and_markup_are_not_interpreted() -> None:
    output = printed(["row", "[red]value"], [["a\x1b[2J\nb", "1"]])
    assert "[red]value" in output
    assert "a�[2J�b" in output


@pytest.mark.parametrize("command", ["list", "list settings", "data list"])
def test_lists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= WIDTH
    assert "…" not in output


def test_doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ("fp32 matrix products, CPU, 16 threads", "18 GFLOP/s", ""),
        ("jupyterlab", "not installed", "only for notebooks: pip install 'tal-bench[notebooks]'"),
    ]
    monkeypatch.setattr("tal_bench.system.doctor.report", lambda: rows)
    assert main(["doctor"]) == 0
    assert_whole(capsys.readouterr().out, " ".join(word for row in rows for word in row))


def test_output_to_a_file_has_whole_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS")
    output_console().print("word " * 200)
    print_table(output_console(), ["row", "value"], [["name " * 60, "1.5"]])
    assert [len(line.split()) for line in capsys.readouterr().out.splitlines()] == [200, 2, 61]


def test_plan_of_a_study(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    names = ["both without hallucination", "n" * 60]
    row = RowSummary(names[0], "student", "conv", ("conv-dw-hallucinated-ta-small", "[b]"), 8, 3, 22, 11)
    plan = PlanSummary("s", "[/]", "reports/s", (row, replace(row, name=names[1])), 44, 22, 1, None)
    _print_plan(plan)
    output = capsys.readouterr().out
    assert set(" ".join(names).split()) <= set(output.split())
    assert {"conv-dw-hallucinated-ta-small,", "[b]", "[/]", "8", "3", "22", "11"} <= set(output.split())
    assert max(map(len, output.splitlines()[:-2])) <= 60
