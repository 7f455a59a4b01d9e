"""Trainings that learned nothing are named in their row and in the notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_study import write_fake_study

from tal_bench.report.study import notes
from tal_bench.report.study.collapse import is_collapsed
from tal_bench.report.study.collect import ReportData, collect
from tal_bench.results.records import EpochRecord, RunResult

HEALTHY = [1.56, 0.917, 0.819, 0.734, 0.663, 0.625, 0.525, 0.529, 0.464, 0.489]
"""Loss on labels of `none` on `sprites` with the small recipe."""
FLAT = [1.255, 0.974, 0.956, 0.941, 0.919, 0.945, 0.876, 0.917, 0.849, 0.917]
"""The same on 256 features of a scale of 30, not standardised, at 20 times the learning rate."""


@pytest.fixture
def study(tmp_path: Path) -> ReportData:
    write_fake_study(tmp_path)
    return collect(tmp_path)


def with_losses(run: RunResult, losses: list[float], score: float = 5.0) -> RunResult:
    history = tuple(EpochRecord(epoch=k + 1, losses={"labels": loss}) for k, loss in enumerate(losses))
    return run.model_copy(update={"history": history, "metrics": {"map_avg": score}})


@pytest.mark.parametrize(
    ("losses", "score", "expected"),
    [
        (HEALTHY, 39.0, False),
        (FLAT, 5.0, True),
        (FLAT, 39.0, False),
        (HEALTHY, 0.2, True),
        (FLAT[:2], 0.0, False),
        ([], 0.0, False),
    ],
)
def test_flat_losses_and_chance_are_a_collapse(
    study: ReportData, losses: list[float], score: float, expected: bool
) -> None:
    run = study.rows[0].results[0]
    assert is_collapsed(with_losses(run, losses, score)) == expected


def test_row_and_notes_say_so(study: ReportData) -> None:
    assert not any(row.collapsed for row in study.rows)
    rows = [
        replace(row, results=(with_losses(row.results[0], FLAT), *row.results[1:]))
        if row.name == "none"
        else row
        for row in study.rows
    ]
    (row,) = (row for row in rows if row.name == "none")
    assert row.label == "none (1 learned nothing)"
    (line,) = [line for line in notes.cautions(replace(study, rows=tuple(rows))) if "learned nothing" in line]
    assert line.startswith("`none` learned nothing in seed 0:")
