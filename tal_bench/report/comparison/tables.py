"""Tables of a comparison, and the same numbers unrounded."""

from __future__ import annotations

from dataclasses import astuple

from tal_bench.evaluation.ranks import Outcomes
from tal_bench.report.common import formats
from tal_bench.report.common.tables import BEST, DASH, Cell, Group, Header, Table, plain_table
from tal_bench.report.comparison.data import HEADINGS, ComparedDataset, ComparedRow, StudyComparison
from tal_bench.report.study import columns
from tal_bench.report.study.pairs import difference_matrix


def accuracy_table(comparison: StudyComparison) -> Table:
    """Return rows × datasets: average mAP, difference to `none`, and letters."""
    several = len(comparison.datasets) > 1
    heads = [Header("Row", text=True)]
    for dataset in comparison.datasets:
        heads += [
            Header(dataset.name, "mAP ↑") if several else Header("mAP ↑"),
            Header("Δ none", "[95 % CI]"),
            Header("Letters"),
        ]
    cells = [_accuracy_cells(dataset) for dataset in comparison.datasets]
    missing = [Cell(DASH)] * 3

    def line(name: str) -> list[Cell]:
        return [Cell(name), *(cell for found in cells for cell in found.get(name, missing))]

    kinds = comparison.kinds
    groups = [Group(head, [line(n) for n in kinds if kinds[n] == kind]) for kind, head in HEADINGS.items()]
    return Table(heads, [group for group in groups if group.lines])


def _accuracy_cells(dataset: ComparedDataset) -> dict[str, list[Cell]]:
    """Return the three cells of each row on a dataset."""
    marks = dataset.letters
    means = {row.name: row.mean for row in dataset.rows if row.name in marks and row.mean is not None}
    best = max(means, key=lambda name: means[name]) if len(means) > 1 else None

    def cells(row: ComparedRow) -> list[Cell]:
        mean = formats.spread(row.mean, row.sd) + (f" ({seeds})" if (seeds := _seeds(row)) else "")
        return [
            Cell(mean, classes=BEST if row.name == best else ""),
            formats.difference_cell(row.difference),
            Cell(marks.get(row.name, "")),
        ]

    return {row.name: cells(row) for row in dataset.rows}


def _seeds(row: ComparedRow) -> str:
    return row.row.seeds_text if row.row is not None else ""


def ranks_table(comparison: StudyComparison) -> Table | None:
    """Return the mean rank of each row, its rank on each dataset, and its clear wins; None without ranks."""
    if not comparison.ranks:
        return None
    names = [dataset.name for dataset in comparison.datasets] if len(comparison.datasets) > 1 else []
    heads = ["Row", "Mean rank ↓" if names else "Rank ↓", "95 % CI", *names, "Wins", "Ties", "Losses"]
    lines = []
    for name, rank in comparison.ranks.items():
        against = [found for (row, _), found in comparison.outcomes.items() if row == name]
        total = sum(against, Outcomes())
        own = [f"{value:g}" for value in rank.ranks] if names else []
        interval = f"[{formats.number(rank.low)}, {formats.number(rank.high)}]"
        lines.append([name, formats.number(rank.mean), interval, *own, *map(str, astuple(total))])
    return plain_table(heads, lines)


def outcomes_table(comparison: StudyComparison) -> Table | None:
    """Return the matrix of wins/ties/losses of the row against the column; None without pairs."""
    if not comparison.outcomes:
        return None
    names = dict.fromkeys([*comparison.ranks, *(row for row, _ in comparison.outcomes)])

    def cell(row: str, against: str) -> Cell:
        found = comparison.outcomes.get((row, against))
        return Cell(f"{found.wins}/{found.ties}/{found.losses}" if found else "" if row == against else DASH)

    lines = [[Cell(row), *(cell(row, against) for against in names)] for row in names]
    return plain_table(["Row : column", *names], lines)


def pair_tables(comparison: StudyComparison) -> dict[str, Table]:
    """Return the matrix of differences of each dataset with compared rows, by its name."""
    return {d.name: difference_matrix(d.comparison) for d in comparison.datasets if d.comparison}


def costs_table(comparison: StudyComparison, width: int | None = None) -> Table | None:
    """Return the costs of the rows, in one group per dataset; None if nothing was measured.

    Args:
        comparison: Result of `compare`.
        width: Width of the terminal, for the columns that fit; None for the columns of files.
    """
    found = {
        column.key: column
        for dataset in comparison.datasets
        for report in dataset.studies.values()
        for column in columns.shown(report, "costs")
    }
    shown = [c for c in found.values() if width is None or (c.terminal is not None and width >= c.terminal)]
    if all(column.text for column in shown):
        return None
    several = len(comparison.datasets) > 1
    groups = [
        Group(
            dataset.name if several else "",
            [
                [Cell(row.name), *(column.show(row.row) for column in shown)]
                for row in dataset.rows
                if row.row is not None and row.row.cost is not None
            ],
        )
        for dataset in comparison.datasets
    ]
    headings = [c.heading if width is None else Header(c.terminal_heading, text=c.text) for c in shown]
    return Table([Header("Row", text=True), *headings], [group for group in groups if group.lines])
