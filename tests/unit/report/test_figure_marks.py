"""Rows and values of figures in SVG files, and in the SVG of a page."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tal_bench.report.common.figure_marks import mark
from tal_bench.report.common.inline_svg import inline_svg
from tal_bench.report.common.plot_style import new_figure, rendered
from tal_bench.system.text import printable


@settings(max_examples=6, deadline=None)
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
@example("\"double\" 'single' <b> & \\", 'a"b')
@example("it's", "]]>\x00\n")
def test_any_text_reaches_the_svg(row: str, values: str) -> None:
    drawing = new_figure(2, 1)
    axes = drawing.subplots()
    mark(axes.errorbar([1, 2], [1, 2], yerr=[1, 1], capsize=2), row, values)
    mark(axes.plot([1, 2], [2, 1]), values=values)
    files = rendered(drawing)
    root = ElementTree.fromstring(files[".svg"])
    rows = [group for group in root.iter() if "data-row" in group.attrib]
    assert len(rows) == 1 + 2 + 1, "line, caps and bars"
    assert {group.attrib["data-row"] for group in rows} == {printable(row)}
    titles = [e.text for e in root.iter() if e.tag.endswith("}title") and "dc" not in e.tag]
    assert titles.count(printable(values)) == 5
    assert b"tal_bench:" not in files[".svg"]
    inline, width = inline_svg(files[".svg"], "one")
    assert width == 2 * 96
    parts = list(ElementTree.fromstring(inline).iter())
    assert [e.attrib["data-row"] for e in parts if "data-row" in e.attrib] == 4 * [printable(row)]
    assert all(e.attrib["id"].startswith("one-") for e in parts if "id" in e.attrib)


def test_equal_marks_give_equal_files() -> None:
    def content() -> dict[str, bytes]:
        drawing = new_figure(2, 1)
        mark(drawing.subplots().plot([1, 2]), "row", "values")
        return rendered(drawing)

    assert content() == content()


def test_coordinates_of_a_page_are_rounded_and_scales_are_not() -> None:
    content = (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36">'
        b'<g transform="scale(0.015625)"><path d="M -1.23456 10 \nL 0.994 7.000001"/></g></svg>'
    )
    (path,) = (e for e in ElementTree.fromstring(inline_svg(content, "one")[0]).iter() if e.tag == "path")
    assert path.attrib["d"] == "M-1.23 10L0.99 7"
    assert 'scale(0.015625)"' in inline_svg(content, "one")[0]


def test_fonts_are_declared_once() -> None:
    drawing = new_figure(2, 1)
    drawing.text(0.1, 0.1, "one", fontsize=7)
    drawing.text(0.5, 0.5, "two", fontsize=9)
    files = rendered(drawing)
    inline = inline_svg(files[".svg"], "one")[0]
    assert inline.count("font-family") == 1 < files[".svg"].count(b"font-family")
    root = ElementTree.fromstring(inline)
    assert "font-family" in root.attrib["style"]
    assert {e.attrib["style"][:10] for e in root.iter() if e.tag == "text"} == {"font-size:"}
