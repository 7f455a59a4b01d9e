"""Sections and figures of an HTML page, as used by its template."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tal_bench.report.common.plot_style import DPI
from tal_bench.report.common.tables import Table

SCREEN_DPI = 96
"""Pixels per inch of a page, for figures in their original size."""


@dataclass(frozen=True)
class Picture:
    """Figure: PNG in base64, width in CSS pixels, and caption."""

    data: str
    width: int
    alt: str


@dataclass(frozen=True)
class Section:
    """Section of a page with paragraphs, tables, list items and figures."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    points: Sequence[str] = ()
    figures: Sequence[Picture] = ()

    @property
    def anchor(self) -> str:
        """HTML id of the heading."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def picture(content: bytes, alt: str) -> Picture:
    """Convert a PNG for the page in its original size; 256 colours reduce it to a third of the bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        quantized = image.convert("RGB").quantize(method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        quantized.save(buffer, "PNG")
        width = round(image.width * SCREEN_DPI / DPI)
    return Picture(base64.b64encode(buffer.getvalue()).decode(), width, alt)
