"""Rows of the leaderboard as plain data: cells, values for sorting and filtering, and details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from tal_bench.report.common.formats import UNCLEAR, number, seconds, signed, spread
from tal_bench.report.common.tables import DASH
from tal_bench.report.leaderboard.result import Ends, PublishedResult, ranked
from tal_bench.results.columns import COST_COLUMNS, CostColumn, CostFamily, declared


@dataclass(frozen=True)
class Item:
    """A cell, or a value of the details.

    Attributes:
        text: Text.
        below: Smaller text below it.
        value: Value for sorting, if it is not the number at the start of the text.
        share: Length of a bar in percent, for average precisions of classes.
    """

    text: str
    below: str = ""
    value: str = ""
    share: float | None = None


@dataclass(frozen=True)
class BoardRow:
    """A result on the leaderboard.

    Attributes:
        result: Result.
        anchor: HTML id.
        cells: Cells in the order of `HEADERS`.
        data: Values of the filters by name.
        details: Values by title, shown on a click.
        facts: Lines on the origin by title.
    """

    result: PublishedResult
    anchor: str
    cells: Sequence[Item]
    data: dict[str, str]
    details: dict[str, list[Item]]
    facts: dict[str, str]


@dataclass(frozen=True)
class BoardGroup:
    """Results on one dataset, the best first.

    Attributes:
        dataset: Name of the dataset.
        heading: Heading: the dataset, and how measured results were evaluated.
        rows: Results.
    """

    dataset: str
    heading: str
    rows: Sequence[BoardRow] = field(repr=False)


HEADERS = ("Row or method", "Reads", "mAP", "mAP @0.5", "Δ none", "M params", "GMACs", "s per min", "Origin")
"""Headers of the columns."""
MINOR = ("mAP @0.5", "M params", "GMACs", "Origin")
"""Columns that a narrow screen leaves out; the details have their values."""
MEASURED, REPORTED = "measured", "reported"


def board(results: Sequence[PublishedResult]) -> list[BoardGroup]:
    """Return the groups of the leaderboard: datasets with measured results first, then by name."""
    groups = [(name, list(own)) for name, own in groupby(ranked(results), key=lambda r: r.dataset)]
    groups.sort(key=lambda group: (not any(r.measured for r in group[1]), group[0]))
    anchors: dict[str, int] = {}
    return [BoardGroup(name, _heading(name, own), [_row(r, anchors) for r in own]) for name, own in groups]


def choices(groups: Sequence[BoardGroup], key: str) -> list[str]:
    """Return the values of a filter, sorted."""
    return sorted({row.data[key] for group in groups for row in group.rows})


def _heading(dataset: str, results: Sequence[PublishedResult]) -> str:
    origins = [r.measured for r in results if r.measured]
    found = dict.fromkeys(f"{m.evaluation}, {m.test_videos} test videos" for m in origins)
    caution = "rows of different data do not compare" if len({m.fingerprint for m in origins}) > 1 else ""
    return ": ".join(filter(None, (dataset, "; ".join(filter(None, (*found, caution))))))


def _row(result: PublishedResult, anchors: dict[str, int]) -> BoardRow:
    name = "-".join(f"{result.dataset} {result.name} {result.modalities}".lower().split())
    anchors[name] = anchors.get(name, 0) + 1
    if anchors[name] > 1:
        name += f"-{anchors[name]}"
    costs = result.costs
    below = " ← ".join(filter(None, (result.model or result.features, " + ".join(result.teachers.values()))))
    cells = (
        Item(result.name, below if result.name != below else "", result.name),
        Item(result.modalities),
        Item(_average(result), value=str(result.map["map_avg"])),
        Item(number(result.map.get("map_0.50"))),
        _difference(result.differences.get("none")),
        Item(_cost(costs.get("params"), 2, 1e6)),
        Item(_cost(costs.get("gmacs"), 2)),
        Item(seconds(costs.get("minute"))),
        Item(MEASURED if result.measured else REPORTED, result.origin),
    )
    data = {
        "name": " ".join((result.name, result.model, result.features, result.origin, result.dataset)),
        "dataset": result.dataset,
        "reads": result.modalities,
        "origin": MEASURED if result.measured else REPORTED,
        "params": f"{costs['params'] / 1e6:.6g}" if "params" in costs else "",
        "minute": f"{costs['minute']:.6g}" if "minute" in costs else "",
    }
    return BoardRow(result, f"result-{name}", cells, data, _details(result), _facts(result))


def _average(result: PublishedResult) -> str:
    return spread(result.map["map_avg"], result.map_sd.get("map_avg"))


def _cost(value: float | None, digits: int, unit: float = 1.0) -> str:
    return number(None if value is None else value / unit, digits)


def _difference(found: Ends | None) -> Item:
    if found is None:
        return Item(DASH)
    mark = "" if found.low > 0 or found.high < 0 else f"{UNCLEAR} "
    ends = f"[{signed(found.low)}, {signed(found.high)}]"
    return Item(f"{mark}{signed(found.estimate)}", ends, str(found.estimate))


def _details(result: PublishedResult) -> dict[str, list[Item]]:
    levels = [m for m in result.map if m != "map_avg"]
    intervals = [Item("average mAP", f"{number(i.low)} … {number(i.high)}") for i in (result.interval,) if i]
    for base, difference in result.differences.items():
        cell = _difference(difference)
        intervals.append(Item(f"against {base}", f"{cell.text} {cell.below}"))
    classes = sorted(result.per_class.items(), key=lambda entry: -entry[1])
    found = {
        "mAP at tIoU": [
            Item(m.removeprefix("map_"), spread(result.map[m], result.map_sd.get(m))) for m in levels
        ],
        "95 % intervals (videos and seeds)": intervals,
        "Settings, chosen on validation": [Item(k, f"{v:.3g}") for k, v in result.settings.items()],
        "Costs": _costs(result),
        "Average precision by class": [Item(k, number(v), share=v) for k, v in classes],
    }
    return {title: items for title, items in found.items() if items}


def _costs(result: PublishedResult) -> list[Item]:
    """Return the costs of a result in the units of the tables, with the conditions of the measurement."""
    items = []
    for key, value in result.costs.items():
        column = _column(key)
        if column is None:
            items.append(Item(key, f"{value:.4g}"))
            continue
        shown = value / column.unit_size
        unit = column.unit.strip("()")
        text = seconds(shown) if column.digits is None else number(shown, column.digits)
        items.append(Item(column.header, f"{text} {unit}".rstrip()))
    if items and result.cost_conditions:
        items.append(Item("measured on", result.cost_conditions))
    return items


def _column(key: str) -> CostColumn | None:
    """Return the declaration of a column of costs, also of one of a family; None for an unknown key."""
    for entry in COST_COLUMNS:
        if isinstance(entry, CostColumn) and entry.key == key:
            return entry
    families = [entry for entry in declared() if isinstance(entry, CostFamily)]
    found = {start: f for f in families if key.startswith(start := f.pattern.key.partition(f.placeholder)[0])}
    if not found:
        return None
    longest = max(found, key=len)  # `minute_with_flow_tvl1` starts as `minute_<step>` does, too
    return found[longest].column(key.removeprefix(longest))


def _facts(result: PublishedResult) -> dict[str, str]:
    """Return the origin of a result, without parts that are not known."""
    origin = result.measured
    if origin is None:
        found = {"Reported by": result.origin, "Setting": result.setting, "Features": result.features}
    else:
        versions = ", ".join(f"{name} {value}" for name, value in origin.environment.items())
        found = {
            "Study": origin.study,
            "Command": origin.command,
            "Commit": origin.commit,
            "Data": f"{result.dataset}, fingerprint {origin.fingerprint}, {origin.test_videos} test videos",
            "Evaluation": origin.evaluation,
            "Seeds": ", ".join(map(str, result.seeds)),
            "Date": origin.date,
            "Environment": versions,
        }
    return {title: text for title, text in found.items() if text}
