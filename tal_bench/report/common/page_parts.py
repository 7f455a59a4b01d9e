"""HTML page of a report: its sections, its figures, and the template that they fill."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from tal_bench.report.common.markup import parts
from tal_bench.report.common.plot_style import DPI
from tal_bench.report.common.tables import Table
from tal_bench.system.text import printable

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


def render_page(
    *,
    title: str,
    description: str,
    warnings: Sequence[str],
    headline: Sequence[str],
    sections: Sequence[Section],
    source: str,
) -> str:
    """Return a self-contained HTML page.

    Args:
        title: Title of the page.
        description: Paragraph below the title.
        warnings: Sentences on preliminary numbers.
        headline: Sentences on the main result.
        sections: Sections in their order.
        source: Provenance, shown below every table.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_shown)
    environment.filters["code"] = _code
    text = resources.files("tal_bench.report.common").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        title=title,
        description=description,
        warnings=warnings,
        headline=headline,
        sections=sections,
        source=source,
    )


def _code(text: str) -> str:
    """Escape text for HTML and convert marks of code to code elements."""
    from markupsafe import Markup, escape

    return Markup("").join(
        Markup("<code>{}</code>").format(part) if is_code else escape(part)
        for part, is_code in parts(printable(text))
    )


def _shown(value: object) -> object:
    """Replace the characters of a text that a page cannot have."""
    return printable(value) if type(value) is str else value
