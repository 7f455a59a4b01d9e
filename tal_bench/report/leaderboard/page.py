"""Leaderboard as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from tal_bench.report.common.page_assets import (
    INTERACTIVE_TABLES,
    INTERACTIVE_TABLES_STYLE,
    PAGE_STYLE,
    policy,
    script,
)
from tal_bench.report.common.page_parts import shown
from tal_bench.report.leaderboard import board
from tal_bench.report.leaderboard.result import PublishedResult, literature, read_results
from tal_bench.system.files import write_atomically


def write_leaderboard(places: Sequence[Path | str], out: Path | str) -> list[PublishedResult]:
    """Write the page of the leaderboard: published results, and those of the literature.

    The page is one file that needs no network, and equal results give an equal page.

    Args:
        places: Folders of published studies, and JSON files of single results.
        out: HTML file to write.

    Returns:
        Results on the page.

    Raises:
        InputError: A folder has no results, a file is not a result, or the page cannot be written.
    """
    results = [*read_results([Path(place) for place in places]), *literature()]
    write_atomically(Path(out), leaderboard_page(results))
    return results


def leaderboard_page(results: Sequence[PublishedResult]) -> str:
    """Return the HTML page of results."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    text = resources.files("tal_bench.report.leaderboard").joinpath("leaderboard.html")
    groups = board.board(results)
    tables = script(INTERACTIVE_TABLES)
    return environment.from_string(text.read_text(encoding="utf-8")).render(
        groups=groups,
        headers=board.HEADERS,
        minor=[k for k, name in enumerate(board.HEADERS) if name in board.MINOR],
        choices={key: board.choices(groups, key) for key in ("dataset", "reads", "origin")},
        policy=policy([tables]),
        page_style=PAGE_STYLE,
        style=INTERACTIVE_TABLES_STYLE,
        script=tables,
    )
