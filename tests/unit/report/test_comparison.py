"""`tal-bench compare`: studies of one or several datasets and files of detections side by side."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_study import ROWS, write_fake_study
from rich.console import Console

from tal_bench import (
    InputError,
    StudyComparison,
    collect,
    comparable_studies,
    compare,
    evaluate,
    load_study,
    write_comparison,
)
from tal_bench.cli import main
from tal_bench.report.common.report_files import IncompleteReportError
from tal_bench.report.comparison import figures
from tal_bench.report.comparison.documents import latex, markdown
from tal_bench.report.comparison.studies import REQUIREMENTS
from tal_bench.report.comparison.terminal import print_comparison
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import StudyRecord

CHOSEN = tuple(row for row in ROWS if row.name in ("actionformer", "none", "self", "both"))
SMALL = tuple(row for row in ROWS if row.name in ("none", "both"))


def write_study(folder: Path, *, dataset: str = "sprites", videos: int = 20, **options: Any) -> Path:
    """Write a fake study; on another dataset, its data and the names of its videos differ, too."""
    write_fake_study(folder, videos=videos, trials=1, **options)
    if dataset != "sprites":
        change(folder, dataset=dataset, fingerprint=f"{dataset:0<16}")
        for file in (folder / "ground_truth.json", *(folder / "runs").glob("*.detections.json")):
            file.write_text(file.read_text().replace("video_", f"{dataset}_"))
    return folder


def change(folder: Path, **fields: object) -> StudyRecord:
    """Change fields of the record of a study."""
    files = StudyFolder(folder)
    record = files.read_study().model_copy(update=fields)
    files.write_study(record)
    return record


def detections_of(folder: Path, row: str = "both", seed: int = 0) -> Path:
    """Return the file of detections of a final run."""
    files = StudyFolder(folder)
    record = next(found for found in files.read_study().rows if found.name == row)
    return files.run_file(record.finals[seed], ".detections.json")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return two studies of one dataset that share rows, and one of another dataset."""
    folder = tmp_path_factory.mktemp("studies")
    better = tuple(replace(row, jitter=0.7 * row.jitter) for row in SMALL)
    return (
        write_study(folder / "first", name="two-by-two", rows=CHOSEN),
        write_study(folder / "second", name="components", rows=better, seeds=2),
        write_study(folder / "third", name="two-by-two", rows=CHOSEN, dataset="thumos14"),
    )


@pytest.fixture(scope="module")
def comparison(studies: tuple[Path, Path, Path]) -> StudyComparison:
    files = {"opentad": [detections_of(studies[0]), detections_of(studies[2])]}
    return compare(studies, detections=files)


def test_one_study_gives_the_numbers_of_its_report(studies: tuple[Path, Path, Path]) -> None:
    (dataset,) = compare(studies[:1]).datasets
    report = collect(studies[0])
    assert report.comparison is not None and dataset.comparison is not None
    assert dataset.comparison.pairs == report.comparison.pairs
    assert [row.name for row in dataset.rows] == [row.name for row in report.rows]
    assert [row.mean for row in dataset.rows] == [row.mean() for row in report.rows]
    assert [row.difference for row in dataset.rows] == [r.differences.get("none") for r in report.rows]


def test_shared_rows_have_the_name_of_their_study(comparison: StudyComparison) -> None:
    sprites, thumos = comparison.datasets
    assert [row.name for row in sprites.rows] == [
        "actionformer",
        *("two-by-two/none", "self", "two-by-two/both", "components/none", "components/both"),
        "opentad",
    ]
    assert [row.name for row in thumos.rows] == [
        *("actionformer", "two-by-two/none", "self", "two-by-two/both", "opentad")
    ]
    assert set(comparison.ranks) == {"two-by-two/none", "self", "two-by-two/both", "opentad"}


def test_studies_of_one_name_have_the_names_of_their_folders(tmp_path: Path) -> None:
    folders = [write_study(tmp_path / part / "run", rows=SMALL, videos=8, seeds=1) for part in "ab"]
    assert [row.name for row in compare(folders).datasets[0].rows] == [
        *("a/run/none", "a/run/both", "b/run/none", "b/run/both")
    ]


def test_rows_of_two_studies_are_paired_by_video(comparison: StudyComparison) -> None:
    """The difference of two studies' rows is that of their means over the seeds that both have."""
    sprites = comparison.datasets[0]
    rows = {row.name: row.row for row in sprites.rows}
    first, second = rows["two-by-two/both"], rows["components/both"]
    assert first is not None and second is not None and sprites.comparison is not None
    expected = sum(first.values("map_avg")[:2]) / 2 - sum(second.values("map_avg")) / 2
    found = sprites.comparison.pairs["two-by-two/both", "components/both"].single
    assert 100 * found.estimate == pytest.approx(expected)
    assert found.seeds == 2


def test_a_file_of_detections_is_scored_as_evaluate_does(
    comparison: StudyComparison, studies: tuple[Path, Path, Path]
) -> None:
    for dataset, study in zip(comparison.datasets, (studies[0], studies[2]), strict=True):
        row = dataset.rows[-1]
        score = evaluate(study / "ground_truth.json", detections_of(study), tiou=dataset.report.record.tiou)
        assert row.kind == "detections" and row.mean == pytest.approx(100 * score.average)
        means = {r.name: r.mean for r in dataset.rows}
        none = means["two-by-two/none"]
        assert row.mean is not None and none is not None and row.difference is not None
        assert row.difference.estimate == pytest.approx(row.mean - none), "the difference of the means"
        assert row.difference.low < row.difference.estimate < row.difference.high


@pytest.mark.parametrize("ap_method", ["activitynet", "thumos"])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_file_is_sampled_as_the_run_that_wrote_it(ap_method: str, grouped: bool, tmp_path: Path) -> None:
    folder = write_study(tmp_path, rows=SMALL, videos=8, seeds=2)
    change(folder, ap_method=ap_method, tiou=(0.4, 0.6))
    if grouped:
        edit(folder, lambda entry: entry.update(group=entry["annotations"][0]["label"]))
    (dataset,) = compare([folder], detections={"mine": detections_of(folder, seed=1)}).datasets
    own, mine = (row.sample for row in dataset.rows if row.name in ("both", "mine"))
    assert own is not None and mine is not None
    assert mine.groups == own.groups and mine.videos == own.videos
    assert mine.average.tolist() == [own.average[1]] * 2
    assert mine.bootstrap.tolist() == [own.bootstrap[1].tolist()] * 2


def test_names_and_labels_of_a_file_are_aligned(studies: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Another program writes `label_id`, adds suffixes to names, and has a video and a class of its own."""
    content = json.loads(detections_of(studies[0]).read_text())["results"]
    ids = {"circle": 0, "square": 1, "triangle": 2}
    lines = [
        (f"{video}.mp4", *d["segment"], ids[d["label"]], d["score"])
        for video, found in content.items()
        for d in found
    ]
    lines += [("other.mp4", 1.0, 2.0, 0, 0.001), ("video_0.mp4", 1.0, 2.0, 7, 0.9)]
    file = tmp_path / "mine.csv"
    columns = ["video", "start", "end", "label", "score"]
    pd.DataFrame(lines, columns=columns).to_csv(file, index=False)
    found = compare(studies[:1], detections={"plain": detections_of(studies[0]), "mine": file})
    (dataset,) = found.datasets
    plain, mine = dataset.rows[-2:]
    assert mine.mean == pytest.approx(plain.mean, abs=0.1)
    text = markdown(found)
    assert "`mine` on sprites: 1 detections in videos that are not test videos, counted as wrong." in text
    assert "`mine` on sprites: 1 detections whose label is not in the ground truth, ignored." in text
    assert "`plain`, `mine` are files of detections of one training" in text


def test_chosen_rows_are_shown_and_compared(studies: tuple[Path, Path, Path]) -> None:
    (dataset,) = compare(studies[:1], rows=["actionformer", "both"]).datasets
    assert [row.name for row in dataset.rows] == ["actionformer", "both"]
    assert dataset.comparison is not None
    assert list(dataset.comparison.pairs) == [("actionformer", "both")]


def test_rows_with_a_common_letter_cannot_be_told_apart(comparison: StudyComparison) -> None:
    for dataset in comparison.datasets:
        assert dataset.comparison is not None
        for (a, b), pair in dataset.comparison.pairs.items():
            shared = set(dataset.letters[a]) & set(dataset.letters[b])
            assert not (shared and pair.simultaneous.excludes_zero)
        assert len({*map(len, dataset.letters.values())}) > 1, "the fake rows overlap"


def test_wins_are_simultaneous_intervals_above_zero(comparison: StudyComparison) -> None:
    wins, pairs = comparison.wins().set_index(["row", "against"]), comparison.pairs()
    for (a, b), found in pairs.groupby(["row", "against"]):
        assert wins.loc[(a, b), "wins"] == wins.loc[(b, a), "losses"] == (found["simultaneous_low"] > 0).sum()
        assert (
            wins.loc[(b, a), "wins"] == wins.loc[(a, b), "losses"] == (found["simultaneous_high"] < 0).sum()
        )
        assert wins.loc[(a, b)].sum() == len(found)
    assert wins["wins"].sum() == pairs["clear"].sum() > 0


PRINTS = ("0" * 16, "f" * 16)
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "data": (
        lambda folder: change(folder, fingerprint="0" * 16),
        "other features or annotations, fingerprint {} here and fingerprint {} there".format(*PRINTS),
    ),
    "AP method": (
        lambda folder: change(folder, ap_method="thumos"),
        "another AP method, thumos here and activitynet there",
    ),
    "tIoU": (
        lambda folder: change(folder, tiou=(0.5, 0.75)),
        "other tIoU thresholds, 0.5, 0.75 here and 0.3, ",
    ),
    "same data, other name": (
        lambda folder: change(folder, dataset="renamed", tiou=(0.5,)),
        r"on sprites: other tIoU thresholds",
    ),
    "annotations": (
        lambda folder: edit(folder, lambda entry: entry["annotations"].pop()),
        "other annotations of the test videos, 0 segments of its own here and 8 segments of its own there",
    ),
    "groups": (
        lambda folder: edit(folder, lambda entry: entry.update(group=entry["annotations"][0]["label"])),
        "other groups of test videos, 3 groups here and 0 groups there",
    ),
}


def test_every_requirement_has_a_case() -> None:
    messages = [message for _, message in CHANGES.values()] + ["other test videos"]
    assert not [r.violated for r in REQUIREMENTS if not any(r.violated in message for message in messages)]


def edit(folder: Path, change_video: Callable[[dict[str, Any]], object]) -> None:
    """Change every video of the ground truth of a study."""
    file = folder / "ground_truth.json"
    content = json.loads(file.read_text())
    for entry in content["database"].values():
        change_video(entry)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", CHANGES)
def test_what_does_not_compare_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        write_study(tmp_path / name, rows=SMALL, videos=8, seeds=1)
    make, message = CHANGES[kind]
    make(tmp_path / "b")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'b'}: not comparable with {tmp_path / 'a'} on sprites: ")
    assert message in line


def test_other_test_videos_are_refused(tmp_path: Path) -> None:
    folders = [write_study(tmp_path / str(n), rows=SMALL, videos=n, seeds=1) for n in (8, 9)]
    expected = r"other test videos, 9 videos \(1 of its own\) here and 8 videos \(0 of its own\) there"
    with pytest.raises(InputError, match=expected):
        compare(folders)


def test_own_studies_that_do_not_compare_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reports = Path("reports")
    options: dict[str, dict[str, Any]] = {
        "single": {"videos": 1},
        "fewer": {"videos": 8},
        "hapt": {"videos": 6, "dataset": "hapt"},
        "smoke": {"videos": 9, "budget": "smoke"},
        "main": {"videos": 9},
    }
    assert comparable_studies().folders == ()
    for day, (name, option) in enumerate(options.items(), 1):
        write_study(reports / name, name=name, rows=SMALL, seeds=1, day=day, **option)
        (reports / name / "summary.json").write_text("{}")
    found = comparable_studies()
    assert found.folders == (reports / "main", reports / "hapt")
    assert {folder.name: why for folder, why in found.left_out.items()} == {
        "smoke": "budget smoke is a functional test",
        "fewer": "not comparable with reports/main on sprites: other test videos, "
        "8 videos (0 of its own) here and 9 videos (1 of its own) there",
        "single": "only one test video: no interval can be computed",
    }
    assert len(compare(found.folders).datasets) == 2


def test_other_datasets_may_differ_in_everything(studies: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = write_study(tmp_path, rows=SMALL, videos=9, dataset="anet")
    change(other, ap_method="thumos", tiou=(0.5, 0.75))
    found = compare([studies[0], other])
    assert [dataset.name for dataset in found.datasets] == ["sprites", "anet"]
    assert set(found.ranks) == {"none", "both"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{first}", "{first}"], "{first}: given twice"),
        (["{first}/runs"], "{first}/runs: no study.json there"),
        (["{first}", "--row", "nobody"], "row nobody: no such row (known: actionformer, none, self, both)"),
        (["{first}", "--detections", "x.json"], "--detections: got 'x.json' (write NAME=FILE"),
        (["{first}", "--detections", "a={missing}"], "{missing}: no such file"),
        (["{first}", "--detections", "both={file}"], "detections both: is the name of a row of a study"),
        (
            ["{first}", "--detections", "a={other}"],
            "{other}: has no test video of sprites, its first video is",
        ),
        (
            ["{first}", "--detections", "a={empty}"],
            "{empty}: has no test video of sprites, it has no detections",
        ),
        (
            ["{first}", "--detections", "a={file}", "--detections", "a={file}"],
            "detections a: {file} and {file}",
        ),
        (["{first}", "--out", "{first}"], "{first}: is the folder of a study (give a folder of its own"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    studies: tuple[Path, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.json").write_text('{"results": {}}')
    places = {
        "first": studies[0],
        "file": detections_of(studies[0]),
        "other": detections_of(studies[2]),
        "missing": tmp_path / "missing.json",
        "empty": tmp_path / "empty.json",
    }
    assert main(["compare", *(word.format(**places) for word in arguments)]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {message.format(**places)}")


def test_a_file_that_fits_two_datasets_is_refused(tmp_path: Path) -> None:
    folders = [write_study(tmp_path / name, rows=SMALL, videos=8, seeds=1) for name in "ab"]
    change(folders[1], dataset="other", fingerprint="0" * 16)
    with pytest.raises(InputError, match=r"has test videos of sprites, other \(compare these"):
        compare(folders, detections={"mine": detections_of(folders[0])})


def test_one_test_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only one test video: no interval can be computed"):
        compare([write_study(tmp_path, rows=SMALL, videos=1, seeds=1)])


def test_studies_without_results_are_shown(tmp_path: Path) -> None:
    folder = write_study(tmp_path, rows=SMALL, videos=8, seeds=1)
    for file in (folder / "runs").iterdir():
        file.unlink()
    found = compare([folder])
    assert found.ranks == {} and found.pairs().empty and found.datasets[0].letters == {}
    assert len(found.table()) == 2
    assert "`none` has 0 of 1 seeds" in markdown(found)
    assert {file.name for file in write_comparison(found, tmp_path / "out")} >= {"table.md", "page.html"}


def test_tables_hold_the_numbers(comparison: StudyComparison, studies: tuple[Path, Path, Path]) -> None:
    table = comparison.table().set_index(["dataset", "row"])
    assert table.index.is_unique and len(table) == 12
    study = load_study(studies[2]).table()
    assert table.loc[("thumos14", "self"), "map_avg_mean"] == study.loc["self", "map_avg_mean"]
    assert table.loc[("thumos14", "self"), "minute"] == study.loc["self", "minute"]
    assert table.loc[("sprites", "opentad"), "seeds"] == 1
    assert table["compared"].sum() == 10
    ranks = comparison.mean_ranks()
    assert list(ranks.columns) == ["row", "mean_rank", "low", "high", "rank_sprites", "rank_thumos14"]
    assert ranks["mean_rank"].is_monotonic_increasing


def test_files_of_a_comparison(
    comparison: StudyComparison, studies: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    written = {file.relative_to(tmp_path).as_posix() for file in write_comparison(comparison, tmp_path)}
    assert written == {
        *("table.md", "table.tex", "table.csv", "pairs.csv", "ranks.csv", "outcomes.csv", "summary.json"),
        *("page.html", "figures/accuracy.png", "figures/accuracy.svg", "figures/ranks.png"),
        "figures/ranks.svg",
    }
    read = pd.read_csv(io.StringIO((tmp_path / "pairs.csv").read_text()))
    pd.testing.assert_frame_equal(read, comparison.pairs())
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(comparison.table())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["rows"]) == 12 and len(summary["pairs"]) == len(read)
    assert summary["ranks"][0]["row"] == next(iter(comparison.ranks))
    text = (tmp_path / "page.html").read_text()
    assert text.count("<figure>") == text.count("<svg viewBox") == 2 and text.count("<h2") == 7
    assert "http://" not in text and "https://" not in text
    for name in comparison.kinds:
        assert f">{name}<" in text
    first = {file: (tmp_path / file).read_bytes() for file in written}
    again = compare(studies, detections={"opentad": [detections_of(studies[k]) for k in (0, 2)]})
    write_comparison(again, tmp_path)
    assert {file: (tmp_path / file).read_bytes() for file in written} == first, "equal results, equal files"


def test_a_figure_that_fails_costs_a_line(
    comparison: StudyComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no paper")

    broken = replace(figures.FIGURES[0], make=fail)
    monkeypatch.setattr("tal_bench.report.comparison.write.FIGURES", [broken, figures.FIGURES[1]])
    with pytest.raises(IncompleteReportError, match=r"figures/accuracy \(RuntimeError: no paper\)"):
        write_comparison(comparison, tmp_path)
    assert (tmp_path / "table.csv").is_file() and (tmp_path / "page.html").is_file()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_latex_compiles(comparison: StudyComparison, tmp_path: Path) -> None:
    text = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n%s\n\\end{document}\n"
    (tmp_path / "a.tex").write_text(text % latex(comparison), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


@pytest.mark.parametrize("document", [markdown, latex])
def test_documents_have_every_table(comparison: StudyComparison, document: Callable[[Any], str]) -> None:
    text = document(comparison)
    lines = [line for line in text.splitlines() if line.startswith("| ") or line.endswith(r" \\")]
    if document is markdown:
        blocks = [block for block in text.split("\n\n") if block.startswith("| ")]
        assert len(blocks) == 6
        for block in blocks:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    else:
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 6
    assert sum("two-by-two/both" in line for line in lines) >= 6


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_terminal_is_not_exceeded(comparison: StudyComparison, width: int) -> None:
    console = Console(width=width, file=io.StringIO(), markup=False, highlight=False)
    print_comparison(comparison, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    for name in comparison.kinds:
        assert name in text
    assert "mean rank over" not in text and "best mean rank" in " ".join(text.split())


def test_notes_say_what_intervals_leave_out(comparison: StudyComparison) -> None:
    text = markdown(comparison)
    assert "`opentad` is a file of detections of one training. Intervals include the variance" in text
    assert "Rows have different numbers of seeds" in text
    assert "Without a mean rank, since not on every dataset: `components/none`, `components/both`." in text


def test_costs_of_different_devices_are_noted(tmp_path: Path) -> None:
    folders = [write_study(tmp_path / name, rows=SMALL, videos=8, seeds=1) for name in "ab"]
    assert "do not compare" not in markdown(compare(folders))
    for file in (folders[1] / "costs").iterdir():
        file.write_text(file.read_text().replace("Fake CPU", "Fake GPU"))
    expected = "sprites: latencies, memory and seconds do not compare, measured on Fake CPU, 1 thread, fp32; "
    assert expected in markdown(compare(folders))


def test_the_command_prints_and_writes(
    studies: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(studies[0]), "--detections", f"opentad={detections_of(studies[0])}"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "Files of detections" in printed and "12 files in " in printed
    assert main([*words, "--json", "--row", "opentad", "--row", "both"]) == 0
    assert [line["row"] for line in json.loads(capsys.readouterr().out)["rows"]] == ["both", "opentad"]


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    worse = tuple(replace(row, jitter=1.3 * row.jitter) for row in CHOSEN)
    studies = [
        write_study(tmp_path / "a", name="two-by-two", rows=CHOSEN, videos=40, seeds=5),
        write_study(tmp_path / "b", name="two-by-two", rows=worse, videos=30, seeds=5, dataset="thumos14"),
    ]
    files = [detections_of(study, "actionformer", seed) for study, seed in zip(studies, (2, 0), strict=True)]
    console = Console(width=100, file=io.StringIO(), markup=False, highlight=False)
    print_comparison(compare(studies, detections={"opentad": files}), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    page = (Path(__file__).parents[3] / "docs" / "compare.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)
    assert text.startswith(example)
