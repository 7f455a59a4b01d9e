"""The outcome of `tal-bench robustness` as tables, as data, and in notes."""

from __future__ import annotations

import csv as csv_module
import io
import math
from collections.abc import Sequence
from typing import Any

from tal_bench.evaluation.robustness import ALL, Robustness
from tal_bench.evaluation.significance import Interval
from tal_bench.report.study import notes

GROUPS = {"teacher": "Teachers", "reference": "References", "student": "Students", "": "Models"}
LEVELS = {
    "pixels": "pixels are corrupted, and features made anew of them",
    "features": "feature level: features are corrupted, nobody has the videos; not comparable with corrupted "
    "pixels",
}


def findings(found: Robustness) -> list[str]:
    """Say of every row that is compared whether it loses a smaller share of its mAP than the baseline."""
    lines = []
    for row, kind in found.kinds.items():
        difference = found.line(row, found.corruptions[0]).drop_difference
        if difference is None:
            continue
        verdict = "no clear difference"
        if difference.excludes_zero:
            verdict = "loses less" if difference.estimate < 0 else "loses more"
        text = notes.interval(difference).removeprefix(f"{notes.UNCLEAR} ")
        label = f"`{row}`" if kind == "student" else row
        lines.append(f"{label} against `{found.against}`, relative drop: {text} points, {verdict}.")
    return lines


def markdown(found: Robustness) -> str:
    """Tables of mAP, of relative drops, of differences, and of every version."""
    names = found.corruptions
    text = [f"# Robustness of {found.title}", "", f"- Level: {LEVELS[found.level]}"]
    text += [f"- {line}" for line in (*found.provenance, *found.notes)]
    text += [
        "",
        "## Average mAP in percent",
        "",
        f"± standard deviation over {found.seeds} seeds. Under a corruption: mean over its severities and "
        f"shares of frames; `{ALL}`: mean over corruptions."
        if found.seeds > 1
        else f"One run each. Under a corruption: mean over its severities and shares of frames; `{ALL}`: "
        "mean over corruptions.",
        "",
        *_table(found, ["row", "clean ↑", *(f"{name} ↑" for name in names)], _map_cells),
        "",
        "## Relative drop in percent",
        "",
        "(clean − corrupted) / clean, run by run.",
        "",
        *_table(found, ["row", *(f"{name} ↓" for name in names)], _drop_cells),
    ]
    if found.against is not None:
        text += [
            "",
            f"## Difference to `{found.against}` [95 % CI]",
            "",
            "Paired by seed and test video; ≈ marks intervals that include 0. Below 0, a row loses a smaller "
            "share of its mAP.",
            "",
            *_table(
                found,
                ["row", "mAP under all ↑", *(f"drop, {name} ↓" for name in names)],
                _difference_cells,
                without=found.against,
            ),
            "",
            *(f"- {line}" for line in findings(found)),
        ]
    text += ["", "## Every version: average mAP in percent, mean over seeds", "", *_versions(found)]
    return "\n".join(text) + "\n"


def _map_cells(found: Robustness, row: str) -> list[str]:
    lines = [found.line(row, name) for name in found.corruptions]
    return [_spread(lines[0].clean, lines[0].clean_sd), *(_spread(x.map, x.map_sd) for x in lines)]


def _drop_cells(found: Robustness, row: str) -> list[str]:
    return [_spread(x.drop, x.drop_sd) for x in (found.line(row, name) for name in found.corruptions)]


def _difference_cells(found: Robustness, row: str) -> list[str]:
    lines = [found.line(row, name) for name in found.corruptions]
    return [notes.interval(lines[0].map_difference), *(notes.interval(x.drop_difference) for x in lines)]


def _spread(mean: float, sd: float) -> str:
    if math.isnan(mean):
        return notes.DASH
    return notes.spread(mean, None if math.isnan(sd) else sd)


def _table(found: Robustness, header: Sequence[str], cells: Any, without: str | None = None) -> list[str]:
    lines = [_joined(header), _joined(["---", *["---:"] * (len(header) - 1)])]
    kinds = list(dict.fromkeys(found.kinds.values()))
    for kind in kinds:
        if len(kinds) > 1:
            lines.append(_joined([f"*{GROUPS[kind]}*", *[""] * (len(header) - 1)]))
        rows = [row for row, own in found.kinds.items() if own == kind and row != without]
        lines += [_joined([row, *cells(found, row)]) for row in rows]
    return lines


def _versions(found: Robustness) -> list[str]:
    rows = list(found.kinds)
    header = ["corruption", "severity", "share", *rows]
    lines = [_joined(header), _joined(["---", *["---:"] * (len(header) - 1)])]
    means: dict[tuple[str, int, float], dict[str, float]] = {}
    for line in found.lines:
        if line.severity is not None and line.share is not None:
            means.setdefault((line.corruption, line.severity, line.share), {})[line.row] = line.map
    for (name, severity, share), values in means.items():
        cells = [notes.number(values[row]) for row in rows]
        lines.append(_joined([name, str(severity), f"{100 * share:g} %", *cells]))
    return lines


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def records(found: Robustness) -> list[dict[str, Any]]:
    """A flat record per row and corruption, the mean over versions (no severity) and each of them."""
    flat = []
    for line in found.lines:
        value: dict[str, Any] = {
            "row": line.row,
            "kind": found.kinds[line.row],
            "level": found.level,
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


def _interval(name: str, found: Interval | None) -> dict[str, float | None]:
    ends = {"": "estimate", "_low": "low", "_high": "high"}
    return {f"{name}{end}": _finite(getattr(found, key)) if found else None for end, key in ends.items()}


def csv(found: Robustness) -> str:
    """`records` as a table."""
    lines = records(found)
    buffer = io.StringIO()
    writer = csv_module.DictWriter(buffer, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def summary(found: Robustness) -> dict[str, Any]:
    """Everything as plain data, mAP and drops in percent."""
    return {
        "title": found.title,
        "level": found.level,
        "against": found.against,
        "provenance": list(found.provenance),
        "notes": list(found.notes),
        "findings": findings(found),
        "lines": records(found),
        "runs": found.runs,
    }
