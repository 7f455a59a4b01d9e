"""`tal-bench publish` and `tal-bench leaderboard`: JSON files of results, their checks, and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_study import ENVIRONMENT, ROWS, write_fake_study

from tal_bench import InputError, PublishedResult, collect, publish
from tal_bench.cli import main
from tal_bench.report.leaderboard.page import leaderboard_page
from tal_bench.report.leaderboard.publish import published_rows
from tal_bench.report.leaderboard.result import literature, read_result, read_results, result_text
from tal_bench.results.folder import StudyFolder

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "reports" / "published"
SMALL = tuple(row for row in ROWS if row.name in ("actionformer", "none", "both"))
REPORTED = {"source": "README of mine", "url": "https://example.org/mine"}
RESULT: dict[str, Any] = {
    "name": "mine",
    "dataset": "thumos14",
    "modalities": "rgb",
    "map": {"map_0.50": 61.0, "map_avg": 54.3},
    "reported": REPORTED,
}


def write_small(folder: Path, **options: Any) -> Path:
    """Write a fake study of three rows."""
    write_fake_study(folder, **{"rows": SMALL, "trials": 1, "seeds": 2, "videos": 4} | options)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folder of a study and the folder to which it was published."""
    folder = tmp_path_factory.mktemp("studies")
    publish(write_small(folder / "mine-sprites"), folder / "published")
    return folder / "mine-sprites", folder / "published"


def test_published_numbers_are_those_of_the_report(published: tuple[Path, Path]) -> None:
    study, out = published
    data = collect(study)
    results = {result.name: result for result in read_results([out])}
    assert set(results) == {row.name for row in data.rows}
    for row in data.rows:
        found = results[row.name]
        assert found.map == {m: row.mean(m) for m in (*data.metrics, "map_avg")}
        assert found.map_sd["map_avg"] == row.sd()
        assert found.per_class == row.per_class
        assert found.costs["minute"] == row.minute and found.costs["params"] == row.cost.params
        assert found.settings == row.record.settings and found.seeds == row.record.seeds
        assert found.interval is not None and found.measured is not None
        assert found.interval.estimate == pytest.approx(row.mean())
        for base, difference in row.differences.items():
            own = found.differences[base]
            assert (own.estimate, own.low, own.high) == (
                difference.estimate,
                difference.low,
                difference.high,
            )
        assert found.measured.command == data.record.command
        assert found.measured.commit == ENVIRONMENT["commit"]
        assert found.measured.fingerprint == data.record.fingerprint
        assert found.measured.environment["torch"] == ENVIRONMENT["torch"]


def test_the_report_is_published_without_runs(published: tuple[Path, Path]) -> None:
    folder = published[1] / "mine-sprites"
    for name in ("page.html", "table.md", "table.csv", "summary.json", "figures/seeds.png"):
        assert (folder / name).read_bytes() == (published[0] / name).read_bytes()
    assert not (folder / "study.json").exists() and not (folder / "runs").exists()


def test_a_second_publication_replaces_the_first(published: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "mine-sprites"
    (target / "results").mkdir(parents=True)
    (target / "results" / "gone.json").write_text(result_text(literature()[0]))
    (target / "notes.md").write_text("kept")
    publish(published[0], tmp_path)
    assert {file.stem for file in (target / "results").iterdir()} == {row.name for row in SMALL}
    assert (target / "notes.md").is_file()


def change_runs(folder: Path, **environment: str) -> None:
    """Change the environment of the runs of the row `none`."""
    files = StudyFolder(folder)
    (row,) = (row for row in files.read_study().rows if row.name == "none")
    for hash_ in row.finals:
        result = files.read_run(hash_)
        assert result is not None
        files.write_run(result.model_copy(update={"environment": result.environment | environment}))


def change_study(folder: Path, **fields: object) -> None:
    files = StudyFolder(folder)
    files.write_study(files.read_study().model_copy(update=fields))


def remove(folder: Path, pattern: str) -> None:
    for file in folder.glob(pattern):
        file.unlink()


def set_budget(folder: Path, budget: str) -> None:
    spec = StudyFolder(folder).read_study().spec
    change_study(folder, spec=spec.model_copy(update={"budget": budget}))


PROBLEMS: dict[str, tuple[dict[str, Any], Callable[[Path], object] | None, str]] = {
    "unfinished": ({"finished": False}, None, "the study has not ended"),
    "failed": ({"failing": ("both",)}, None, "both, seed 1 failed: loss is not finite at step 17"),
    "missing": ({"failing": ("both",)}, None, "both has 1 of 2 seeds"),
    "costs": ({"costs": False}, None, "costs of none were not measured"),
    "changes": ({}, lambda f: change_runs(f, commit="0123abc+"), "commit 0123abc had local changes"),
    "no commit": ({}, lambda f: change_runs(f, commit="unknown"), "the commit of runs is 'unknown'"),
    "fingerprint": ({}, lambda f: change_study(f, fingerprint=""), "the data have no fingerprint"),
    "rows": ({}, lambda f: change_study(f, rows=()), "it has no rows"),
    "smoke": ({}, lambda f: set_budget(f, "smoke"), "budget smoke is a functional test"),
    "detections": ({}, lambda f: remove(f, "runs/*.detections.json"), "none, seed 0: detections are missing"),
    "ground truth": ({}, lambda f: remove(f, "ground_truth.json"), "no ground_truth.json"),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_study_with_a_problem_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, damage, message = PROBLEMS[kind]
    folder = write_small(tmp_path / "study", **options)
    if damage is not None:
        damage(folder)
    assert main(["publish", str(folder), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {folder}: cannot be published: ")
    assert message in line
    assert not printed.out and not (tmp_path / "out").exists()


def test_runs_of_one_row_with_two_commits_are_refused(tmp_path: Path) -> None:
    folder = write_small(tmp_path)
    files = StudyFolder(folder)
    first = next(run for run in files.runs() if run.spec.phase == "final")
    changed = first.environment | {"commit": "fedcba9"}
    files.write_run(first.model_copy(update={"environment": changed}))
    with pytest.raises(InputError, match="several commits: 0123abc, fedcba9"):
        publish(folder, tmp_path / "out")


def write_result(folder: Path, changes: dict[str, Any], name: str = "mine") -> Path:
    """Write a result with changed keys; a value of None removes the key."""
    content = {key: value for key, value in (RESULT | changes).items() if value is not None}
    file = folder / "results" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalites": "rgb"}, "unknown key 'modalites' (did you mean 'modalities'?)"),
        (
            {"reported": REPORTED | {"adress": ""}},
            "unknown key 'reported.adress'",
        ),
        ({"reported": {"source": "README"}}, "reported.url: Field required"),
        ({"reported": REPORTED | {"url": "example.org"}}, "reported.url: String should match pattern"),
        ({"reported": None}, "give exactly one origin"),
        ({"map": {"map_0.50": 61.0}}, "map: map_avg, the average over tIoU thresholds, is missing"),
        ({"map": {"map_avg": 154.3}}, "map.map_avg: Input should be less than or equal to 100, got 154.3"),
        ({"map": {"map_avg": 54.3, "mAP@0.5": 61.0}}, "String should match pattern"),
        ({"dataset": ""}, "dataset: String should have at least 1 character"),
        ({"interval": {"estimate": 3.0, "low": 4.0, "high": 5.0}}, "not in order"),
    ],
)
def test_a_malformed_result_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_result(tmp_path, changes)
    assert main(["leaderboard", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: ") and message in line
    assert not (tmp_path / "page.html").exists()


def test_what_is_no_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.json").write_text("{")
    write_result(tmp_path, {}, "mine")
    write_result(tmp_path, {}, "again")
    (tmp_path / "empty").mkdir()
    for place, message in {
        tmp_path / "text.json": "not a JSON file",
        tmp_path / "none.json": "no such file",
        tmp_path / "empty": "no results/*.json there (write them with tal-bench publish STUDY_DIR)",
        tmp_path: "the same result as in",
    }.items():
        assert main(["leaderboard", str(place), "--out", str(tmp_path / "page.html")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {place}") and message in line


def test_every_reported_number_has_a_source() -> None:
    results = literature()
    assert len(results) >= 27
    for result in results:
        assert result.reported is not None and result.measured is None
        assert result.origin and result.url.startswith("https://")


def test_the_page_is_complete_and_does_not_depend_on_the_order(published: tuple[Path, Path]) -> None:
    results = [*read_results([published[1]]), *literature()]
    page = leaderboard_page(results)
    assert page == leaderboard_page(results[::-1])
    assert len(page.encode()) < 3_000_000
    assert not re.findall(r'(?:src|action)="|<link|@import|url\(', page), "everything is in the page"
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert (
        policy.startswith("default-src 'none';") and policy.count("'sha256-") == page.count("<script>") == 1
    )
    assert page.count('<tr class="details"><td') == len(results)
    for result in results:
        assert result.name in page and (result.url in page if result.url else True)
    for text in ("measured", "0123abc", "95 % intervals", "square", "lr"):
        assert text in page


def test_names_are_shown_as_text() -> None:
    bad = "<script>alert(1)</script>\" onclick='x'"
    page = leaderboard_page([PublishedResult(**RESULT | {"name": bad, "dataset": bad})])
    assert page.count("<script>") == 1 and "onclick='" not in page


def test_files_of_rows_with_odd_names_are_distinct(tmp_path: Path) -> None:
    names = ("a/b", "a b", "..", "none")
    write_small(tmp_path, rows=tuple(replace(ROWS[4], name=name) for name in names), seeds=1)
    results = published_rows(collect(tmp_path))
    assert [result.name for result in results.values()] == list(names)
    assert all(re.fullmatch(r"[\w-][\w.-]*", file) for file in results), list(results)


def test_the_committed_page_is_current() -> None:
    command = "tal-bench leaderboard --out reports/published/leaderboard.html"
    current = leaderboard_page([*read_results([PUBLISHED]), *literature()])
    assert (PUBLISHED / "leaderboard.html").read_text(encoding="utf-8") == current, f"run {command}"


def test_the_example_of_the_documentation_is_a_result(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    assert len(example.strip().splitlines()) <= 10
    file = tmp_path / "mine.json"
    file.write_text(example, encoding="utf-8")
    result = read_result(file)
    assert main(["leaderboard", str(PUBLISHED), str(file), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f'data-value="{result.name}"' in page and result.url in page
