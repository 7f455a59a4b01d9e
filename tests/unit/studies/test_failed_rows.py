"""A study says which rows failed and why."""

from __future__ import annotations

from pathlib import Path

from fake_study import ROWS, write_fake_study

from tal_bench.report.study.collect import collect
from tal_bench.results.folder import StudyFolder
from tal_bench.studies.ablate import failed_rows


def test_rows_without_some_of_their_runs_are_named(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path, rows=ROWS, failing=("both",))
    assert failed_rows(collect(tmp_path)) == ["both (seed 2: loss is not finite at step 17)"]
    none = next(row for row in record.rows if row.name == "none")
    StudyFolder(tmp_path).run_file(none.finals[1]).unlink()
    assert "none (seed 1: no result)" in failed_rows(collect(tmp_path))


def test_a_whole_study_has_none(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=ROWS)
    assert failed_rows(collect(tmp_path)) == []
