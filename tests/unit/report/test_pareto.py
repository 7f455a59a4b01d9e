"""Tables and figure of Pareto fronts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fake_study import ROWS, write_fake_study

from tal_bench.report.study.write import write_report
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import SearchRecord
from tal_bench.tracking.dataframe import load_runs

SIZES = ("w16 d0 k1 h8", "w32 d1 k3 h16", "w64 d2 k3 h32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study whose last three rows are the members of a front of four trials, one of which failed."""
    record = write_fake_study(tmp_path, trials=4)
    rows, hidden = record.rows[:-3], record.rows[-3:]
    found = hidden[0].trials
    named = [f"both {size}" for size in SIZES]
    members = tuple(
        row.model_copy(
            update={"name": name, "trials": (), "chosen": hash_, "settings": {"student/width": 16.0 * i}}
        )
        for i, (row, name, hash_) in enumerate(zip(hidden, named, found, strict=False))
    )
    search = SearchRecord(
        **hidden[0].model_dump(exclude={"finals", "seeds", "name"}),
        name="both",
        objective=("map", "params"),
        tried=({"student/width": 16.0}, {}, {}, {}),
        values=((20.0, 1e6), (30.0, 2e6), (35.0, 4e6), ()),
        front=found[:3],
        members=tuple(named),
    )
    spec = record.spec.model_copy(update={"objective": ("map", "params")})
    record = record.model_copy(update={"spec": spec, "rows": (*rows, *members), "searches": (search,)})
    StudyFolder(tmp_path).write_study(record)
    return tmp_path


def test_files_of_a_front(folder: Path) -> None:
    written = {file.name for file in write_report(folder)}
    assert {"pareto.md", "pareto.csv", "pareto.png", "pareto.svg"} <= written
    with (folder / "pareto.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["size"] for line in lines] == list(SIZES)
    assert [float(line["validation_map"]) for line in lines] == [20, 30, 35]
    assert [line["params"] for line in lines] == ["19600000.0"] * 3 or all(line["params"] for line in lines)
    text = (folder / "pareto.md").read_text(encoding="utf-8")
    assert all(f"`{size}`" in text for size in SIZES)
    assert "3 of 4 trials are on the front" in text
    drawn = (folder / "pareto.svg").read_text(encoding="utf-8")
    assert all(drawn.count(f">{size}<") == 2 for size in SIZES), "named on validation and on test"
    assert "members of fronts of map and params" in (folder / "table.md").read_text(encoding="utf-8")


def test_equal_studies_give_equal_files(folder: Path) -> None:
    first, second = ([file.read_bytes() for file in write_report(folder)] for _ in range(2))
    assert first == second


def test_trials_of_a_search_are_loaded(folder: Path) -> None:
    table = load_runs(folder)
    assert sorted(table[table["row"] == "both"]["split"].unique()) == ["validation"]
    assert (table["row"] == "both").sum() == 4


def test_no_files_without_a_front(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=ROWS[:1])
    assert not [file for file in write_report(tmp_path) if file.name.startswith("pareto")]
