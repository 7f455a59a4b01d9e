"""What a page is made of: sections with tables and figures, as its template takes them."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tal_bench.report.common.plot_style import DPI

SCREEN = 96
"""Pixels per inch of a page: figures stand in it at their own size, or smaller."""


@dataclass(frozen=True)
class Cell:
    """A table's cell: a number or name, a smaller line below it, CSS classes."""

    main: str
    below: str = ""
    classes: str = ""


@dataclass(frozen=True)
class Header:
    """A column's header; `text` columns are set left."""

    header: str
    text: bool = False


@dataclass(frozen=True)
class Group:
    """Lines of a table below a heading of their own."""

    name: str
    lines: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    columns: Sequence[Header]
    groups: Sequence[Group]
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: PNG in base64, width on the screen, and what it shows."""

    data: str
    width: int
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    points: Sequence[str] = ()
    figures: Sequence[Picture] = ()

    @property
    def anchor(self) -> str:
        """Of its heading."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def picture(content: bytes, alt: str) -> Picture:
    """A PNG for the page, as wide as it was drawn; 256 colours are enough, and a third of the bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as drawn:
        few = drawn.convert("RGB").quantize(method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(buffer, "PNG")
        width = round(drawn.width * SCREEN / DPI)
    return Picture(base64.b64encode(buffer.getvalue()).decode(), width, alt)
