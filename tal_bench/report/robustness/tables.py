"""Result of `tal-bench robustness` as Markdown, CSV, plain data and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.evaluation.robustness import ALL, Robustness
from tal_bench.evaluation.significance import Interval
from tal_bench.report.common import formats
from tal_bench.report.common.markup import code, escape_markdown
from tal_bench.report.common.markup import markdown as as_markdown
from tal_bench.report.common.tables import (
    DASH,
    Cell,
    Group,
    Header,
    Table,
    csv_table,
    markdown_table,
    plain_table,
    text_group,
)
from tal_bench.report.study.collect import KINDS

MEANS = ("Clean mAP ↑", "Corrupted mAP ↑", "Relative drop (%) ↓", "Drop against the reference [95 % CI]")
"""Headings of the means over corruptions on the page of a study."""
LEVELS = {
    "pixels": "pixels are corrupted, and features are extracted from them",
    "features": "feature level: features are corrupted, because there are no videos; not comparable with "
    "corrupted pixels",
}


def findings(result: Robustness) -> list[str]:
    """Return one sentence per compared row on its relative drop and that of the baseline."""
    lines = []
    for row, kind in result.kinds.items():
        difference = result.line(row, result.corruptions[0]).drop_difference
        if difference is None:
            continue
        verdict = "no clear difference"
        if difference.excludes_zero:
            verdict = "loses less" if difference.estimate < 0 else "loses more"
        text = f"{formats.signed(difference.estimate)} {formats.ends(difference)}"
        label = code(row) if kind == "student" else row
        base = code(result.against or "")
        lines.append(f"{label} against {base}, relative drop: {text} points, {verdict}.")
    return lines


def markdown(result: Robustness) -> str:
    """Return the tables of mAP, relative drops, differences, and all versions as Markdown."""
    names = result.corruptions
    text = [f"# Robustness of {escape_markdown(result.title)}", "", f"- Level: {LEVELS[result.level]}"]
    text += [f"- {as_markdown(line)}" for line in (*result.provenance, *result.notes)]
    text += [
        "",
        "## Average mAP in percent",
        "",
        f"± standard deviation over {result.seeds_text}. Under a corruption: mean over its severities and "
        f"shares of frames; `{ALL}`: mean over corruptions."
        if result.seeds > 1
        else f"One run each. Under a corruption: mean over its severities and shares of frames; `{ALL}`: "
        "mean over corruptions.",
        "",
        _table(result, ["row", "clean ↑", *(f"{name} ↑" for name in names)], _map_cells),
        "",
        "## Relative drop in percent",
        "",
        "(clean − corrupted) / clean, run by run.",
        "",
        _table(result, ["row", *(f"{name} ↓" for name in names)], _drop_cells),
    ]
    if result.against is not None:
        text += [
            "",
            f"## Difference to {code(result.against)} [95 % CI]",
            "",
            "Paired by seed and test video; ≈ marks intervals that include 0. Rows with a negative "
            "difference of the drop lose a smaller share of their mAP.",
            "",
            _table(
                result,
                ["row", "mAP under all ↑", *(f"drop, {name} ↓" for name in names)],
                _difference_cells,
                without=result.against,
            ),
            "",
            *(f"- {as_markdown(line)}" for line in findings(result)),
        ]
    text += ["", "## Every version: average mAP in percent, mean over seeds", "", _versions(result)]
    return "\n".join(text) + "\n"


def _map_cells(result: Robustness, row: str) -> list[str]:
    lines = [result.line(row, name) for name in result.corruptions]
    return [_spread(lines[0].clean, lines[0].clean_sd), *(_spread(x.map, x.map_sd) for x in lines)]


def _drop_cells(result: Robustness, row: str) -> list[str]:
    return [_spread(x.drop, x.drop_sd) for x in (result.line(row, name) for name in result.corruptions)]


def _difference_cells(result: Robustness, row: str) -> list[str]:
    lines = [result.line(row, name) for name in result.corruptions]
    return [formats.interval(lines[0].map_difference), *(formats.interval(x.drop_difference) for x in lines)]


def _spread(mean: float, sd: float) -> str:
    if math.isnan(mean):
        return DASH
    return formats.spread(mean, None if math.isnan(sd) else sd)


def _table(
    result: Robustness,
    header: Sequence[str],
    cells: Callable[[Robustness, str], list[str]],
    without: str | None = None,
) -> str:
    kinds = list(dict.fromkeys(result.kinds.values()))
    groups = []
    for kind in kinds:
        rows = [row for row, row_kind in result.kinds.items() if row_kind == kind and row != without]
        heading = KINDS.get(kind, "Models") if len(kinds) > 1 else ""
        groups.append(text_group(heading, ([row, *cells(result, row)] for row in rows)))
    return markdown_table(plain_table(header, groups=groups))


def _versions(result: Robustness) -> str:
    means: dict[tuple[str, int, float], dict[str, float]] = {}
    for line in result.lines:
        if line.severity is not None and line.share is not None:
            means.setdefault((line.corruption, line.severity, line.share), {})[line.row] = line.map
    lines = [
        [name, str(severity), f"{100 * share:g} %", *(formats.number(values[row]) for row in result.kinds)]
        for (name, severity, share), values in means.items()
    ]
    return markdown_table(plain_table(["corruption", "severity", "share", *result.kinds], lines))


def records(result: Robustness) -> list[dict[str, Any]]:
    """Return a record per row for each corruption (mean over versions, no severity) and each version."""
    flat = []
    for line in result.lines:
        value: dict[str, Any] = {
            "row": line.row,
            "kind": result.kinds[line.row],
            "level": result.level,
            "corruption": line.corruption,
            "severity": line.severity,
            "share": line.share,
            "versions": line.versions,
            "seeds": line.seeds,
        }
        for name in ("clean", "map", "drop"):
            value[f"{name}_mean"] = _finite(getattr(line, name))
            value[f"{name}_sd"] = _finite(getattr(line, f"{name}_sd"))
        for name in ("map", "drop"):
            value |= _interval(f"delta_{name}", getattr(line, f"{name}_difference"))
        flat.append(value)
    return flat


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    ends = {"": "estimate", "_low": "low", "_high": "high"}
    return {
        f"{name}{end}": _finite(getattr(interval, key)) if interval else None for end, key in ends.items()
    }


def csv(result: Robustness) -> str:
    """Return `records` as CSV."""
    return csv_table(pd.DataFrame(records(result), dtype=object))


def means_over_corruptions(file: Path) -> Table:
    """Return the means over all corruptions, for the page of a study.

    Args:
        file: Output of `csv`. Rows may be named like numbers or missing values.
    """
    found = pd.read_csv(file, dtype={"row": str, "corruption": str}, keep_default_na=False, na_values=[""])
    found = found.fillna({"row": "", "corruption": ""})
    lines = [
        [
            Cell(str(line["row"]), classes="text"),
            *(Cell(_spread(line[f"{key}_mean"], line[f"{key}_sd"])) for key in ("clean", "map", "drop")),
            Cell(formats.difference(*(line[f"delta_drop{end}"] for end in ("", "_low", "_high")))),
        ]
        for line in found[found["corruption"] == ALL].to_dict("records")
    ]
    return Table([Header("Row", text=True), *map(Header, MEANS)], [Group("", lines)])


def summary(result: Robustness) -> dict[str, Any]:
    """Return the content of `robustness.json`, with mAP and drops in percent."""
    return {
        "title": result.title,
        "level": result.level,
        "against": result.against,
        "provenance": list(result.provenance),
        "notes": list(result.notes),
        "findings": findings(result),
        "lines": records(result),
        "runs": result.runs,
    }
