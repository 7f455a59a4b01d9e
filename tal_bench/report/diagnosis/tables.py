"""A diagnosis as files and as plain data."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from tal_bench.evaluation.diagnosis import CATEGORIES, ERRORS, PROFILE_SLICES
from tal_bench.report.diagnosis.summary import ALL_ERRORS, AVERAGE, MISSED, Diagnosed

TABLES = ("profile", "gains", "groups", "videos")
COLUMNS = (AVERAGE, *ERRORS, ALL_ERRORS, MISSED)


def summary(found: Diagnosed) -> dict[str, Any]:
    """The diagnosis as plain data: means over seeds, mAP and shares in percent, counts per seed and tIoU."""
    changes = found.changes()
    return {
        "title": found.source.title,
        "provenance": list(found.source.provenance),
        "notes": list(found.source.notes),
        "tiou": list(found.source.thresholds),
        "bins": {one.characteristic: {"source": one.source, "names": list(one.names)} for one in found.bins},
        "rows": [_row(found, name) for name in found.row_names],
        "against": found.against,
        "compared": found.compared,
        "video_changes": {str(video): float(points) for video, points in changes.items()},
    }


def _row(found: Diagnosed, name: str) -> dict[str, Any]:
    runs = [run for (row, _), run in found.runs.items() if row == name]
    gains = {what: mean for what, (mean, _) in gain_table(found)[name].items()}
    groups = found.groups[found.groups["row"] == name]
    means = groups.groupby(["characteristic", "bin"], sort=False).mean(numeric_only=True).drop(columns="seed")
    return {
        "name": name,
        "runs": len(runs),
        "average_map": gains[AVERAGE],
        "gains": {kind: gains[kind] for kind in ERRORS},
        "all_errors": gains[ALL_ERRORS],
        "missed": gains[MISSED],
        "detections": sum(int(run.counts.sum()) for run in runs) / len(runs) / len(found.source.thresholds),
        "categories": {
            kind: sum(int(run.counts[:, k].sum()) for run in runs) / len(runs) / len(found.source.thresholds)
            for k, kind in enumerate(CATEGORIES)
        },
        "profile": shares(found, name).round(4).to_dict("list"),
        "groups": json.loads(means.reset_index().to_json(orient="records")),
    }


def shares(found: Diagnosed, row: str) -> pd.DataFrame:
    """Percent of the detections of each slice of the profile, mean over thresholds and seeds.

    Returns:
        Slices × `CATEGORIES`; a slice that no run reaches is NaN.
    """
    part = found.profile[found.profile["row"] == row].astype({"seed": "float64"}).fillna({"seed": -1.0})
    table = part.pivot_table("detections", ["seed", "tiou", "slice"], "category", sort=False)
    total = table.sum(axis=1)
    table = 100 * table.div(total.where(total > 0), axis=0)
    return table.groupby("slice")[list(CATEGORIES)].mean().reindex(range(1, PROFILE_SLICES + 1))


def gain_table(found: Diagnosed) -> dict[str, dict[str, tuple[float, float]]]:
    """Row, then one of `COLUMNS`, to mean and standard deviation (NaN with one run) over seeds."""
    groups = found.gains.groupby(["row", "what"], sort=False)["points"]
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for (row, what), points in groups:
        table.setdefault(str(row), {})[str(what)] = (float(points.mean()), float(points.std(ddof=1)))
    return table


def markdown(found: Diagnosed) -> str:
    """Three tables with their notes."""
    gains = gain_table(found)
    lines = [
        f"# Diagnosis of {found.source.title}",
        "",
        *(f"- {line}" for line in found.source.provenance),
        "",
    ]
    lines += [*(f"- {note}" for note in found.source.notes), ""] if found.source.notes else []
    lines += [
        "## What each kind of error costs",
        "",
        "Points of average mAP gained when the detections of one kind are removed; `all errors`: when all "
        "false positives are. Average mAP, `all errors` and `missed` add up to 100.",
        "",
        _line(["row", *COLUMNS]),
        _line(["---", *["---:"] * len(COLUMNS)]),
    ]
    for name in found.row_names:
        cells = [_cell(*gains[name][what]) for what in COLUMNS]
        lines.append(_line([f"`{name}`", *cells]))
    lines += [
        "",
        "## The best G detections",
        "",
        "Share in percent of as many detections as ground truths.",
        "",
    ]
    lines += [_line(["row", *CATEGORIES]), _line(["---", *["---:"] * len(CATEGORIES)])]
    for name in found.row_names:
        first = shares(found, name).loc[1]
        lines.append(_line([f"`{name}`", *(f"{first[kind]:.1f}" for kind in CATEGORIES)]))
    return "\n".join(lines + _group_tables(found)) + "\n"


def _group_tables(found: Diagnosed) -> list[str]:
    lines: list[str] = []
    for value, heading in (("map_n", "Average mAP_N"), ("missed", "Ground truths missed, percent")):
        table = found.group_means(value)
        lines += ["", f"## {heading}", "", _line(["ground truths", *(f"`{n}`" for n in found.row_names)])]
        lines.append(_line(["---", *["---:"] * len(found.row_names)]))
        for (characteristic, name), means in zip(table.index, table.to_numpy(), strict=True):
            label = name if characteristic == "all" else f"{characteristic} {name}"
            lines.append(_line([label, *("–" if math.isnan(mean) else f"{mean:.1f}" for mean in means)]))
    return lines


def _cell(mean: float, sd: float) -> str:
    return f"{mean:.1f}" if math.isnan(sd) else f"{mean:.1f} ± {sd:.1f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
