"""Columns and figures that are declared outside the tree appear in every output of a report."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_study import ROWS, write_fake_study
from rich.console import Console

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.plot_style import new_figure
from tal_bench.report.diagnosis.write import FIGURES as DIAGNOSIS_FIGURES
from tal_bench.report.study.collect import ReportData, collect
from tal_bench.report.study.columns import COLUMNS, Column, columns
from tal_bench.report.study.figures import FIGURES, SECTIONS
from tal_bench.report.study.page import page
from tal_bench.report.study.tables import csv as csv_of
from tal_bench.report.study.tables import latex, markdown
from tal_bench.report.study.terminal import print_study
from tal_bench.report.study.write import summary, write_report
from tal_bench.results.columns import COST_COLUMNS, CostColumn
from tal_bench.results.records import TrainingCost

ENERGY = CostColumn(
    "energy_j",
    "Energy",
    lambda cost: 2.0 * cost.latency_ms["median"],
    "(J)",
    "min",
    "joule",
    digits=3,
    tables=("costs",),
    terminal=0,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    folder = tmp_path_factory.mktemp("study")
    write_fake_study(folder, rows=ROWS[3:6], trials=1)
    return collect(folder)


@pytest.fixture
def energy() -> Iterator[CostColumn]:
    COST_COLUMNS.append(ENERGY)
    yield ENERGY
    COST_COLUMNS.remove(ENERGY)


def outputs(study: ReportData) -> dict[str, str]:
    console = Console(file=io.StringIO(), width=110, record=True)
    print_study(study, console)
    return {
        "terminal": console.export_text(),
        "markdown": markdown(study),
        "latex": latex(study),
        "csv": csv_of(study),
        "page": page(study, {}),
        "summary": json.dumps(summary(study)),
    }


def test_the_cost_of_training_is_shown_for_the_rows_that_have_one(study: ReportData) -> None:
    assert "Dropped parameters" not in markdown(study)
    cost = TrainingCost(
        key="t", step_ms={"median": 812.4, "iqr": 3.0}, peak_memory_mb=1530.0, dropped_params=262_144,
        batch_size=2, frames=2304, threads=1, device="Fake CPU", precision="fp32",
    )  # fmt: skip
    rows = tuple(replace(row, training=cost if row.name == "none" else None) for row in study.rows)
    found = markdown(replace(study, rows=rows))
    head = "| Row | Teachers | Step, median (ms) | Peak memory (MB) | Dropped parameters (k) | Whole training"
    assert head in found
    assert found.count(" 812 | 1530 | 262.1 | 2 |\n") == 1
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(csv_of(replace(study, rows=rows))))}
    assert lines["none"]["train_step_ms"] == "812.4"
    assert {name for name, line in lines.items() if line["dropped_params"]} == {"none"}


def test_a_column_from_outside_is_in_every_output(study: ReportData, energy: CostColumn) -> None:
    found = outputs(study)
    header, *lines = found["terminal"].splitlines()[1:]
    assert header.split()[-1] == "joule"
    assert next(line for line in lines if line.startswith("none ")).split()[-1] == "190.000"
    assert "| Total with" not in found["markdown"], "the column is the last one"
    assert "| Total (s/min) ↓ | Energy (J) ↓ |\n" in found["markdown"]
    assert found["markdown"].count("| 190.000 |\n") == 2
    assert r"\shortstack[r]{Energy\\{}(J) $\downarrow$} \\" in found["latex"]
    assert found["latex"].count(r"& 190.000 \\") == 2
    assert [line["energy_j"] for line in csv.DictReader(io.StringIO(found["csv"]))] == [
        "150.0",
        "190.0",
        "190.0",
    ]
    assert "<th>Energy (J) ↓</th>" in found["page"]
    assert found["page"].count('<span class="number">190.000</span>') == 2
    assert [row["energy_j"] for row in json.loads(found["summary"])["rows"]] == [150.0, 190.0, 190.0]


def test_it_is_gone_after_its_removal(study: ReportData) -> None:
    assert not [name for name, text in outputs(study).items() if "nergy" in text or "joule" in text]


def test_the_best_of_a_column_is_marked(study: ReportData, energy: CostColumn) -> None:
    slow = study.rows[-1]
    assert slow.cost is not None
    cost = slow.cost.model_copy(update={"latency_ms": {"median": 200.0}})
    found = outputs(replace(study, rows=(*study.rows[:-1], replace(slow, cost=cost))))
    assert "| **190.000** |\n" in found["markdown"] and "| 400.000 |\n" in found["markdown"]
    assert r"& \textbf{190.000} \\" in found["latex"]
    assert '<td class="best"><span class="number">190.000</span></td>' in found["page"]


def test_a_column_without_values_is_only_in_the_csv(study: ReportData) -> None:
    missing = Column("energy_j", "Energy", lambda row: None, "(J)", tables=("costs",), terminal=0)
    COLUMNS.append(missing)
    try:
        found = outputs(study)
    finally:
        COLUMNS.remove(missing)
    assert {name for name, text in found.items() if "nergy" in text} == {"csv", "summary"}


def test_a_key_is_declared_once(study: ReportData) -> None:
    counts = Counter(column.key for column in columns(study))
    assert counts and set(counts.values()) == {1}


def test_a_figure_from_outside_is_in_figures_and_on_the_page(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=ROWS[3:6], trials=1)
    own = FigureDeclaration[ReportData]("energy", "Energy", "Joule & row.", lambda study: new_figure(2, 1))
    without = replace(own, name="nothing", caption="Nothing.", needs=lambda study: False)
    FIGURES.extend((own, without))
    try:
        written = {file.relative_to(tmp_path).as_posix() for file in write_report(tmp_path)}
    finally:
        del FIGURES[-2:]
    assert {"figures/energy.png", "figures/energy.svg", "figure.png"} <= written
    assert not [name for name in written if "nothing" in name]
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<figcaption>Joule &amp; row.</figcaption>" in text
    assert "Nothing." not in text
    positions = [text.index(f'<h2 id="{anchor}">') for anchor in ("accuracy", "cost", "energy", "provenance")]
    assert positions == sorted(positions)


def test_figures_have_a_section_and_a_caption() -> None:
    declared = [*FIGURES, *DIAGNOSIS_FIGURES]
    assert {figure.section for figure in declared} <= set(SECTIONS)
    assert all(figure.caption.endswith(".") for figure in declared)
