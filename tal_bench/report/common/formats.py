"""Numbers, spreads, differences and intervals as text."""

from __future__ import annotations

import math

from tal_bench.evaluation.significance import Interval
from tal_bench.report.common.tables import DASH, Cell

UNCLEAR = "≈"
"""Mark in front of a difference whose interval includes 0."""


def number(value: float | None, digits: int = 1) -> str:
    """Format a number with a minus sign, or None as a dash."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "−")


def seconds(value: float | None) -> str:
    """Format seconds with about three significant digits, without exponent."""
    return DASH if value is None else number(value, 3 if value < 1 else 2 if value < 10 else 1)


def signed(value: float, digits: int = 1) -> str:
    """Format a difference with its sign; values that round to 0 have no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def interval(value: Interval | None) -> str:
    """Format an interval as `+3.2 [+1.1, +5.3]`, with a mark in front if it includes 0, or None as a dash."""
    return DASH if value is None else difference(value.estimate, value.low, value.high)


def difference(found: float, low: float, high: float) -> str:
    """Format a difference with the ends of its interval as `interval` does; a dash if it is NaN."""
    return DASH if math.isnan(found) else f"{_marked(found, low, high)} {_between(low, high)}"


def estimate(value: Interval) -> str:
    """Format the estimate of an interval, with a mark in front if the interval includes 0."""
    return _marked(value.estimate, value.low, value.high)


def ends(value: Interval) -> str:
    """Format the ends of an interval as `[+1.1, +5.3]`."""
    return _between(value.low, value.high)


def _marked(found: float, low: float, high: float) -> str:
    return f"{UNCLEAR} {signed(found)}" if low <= 0 <= high else signed(found)


def _between(low: float, high: float) -> str:
    return f"[{_end(low)}, {_end(high)}]"


def _end(value: float) -> str:
    """Format an end with one digit, or with up to three until its side of 0 shows."""
    texts = [signed(value, digits) for digits in (1, 2, 3)]
    return next((text for text in texts if text.strip("0.")), texts[0])


def spread(mean: float | None, sd: float | None) -> str:
    """Format mean and standard deviation as `45.3 ± 0.8`, or the mean alone for one seed."""
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


def difference_cell(value: Interval | None) -> Cell:
    """Return the cell of a table with a difference, and its interval below."""
    if value is None:
        return Cell(DASH)
    return Cell(estimate(value), ends(value), "" if value.excludes_zero else "unclear")
