"""Tables of a diagnosis as Markdown and as plain data."""

from __future__ import annotations

import json
import math
from typing import Any

from tal_bench.evaluation.diagnosis import CATEGORIES, ERRORS
from tal_bench.report.common.markup import escape_markdown
from tal_bench.report.common.markup import markdown as as_markdown
from tal_bench.report.common.tables import DASH, Cell, markdown_table, plain_table
from tal_bench.report.diagnosis.summary import ALL_ERRORS, AVERAGE, COLUMNS, MISSED, DiagnosisReport

TABLES = ("profile", "gains", "groups", "videos")


def summary(report: DiagnosisReport) -> dict[str, Any]:
    """Return the content of `diagnosis.json`.

    Values are means over seeds, mAP and shares are in percent, and counts are per seed and tIoU threshold.
    """
    changes = report.changes()
    return {
        "title": report.source.title,
        "provenance": list(report.source.provenance),
        "notes": list(report.source.notes),
        "tiou": list(report.source.thresholds),
        "bins": {
            bins.characteristic: {"source": bins.source, "names": list(bins.names)} for bins in report.bins
        },
        "rows": [_row(report, name) for name in report.row_names],
        "against": report.against,
        "compared": report.compared,
        "video_changes": {str(video): float(points) for video, points in changes.items()},
    }


def _row(report: DiagnosisReport, name: str) -> dict[str, Any]:
    runs = [run for (row, _), run in report.runs.items() if row == name]
    gains = {what: mean for what, (mean, _) in gain_table(report)[name].items()}
    groups = report.groups[report.groups["row"] == name]
    means = groups.groupby(["characteristic", "bin"], sort=False).mean(numeric_only=True).drop(columns="seed")
    return {
        "name": name,
        "runs": len(runs),
        "average_map": gains[AVERAGE],
        "gains": {kind: gains[kind] for kind in ERRORS},
        "all_errors": gains[ALL_ERRORS],
        "missed": gains[MISSED],
        "detections": sum(int(run.counts.sum()) for run in runs) / len(runs) / len(report.source.thresholds),
        "categories": {
            kind: sum(int(run.counts[:, k].sum()) for run in runs) / len(runs) / len(report.source.thresholds)
            for k, kind in enumerate(CATEGORIES)
        },
        "profile": report.shares(name).round(4).to_dict("list"),
        "groups": json.loads(means.reset_index().to_json(orient="records")),
    }


def gain_table(report: DiagnosisReport) -> dict[str, dict[str, tuple[float, float]]]:
    """Return mean and standard deviation (NaN with one run) over seeds, by row and by name in `COLUMNS`."""
    groups = report.gains.groupby(["row", "what"], sort=False)["points"]
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for (row, what), points in groups:
        table.setdefault(str(row), {})[str(what)] = (float(points.mean()), float(points.std(ddof=1)))
    return table


def markdown(report: DiagnosisReport) -> str:
    """Return the tables of gains, of the best G detections and of ground truths as Markdown."""
    gains = gain_table(report)
    lines = [
        f"# Diagnosis of {escape_markdown(report.source.title)}",
        "",
        *(f"- {as_markdown(line)}" for line in report.source.provenance),
        "",
    ]
    lines += [*(f"- {as_markdown(note)}" for note in report.source.notes), ""] if report.source.notes else []
    lines += [
        "## mAP lost to each type of error",
        "",
        "Points of average mAP gained by removing the detections of one type of error; `all errors`: by "
        "removing all false positives. Average mAP, `all errors` and `missed` add up to 100.",
        "",
        markdown_table(
            plain_table(
                ["row", *COLUMNS],
                [
                    [Cell(n, code=True), *(_cell(*gains[n][what]) for what in COLUMNS)]
                    for n in report.row_names
                ],
            )
        ),
        "",
        "## The best G detections",
        "",
        "Share of each category in percent, for as many detections as ground truths in each class.",
        "",
    ]
    best = {name: report.shares(name).loc[1] for name in report.row_names}
    rows: list[list[str | Cell]] = [
        [Cell(n, code=True), *(f"{share[kind]:.1f}" for kind in CATEGORIES)] for n, share in best.items()
    ]
    lines.append(markdown_table(plain_table(["row", *CATEGORIES], rows)))
    return "\n".join(lines + _group_tables(report)) + "\n"


def _group_tables(report: DiagnosisReport) -> list[str]:
    lines: list[str] = []
    for value, heading in (("map_n", "Average mAP_N"), ("missed", "Ground truths missed, percent")):
        table = report.group_means(value)
        rows = [
            [
                name if characteristic == "all" else f"{characteristic} {name}",
                *(DASH if math.isnan(mean) else f"{mean:.1f}" for mean in means),
            ]
            for (characteristic, name), means in zip(table.index, table.to_numpy(), strict=True)
        ]
        headers = ["ground truths", *report.row_names]
        lines += ["", f"## {heading}", "", markdown_table(plain_table(headers, rows))]
    return lines


def _cell(mean: float, sd: float) -> str:
    return f"{mean:.1f}" if math.isnan(sd) else f"{mean:.1f} ± {sd:.1f}"
