"""The list of columns has every column of a study, and those of plugins."""

from __future__ import annotations

import re
from pathlib import Path

from fake_study import ROWS, write_fake_study

from tal_bench import COST_COLUMNS, CostColumn, load_study
from tal_bench.cli.reference import columns
from tal_bench.report.study.collect import collect
from tal_bench.report.study.column_list import column_list
from tal_bench.report.study.columns import line


def test_the_list_has_every_column_of_a_study(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=ROWS[:5])
    study = collect(tmp_path)
    rows, costs, runs = ([keys for keys, _, _ in lines] for lines in column_list().values())
    assert not [key for key in line(study, study.rows[0]) if not _is_listed(key, [*rows, *costs])]
    assert not [key for key in load_study(tmp_path).runs.columns if not _is_listed(key, [*runs, *costs])]


def _is_listed(key: str, lines: list[str]) -> bool:
    """Whether a key is in the list: `<...>` stands for anything, `…` for the first key of the line."""
    listed = [k.replace("…", line.split(", ")[0]) for line in lines for k in line.split(", ")]
    return any(re.fullmatch(re.sub(r"<\w+>", ".+", re.escape(k).replace(r"\<", "<")), key) for k in listed)


def test_a_column_from_outside_is_in_the_list() -> None:
    own = CostColumn("energy_j", "Energy", lambda cost: 1.0, "(J)", "min", tables=("costs",))
    COST_COLUMNS.append(own)
    try:
        assert "| `energy_j` | Energy (J) | tables: Energy (J) ↓; MLflow: cost/energy_j |" in columns()
    finally:
        COST_COLUMNS.remove(own)
