"""The list of columns in docs/report.md is that of the declarations.

`python tests/unit/docs/test_columns_doc.py` updates the list.
"""

from __future__ import annotations

import re
from pathlib import Path

from fake_study import ROWS, write_fake_study

from tal_bench import COST_COLUMNS, CostColumn, load_study
from tal_bench.report.study.collect import collect
from tal_bench.report.study.column_list import column_list
from tal_bench.report.study.columns import line

PAGE = Path(__file__).parents[3] / "docs" / "report.md"
BEGIN, END = "<!-- columns:begin -->\n", "<!-- columns:end -->"


def block() -> str:
    """Return the list of columns as Markdown, a table per kind."""
    parts = []
    for title, lines in column_list().items():
        parts += [f"Columns of {title}:", ""]
        parts += ["| column | meaning | also in |", "| --- | --- | --- |"]
        parts += [f"| {_code(keys)} | {meaning} | {_escaped(at)} |" for keys, meaning, at in lines] + [""]
    return "\n".join(parts)


def _code(keys: str) -> str:
    return ", ".join(f"`{key}`" for key in keys.split(", "))


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


def test_the_list_of_columns_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0] == block()


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
        assert "| `energy_j` | Energy (J) | tables: Energy (J) ↓; MLflow: cost/energy_j |" in block()
    finally:
        COST_COLUMNS.remove(own)


if __name__ == "__main__":
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + block() + END + rest.split(END)[1], encoding="utf-8")
