"""HTML page of a report: its sections, its figures, and the template that they fill."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from tal_bench.report.common.inline_svg import inline_svg
from tal_bench.report.common.markup import parts
from tal_bench.report.common.page_assets import (
    FIGURE_VALUES,
    INTERACTIVE_TABLES,
    INTERACTIVE_TABLES_STYLE,
    PAGE_STYLE,
    VIDEO_TIMELINE,
    policy,
    script,
)
from tal_bench.report.common.plot_style import DPI
from tal_bench.report.common.tables import Table
from tal_bench.system.text import printable

if TYPE_CHECKING:
    from markupsafe import Markup

SCREEN_DPI = 96
"""Pixels per inch of a page, for figures in their original size."""


@dataclass(frozen=True)
class Picture:
    """Figure of a page.

    Attributes:
        width: Width in CSS pixels.
        alt: Caption.
        data: PNG in base64; empty for an SVG.
        svg: SVG element; empty for a PNG.
    """

    width: int
    alt: str
    data: str = ""
    svg: Markup | str = ""


@dataclass(frozen=True)
class Section:
    """Section of a page.

    Attributes:
        title: Heading.
        text: Paragraphs.
        tables: Tables.
        points: List items.
        figures: Figures.
        timeline: Data of `video_timeline.js`; None for no timeline.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    points: Sequence[str] = ()
    figures: Sequence[Picture] = ()
    timeline: dict[str, Any] | None = None

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
    return Picture(width, alt, data=base64.b64encode(buffer.getvalue()).decode())


def vector_picture(content: bytes, name: str, alt: str) -> Picture:
    """Convert an SVG file of matplotlib for the page, where its rows can be switched on and off."""
    from markupsafe import Markup

    svg, width = inline_svg(content, name)
    return Picture(width, alt, svg=Markup(svg))


def render_page(
    *,
    title: str,
    description: str,
    warnings: Sequence[str],
    headline: Sequence[str],
    sections: Sequence[Section],
    source: str,
    rows: Sequence[str] = (),
) -> str:
    """Return a self-contained HTML page, which is complete without JavaScript and forbids every request.

    Args:
        title: Title of the page.
        description: Paragraph below the title.
        warnings: Sentences on preliminary numbers.
        headline: Sentences on the main result.
        sections: Sections in their order.
        source: Provenance, shown below every table.
        rows: Names of the rows that can be switched on and off in the figures.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=shown)
    environment.filters["code"] = _code
    environment.filters["json"] = _json
    names = [INTERACTIVE_TABLES, FIGURE_VALUES, *[VIDEO_TIMELINE] * any(s.timeline for s in sections)]
    scripts = [script(name) for name in names]
    text = resources.files("tal_bench.report.common").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        title=title,
        description=description,
        warnings=warnings,
        headline=headline,
        sections=sections,
        source=source,
        rows=rows,
        scripts=[Markup(text) for text in scripts],
        policy=Markup(policy(scripts)),
        style=Markup(PAGE_STYLE),
        table_style=Markup(INTERACTIVE_TABLES_STYLE),
    )


def _json(value: object) -> Markup:
    """Return a value as JSON that a script element can hold."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def _code(text: str) -> str:
    """Escape text for HTML and convert marks of code to code elements."""
    from markupsafe import Markup, escape

    return Markup("").join(
        Markup("<code>{}</code>").format(part) if is_code else escape(part)
        for part, is_code in parts(printable(text))
    )


def shown(value: object) -> object:
    """Replace the characters of a text that a page cannot have."""
    return printable(value) if type(value) is str else value
