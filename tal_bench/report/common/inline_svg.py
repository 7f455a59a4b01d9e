"""SVG files as parts of an HTML page."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

SVG, HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
REFERENCE = re.compile(r"url\(#([^)]+)\)")
COORDINATES = frozenset({"d", "x", "y", "width", "height", "points"})
"""Attributes that hold coordinates, which the page needs to a hundredth of a point."""
DECIMALS = re.compile(r"\d+\.\d{3,}")
COMMAND = re.compile(r"\s*([A-Za-z])\s*")
FONTS = re.compile(r"font-family:[^;]+(?:; |$)")
POINTS, PIXELS = 72, 96
"""Units per inch of SVG files of matplotlib and of a page."""


def inline_svg(content: bytes, prefix: str) -> tuple[str, int]:
    """Return an SVG file as an element of a page, and its width in CSS pixels.

    Ids that are referred to get the prefix, because the ids of a page are unique; other ids, metadata,
    namespaces, and style sheets, which would apply to the whole page, are removed. Coordinates are rounded.

    Args:
        content: SVG file of matplotlib.
        prefix: Name of the figure within the page.
    """
    root = ElementTree.fromstring(content)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(SVG) in ("metadata", "style"):
                parent.remove(child)
    used = {name for element in root.iter() for name in _references(element)}
    for element in root.iter():
        if (name := element.attrib.pop("id", None)) in used:
            element.set("id", f"{prefix}-{name}")
        if target := element.attrib.pop(HREF, ""):
            element.set("href", f"#{prefix}-{target[1:]}")
        for key, value in element.attrib.items():
            element.set(key, REFERENCE.sub(rf"url(#{prefix}-\1)", _shortened(key, value)))
        element.tag = element.tag.removeprefix(SVG)
        element.tail = None if element.tail is None or not element.tail.strip() else element.tail
    _declare_fonts_once(root)
    return ElementTree.tostring(root, encoding="unicode"), round(width * PIXELS / POINTS)


def _declare_fonts_once(root: ElementTree.Element) -> None:
    """Move the most frequent list of fonts from the elements to the root, from which they inherit it."""
    styles = [element.attrib.get("style", "") for element in root.iter()]
    lists = Counter(found[0] for found in map(FONTS.search, styles) if found)
    for fonts, _ in lists.most_common(1):
        for element in root.iter():
            if fonts in element.attrib.get("style", ""):
                element.set("style", element.attrib["style"].replace(fonts, ""))
        root.set("style", fonts)


def _shortened(key: str, value: str) -> str:
    """Return an attribute with rounded coordinates and without spaces around the commands of a path."""
    if key not in COORDINATES:
        return value
    rounded = DECIMALS.sub(_rounded, value)
    return COMMAND.sub(r"\1", rounded) if key == "d" else rounded


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _references(element: ElementTree.Element) -> list[str]:
    """Return the ids that an element refers to."""
    values = [REFERENCE.findall(value) for value in element.attrib.values()]
    return [element.attrib.get(HREF, "")[1:], *(name for found in values for name in found)]
