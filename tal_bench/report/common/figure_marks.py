"""Parts of figures that belong to a row or have values to show, and how SVG files carry both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape, unescape
from typing import TYPE_CHECKING, Any

from tal_bench.system.text import printable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.container import Container

PREFIX = "tal_bench:"
GROUP = re.compile(rf"""<g id=(["']){PREFIX}(.*?)\1>""")
"""Start of the group of a marked artist in the SVG of matplotlib."""


def mark(artists: Artist | Container | Iterable[Any], row: str = "", values: str = "") -> None:
    """Declare that parts of a figure belong to a row, or show values.

    In SVG files, their groups get the attribute `data-row`, by which a page switches rows on and off, and a
    title, which browsers show under the pointer. Other formats are unchanged.

    Args:
        artists: Artist, container of artists (as of `errorbar`) or nested sequence of them.
        row: Name of the row; empty for parts that belong to no single row.
        values: Text to show; empty for none.
    """
    from matplotlib.artist import Artist

    if isinstance(artists, Artist):
        artists.set_gid(PREFIX + json.dumps([printable(row), printable(values)]))
        return
    for artist in artists:
        if artist is not None:
            mark(artist, row, values)


def marked_svg(svg: bytes) -> bytes:
    """Return an SVG file of matplotlib whose marked groups have `data-row` and a title."""
    return GROUP.sub(_group, svg.decode()).encode()


def _group(found: re.Match[str]) -> str:
    row, values = json.loads(unescape(found[2]))
    attribute = f' data-row="{escape(row)}"' if row else ""
    title = f"<title>{escape(values)}</title>" if values else ""
    return f"<g{attribute}>{title}"
