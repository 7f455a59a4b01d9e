"""Tables of a comparison, and the same numbers unrounded."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import pandas as pd

from tal_bench.evaluation.ranks import Outcomes
from tal_bench.report.common.tables import BEST, DASH, Cell, Group, Header, Table, plain_table
from tal_bench.report.comparison.collect import HEADINGS, ComparedDataset, ComparedRow, StudyComparison
from tal_bench.report.study import columns, notes
from tal_bench.report.study.pairs import difference_matrix, pairs_frame


def letters(dataset: ComparedDataset) -> dict[str, str]:
    """Return the letters of each compared row; rows with a common letter cannot be told apart."""
    groups = dataset.comparison.groups() if dataset.comparison else []
    alphabet = [*string.ascii_letters, *(f"({k})" for k in range(len(groups)))]
    return {
        name: "".join(letter for letter, group in zip(alphabet, groups, strict=False) if name in group)
        for group in groups
        for name in group
    }


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
    marks = letters(dataset)
    means = {row.name: row.mean for row in dataset.rows if row.name in marks and row.mean is not None}
    best = max(means, key=lambda name: means[name]) if len(means) > 1 else None

    def cells(row: ComparedRow) -> list[Cell]:
        d = row.difference
        mean = notes.spread(row.mean, row.sd) + (f" ({seeds})" if (seeds := _seeds(row)) else "")
        return [
            Cell(mean, classes=BEST if row.name == best else ""),
            Cell(notes.estimate(d), notes.ends(d), "" if d.excludes_zero else "unclear") if d else Cell(DASH),
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
        interval = f"[{notes.number(rank.low)}, {notes.number(rank.high)}]"
        lines.append([name, notes.number(rank.mean), interval, *own, *map(str, astuple(total))])
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


def rows_frame(comparison: StudyComparison) -> pd.DataFrame:
    """Return one line per row and dataset, unrounded: the columns of a study's `table.csv`, and letters."""
    return pd.DataFrame([_line(d, row) for d in comparison.datasets for row in d.rows])


def _line(dataset: ComparedDataset, row: ComparedRow) -> dict[str, Any]:
    marks = letters(dataset).get(row.name)
    if row.row is not None:
        own = {"row": row.name, "compared": marks is not None, "letters": marks}
        return columns.line(dataset.studies[row.study], row.row) | own
    values = {
        f"map_{tiou:.2f}_mean": 100 * float(level.mean())
        for tiou, level in zip(dataset.report.record.tiou, _levels(row), strict=True)
    }
    d = row.difference
    return {
        "dataset": dataset.name,
        "row": row.name,
        "kind": row.kind,
        "seeds": 1,
        "fingerprint": dataset.report.record.fingerprint,
        **values,
        "map_avg_mean": row.mean,
        "delta_none": d.estimate if d else None,
        "delta_none_low": d.low if d else None,
        "delta_none_high": d.high if d else None,
        "delta_none_clear": d.excludes_zero if d else None,
        "compared": marks is not None,
        "letters": marks,
    }


def _levels(row: ComparedRow) -> Sequence[Any]:
    return [] if row.sample is None or row.sample.levels is None else list(row.sample.levels)


def pairs_frame_of_datasets(comparison: StudyComparison) -> pd.DataFrame:
    """Return one line per dataset and pair of compared rows, in points; columns as `LoadedStudy.pairs`."""
    frames = [pairs_frame(d.comparison).assign(dataset=d.name) for d in comparison.datasets if d.comparison]
    if not frames:
        return pd.DataFrame()
    joined = pd.concat(frames, ignore_index=True)
    return joined[["dataset", *(column for column in joined.columns if column != "dataset")]]


def ranks_frame(comparison: StudyComparison) -> pd.DataFrame:
    """Return one line per ranked row: row, mean_rank, low, high, a column `rank_<dataset>` per dataset."""
    names = [f"rank_{dataset.name}" for dataset in comparison.datasets]
    lines = [(row, r.mean, r.low, r.high, *r.ranks) for row, r in comparison.ranks.items()]
    return pd.DataFrame(lines, columns=["row", "mean_rank", "low", "high", *names])


def outcomes_frame(comparison: StudyComparison) -> pd.DataFrame:
    """Return one line per ordered pair of rows: row, against, and the datasets with wins, ties, losses."""
    lines = [(row, base, x.wins, x.ties, x.losses) for (row, base), x in comparison.outcomes.items()]
    return pd.DataFrame(lines, columns=["row", "against", "wins", "ties", "losses"])
