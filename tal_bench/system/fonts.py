"""Text of figures: drawn as it is, with installed fonts for characters that matplotlib's own lacks."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from tal_bench.system.text import JOINERS, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAMILY = "DejaVu Sans"
"""Font of all figures, which is part of matplotlib."""
FONT_SIZE = 8.5
"""Size of text in figures of one file, in points."""
UNUSED = ("Last Resort", "STIX", "cm")
"""First letters of fonts of matplotlib that have placeholders or symbols in the place of letters."""
REGULAR = (400, "normal", "regular", "book")
Drawing = TypeVar("Drawing", "Figure", "Figure | None")


@contextmanager
def plain_text(families: Sequence[str] = ()) -> Iterator[None]:
    """Let figures draw text as it is, never as a formula.

    Args:
        families: Fonts for characters that `FAMILY` lacks.
    """
    import matplotlib

    style: Any = {
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "font.family": [FAMILY, *families, "sans-serif"],
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # `unavailable` tells them
        yield


def draw_text(make: Callable[[], Drawing]) -> Drawing:
    """Return the figure that `make` draws, with text as it is and installed fonts for missing characters."""
    with plain_text():
        drawing = make()
    families = () if drawing is None else _families(_missing(drawing))
    if families:
        with plain_text(families):
            drawing = make()
    if drawing is not None:
        _plain_texts(drawing)
        _plain_ticks(drawing)
    return drawing


def image_file(make: Callable[[], Figure], suffix: str, style: str) -> bytes:
    """Return the content of the image file of a figure in a style of seaborn, in the format of the suffix."""
    import matplotlib
    import seaborn

    buffer = io.BytesIO()
    with matplotlib.rc_context({**seaborn.axes_style(style), "font.size": FONT_SIZE}), plain_text():
        draw_text(make).savefig(buffer, format=suffix[1:])
    return buffer.getvalue()


def _plain_ticks(drawing: Figure) -> None:
    """Replace the formulas of logarithmic axes by numbers."""
    from matplotlib.ticker import LogFormatter, LogFormatterMathtext, NullFormatter

    for axis in (axis for axes in drawing.get_axes() for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), LogFormatterMathtext):
            axis.set_major_formatter(LogFormatter())
        if isinstance(axis.get_minor_formatter(), LogFormatterMathtext):
            axis.set_minor_formatter(NullFormatter())


def unavailable(drawing: Figure) -> set[str]:
    """Return the characters of a figure that no installed font has; boxes are drawn in their place."""
    missing = _missing(drawing)
    return missing - {c for family in _families(missing) for c in missing if ord(c) in _installed()[family]}


def _plain_texts(drawing: Figure) -> None:
    """Let no text of a figure be a formula, nor have characters that would make an SVG malformed."""
    for text in _texts(drawing):
        text.set_parse_math(False)
        text.set_text("\n".join(map(printable, text.get_text().split("\n"))))


def _texts(drawing: Figure) -> list[Any]:
    from matplotlib.text import Text

    return drawing.findobj(Text)


def _missing(drawing: Figure) -> set[str]:
    """Return the characters of a figure that `FAMILY` lacks."""
    from matplotlib.font_manager import findfont

    characters = {c for text in _texts(drawing) for c in text.get_text()}
    own = _characters(findfont(FAMILY))
    return {c for c in characters if ord(c) not in own and c not in f"\n{JOINERS}"}


def _families(characters: Collection[str]) -> tuple[str, ...]:
    """Return the fewest installed fonts that have as many of the characters as possible."""
    wanted, chosen = {ord(c) for c in characters}, []
    while wanted:
        best = max(_installed(), key=lambda family: len(wanted & _installed()[family]), default="")
        if not best or not wanted & _installed()[best]:
            break
        chosen.append(best)
        wanted -= _installed()[best]
    return tuple(chosen)


@cache
def _installed() -> dict[str, frozenset[int]]:
    """Return the code points of every installed upright font of normal weight, in alphabetical order."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    for file in font_manager.findSystemFonts():  # matplotlib does not look again for newer ones
        if file not in known:
            with suppress(Exception):
                manager.addfont(file)
    upright = [entry for entry in manager.ttflist if entry.style == "normal" and entry.weight in REGULAR]
    files = {entry.name: entry.fname for entry in upright if not entry.name.startswith(UNUSED)}
    return {name: _characters(files[name]) for name in sorted(files)}


@cache
def _characters(file: str) -> frozenset[int]:
    """Return the code points of a font; none if it has pictures only, which matplotlib cannot draw."""
    from matplotlib import font_manager

    try:
        font = font_manager.get_font(file)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except Exception:  # a damaged file
        return frozenset()
