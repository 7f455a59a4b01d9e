"""Names may hold anything: figures, tables, pages and MLflow show them as they are."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import pytest
from fake_study import ROWS, write_fake_study
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from tal_bench.cli import main
from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.markup import code, escape_markdown, parts, plain
from tal_bench.report.common.plot_style import NAME_LENGTH, new_figure, rendered
from tal_bench.report.common.report_files import IncompleteReportError
from tal_bench.report.common.tables import escape
from tal_bench.report.study.collect import ReportData, collect
from tal_bench.report.study.drawings.accuracy_figures import classes_figure
from tal_bench.report.study.drawings.training_figures import PANEL_TITLE
from tal_bench.report.study.figures import FIGURES
from tal_bench.report.study.page import page
from tal_bench.report.study.tables import csv as csv_of
from tal_bench.report.study.tables import latex, markdown
from tal_bench.report.study.terminal import print_study
from tal_bench.report.study.write import write_report
from tal_bench.system import fonts
from tal_bench.system.text import REPLACEMENT, printable, shortened
from tal_bench.tracking.keys import plain as mlflow_key

DOLLARS = ("count $1_ and $5_ bills", "pay $5 # $10", "sit")
"""Class names whose dollars enclose what would be a malformed formula."""
NASTY = (
    *(*DOLLARS, "_hidden*name*", "`tick` | ``two``", "<b>bold</b> &amp; &", "[bold]x[/]", "[a](b) ~~c~~"),
    *(
        "line\nbreak\r\ttab",
        "\x00\x1b[2J\x7f",
        "中文 手势",
        "مرحبا بالعالم",
        "שלום",
        "👩‍💻 emoji 😀",
        "é e\u0301",
    ),
    *(
        "quotes \" ' and, commas",
        "=1+1",
        "\\alpha{x}^2 %&~",
        "$",
        "$$",
        r"$\frac{1$",
        "1",
        "nan",
        "NA",
        "x" * 200,
    ),
    *("../up/", "//", ".", " spaces  at ends ", "\u202ereversed", "conv-dw-" * 8, "-", "#"),
)
NAMES = st.sampled_from(NASTY) | st.text(min_size=1, max_size=60)


def renamed(study: ReportData, rows: Sequence[str], classes: Sequence[str], name: str = "") -> ReportData:
    """Return the study with other names of rows (except `none`), of classes and of the study."""
    others = iter(rows)
    names = {row.name: row.name if row.name == "none" else next(others) for row in study.rows}
    spec = study.record.spec.model_copy(update={"name": name or study.record.spec.name})

    def with_classes(result):  # type: ignore[no-untyped-def]
        values = result.per_class.values()
        return result.model_copy(update={"per_class": dict(zip(classes, values, strict=True))})

    return replace(
        study,
        record=study.record.model_copy(update={"spec": spec, "command": name}),
        rows=tuple(
            replace(
                row,
                record=row.record.model_copy(update={"name": names[row.name]}),
                results=tuple(map(with_classes, row.results)),
            )
            for row in study.rows
        ),
    )


CHOSEN = tuple(row for row in ROWS if row.name in ("actionformer", "conv-dw-primary", "none", "self", "both"))
ROW_NAMES = st.lists(
    NAMES.filter(lambda name: name not in ("none", "self")), min_size=4, max_size=4, unique=True
)
CLASS_NAMES = st.lists(NAMES, min_size=3, max_size=3, unique=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study")
    write_fake_study(path, trials=5, rows=CHOSEN, seeds=2, videos=4)
    return path


@pytest.fixture(scope="module")
def study() -> ReportData:
    return small_study()


@cache
def small_study() -> ReportData:
    """Return the study for tests with hypothesis, which would print a fixture."""
    with TemporaryDirectory() as path:
        write_fake_study(Path(path), trials=5, rows=CHOSEN, seeds=2, videos=4)
        return collect(Path(path))


def texts_of(drawing) -> list[str]:  # type: ignore[no-untyped-def]
    """Return the texts of a figure, without breaks between lines; none of them may be a formula."""
    found = drawing.findobj(lambda artist: hasattr(artist, "get_parse_math"))
    assert not any(text.get_parse_math() for text in found)
    return [text.get_text().replace("\n", "") for text in found]


@settings(max_examples=2, deadline=None)
@given(ROW_NAMES, CLASS_NAMES, NAMES)
@example([*DOLLARS, "_hidden"], list(NASTY[8:11]), NASTY[0])
def test_every_figure_shows_any_name(rows: list[str], classes: list[str], name: str) -> None:
    named = renamed(small_study(), rows, classes, name)
    students = rows[2:]
    for figure in FIGURES:
        drawing = figure.draw(named)
        if drawing is None:
            continue
        texts = " \n ".join(texts_of(drawing))
        assert printable(texts.replace("\n", "")) == texts.replace("\n", "")
        length = PANEL_TITLE if figure.name == "tuning" else NAME_LENGTH
        shown = {"figure": rows, "seeds": rows, "tiou": rows, "training": rows, "cost": rows[:2]}
        for row in shown.get(figure.name, () if figure.name in ("classes", "pareto") else students):
            assert shortened(row, length) in texts, (figure.name, row)
        if figure.name == "classes":
            assert all(shortened(label, NAME_LENGTH) in texts for label in classes)


def test_drawn_text_is_the_text_of_the_file(study: ReportData) -> None:
    drawing = FIGURES[2].draw(renamed(study, NASTY[:4], DOLLARS, "$a$"))
    assert drawing is not None
    files = rendered(drawing)
    words = ["".join(e.itertext()) for e in ElementTree.fromstring(files[".svg"]).iter() if "text" in e.tag]
    assert {*NASTY[:4], "none"} <= set(words)


def test_control_characters_leave_the_svg_well_formed(study: ReportData) -> None:
    drawing = FIGURES[2].draw(renamed(study, ("a\x00b", "c\x1b[2J", "d\ne", "\x9b"), DOLLARS, "\x01"))
    assert drawing is not None
    ElementTree.fromstring(rendered(drawing)[".svg"])


def test_logarithmic_axes_have_numbers() -> None:
    def make():  # type: ignore[no-untyped-def]
        drawing = new_figure(3, 2)
        drawing.subplots().loglog([1, 1000], [0.01, 20])
        return drawing

    drawing = FigureDeclaration[None]("own", "Own", "Own.", lambda _: make()).draw(None)
    assert drawing is not None
    drawing.draw_without_rendering()
    assert not [text for text in texts_of(drawing) if "$" in text or "math" in text]


@pytest.mark.parametrize(
    "names", [[f"row {k} of nine" for k in range(9)], ["n" * 60, "-".join("abcdef" * 5)]]
)
def test_heads_of_classes_do_not_overlap(study: ReportData, names: list[str]) -> None:
    both = next(row for row in study.rows if row.name == "both")
    none = next(row for row in study.rows if row.name == "none")
    rows = [replace(both, record=both.record.model_copy(update={"name": name})) for name in names]
    drawing = classes_figure(replace(study, rows=(none, *rows)))
    assert drawing is not None
    drawing.draw_without_rendering()
    boxes = [label.get_window_extent() for label in drawing.axes[0].get_xticklabels()]
    assert len(boxes) == len(names)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert all(box.y1 < drawing.bbox.height and box.y0 > 0 for box in boxes)


@pytest.fixture
def classes_only() -> Iterator[None]:
    """Draw only the figure of classes, since the others take seconds."""
    declared = list(FIGURES)
    FIGURES[:] = [figure for figure in declared if figure.name == "classes"]
    yield
    FIGURES[:] = declared


@pytest.mark.usefixtures("classes_only")
def test_report_of_a_study_with_dollars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fake_study.CLASSES", DOLLARS)
    write_fake_study(tmp_path, rows=CHOSEN, seeds=1, videos=3, trials=1)
    names = {file.name for file in write_report(tmp_path)}
    assert {"table.md", "page.html", "classes.png"} <= names


@pytest.fixture
def broken() -> Iterator[None]:
    """Declare a figure that cannot be drawn, and no others."""

    def fail(study: ReportData) -> None:
        raise ValueError("no such\nglyph")

    declared = list(FIGURES)
    FIGURES[:] = [FigureDeclaration("broken", "Cost", "Broken.", fail)]
    yield
    FIGURES[:] = declared


@pytest.mark.usefixtures("broken")
def test_a_figure_that_fails_costs_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in folder.glob("table.*"):
        file.unlink()
    with pytest.raises(IncompleteReportError, match=r"figures/broken \(ValueError: no such\)") as raised:
        write_report(folder)
    assert raised.value.exit_code == 1
    tables = {"table.md", "table.csv", "table.tex", "pairs.csv", "summary.json", "page.html"}
    tables |= {"runs.csv", "trials.csv"}
    assert {file.name for file in raised.value.files} == tables
    assert all((folder / name).is_file() for name in tables)
    assert main(["report", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "both" in printed.out and len(printed.err.splitlines()) == 1
    assert f"tal-bench report {folder}" in printed.err
    del FIGURES[:]
    assert main(["report", str(folder)]) == 0, "repaired"


@pytest.mark.usefixtures("broken")
def test_a_page_that_fails_costs_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del FIGURES[:]

    def fail(*arguments: object) -> str:
        raise RuntimeError("template")

    monkeypatch.setattr("tal_bench.report.study.page.page", fail)
    with pytest.raises(IncompleteReportError, match=r"page.html \(RuntimeError: template\)"):
        write_report(folder)
    assert (folder / "table.csv").is_file()


@settings(max_examples=8, deadline=None)
@given(ROW_NAMES, NAMES)
@example(list(NASTY[8:12]), "=1+1")
def test_tables_read_back_to_the_same_names(rows: list[str], name: str) -> None:
    named = renamed(small_study(), rows, DOLLARS, name)
    wanted = [row.name for row in named.rows]
    lines = list(csv.DictReader(io.StringIO(csv_of(named), newline="")))
    assert [line["row"] for line in lines] == wanted
    assert {line["study"] for line in lines} == {name}
    for block in (b for b in markdown(named).split("\n\n") if b.startswith("| Row |")):
        tokens = MarkdownIt("commonmark").enable("table").parse(block)
        cells = [t for k, t in enumerate(tokens) if t.type == "inline" and tokens[k - 1].type == "td_open"]
        shown = ["".join(child.content for child in cell.children or ()) for cell in cells]
        assert {printable(row).strip() for row in wanted} <= set(shown), block
    body = [line for line in latex(named).split("\n") if not line.startswith("%")]
    assert sum(line.endswith(r" \\") for line in body) == 3 * (1 + len(wanted))


@settings(max_examples=50, deadline=None)
@given(NAMES)
@example("`a` *b* _c_ <d> [e](f) $g$ h|i &amp; \\j ~~k~~")
def test_markdown_shows_text(text: str) -> None:
    shown = printable(text)
    parsed = MarkdownIt("commonmark").enable("strikethrough").parseInline(f"x{escape_markdown(text)}x")[0]
    assert {child.type for child in parsed.children or ()} <= {"text", "text_special"}
    assert "".join(child.content for child in parsed.children or ()) == f"x{shown}x"
    if shown.strip():
        (span,) = MarkdownIt("commonmark").parseInline(code(text))[0].children or ()
        assert span.type == "code_inline" and span.content.strip() == shown.strip()
        assert [part for part, is_code in parts(f"of {code(text)}.") if is_code] == [shown]
        assert plain(f"of {code(text)}.") == f"of {shown}."


class CellTexts(HTMLParser):
    """HTML parser that records tags and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@settings(max_examples=10, deadline=None)
@given(ROW_NAMES, NAMES)
@example(["<script>alert(1)</script>", "`<i>`", "&lt;", "\x00\x1b[2J"], "</title><img src=x>")
def test_the_page_shows_names(rows: list[str], name: str) -> None:
    found = CellTexts()
    found.feed(page(renamed(small_study(), rows, DOLLARS, name), {}))
    assert not {"i", "img"} & set(found.tags)
    assert found.tags.count("script") == 2, "those of tables and figures"
    texts = " ".join(found.texts)
    assert all(printable(row) in texts for row in rows)


@settings(max_examples=50, deadline=None)
@given(NAMES)
def test_latex_is_on_one_line(text: str) -> None:
    assert len(escape(text).splitlines()) <= 1
    assert not re.search(r"(?<!\\)[#%&_]", escape(text.replace("\\", "")))


@settings(deadline=None)
@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
@example(["a//b", "../x"])
@example(["x" * 300, "x" * 301])
def test_mlflow_accepts_any_name(names: list[str]) -> None:
    from mlflow.utils.validation import _validate_metric_name

    keys = [mlflow_key(f"per_class/{name}") for name in names]
    for key in keys:
        _validate_metric_name(key)
        assert len(key) <= 250
    assert mlflow_key("per_class/high jump") == "per_class/high jump"


@given(st.text(), st.integers(3, 40))
def test_shortened_text_keeps_both_ends(text: str, length: int) -> None:
    short = shortened(text, length)
    assert len(short) == min(len(text), length)
    assert short == printable(text) or (short[0], short[-1]) == (printable(text)[0], printable(text)[-1])


def test_what_is_printable() -> None:
    for text in ("é", "a\u00a0b\u3000c", "می\u200cشود", "👩\u200d💻", "中文"):
        assert printable(text) == text
    for text in "\n\t\x1b\x9b\u202e\u2028\ud800":
        assert printable(text) == REPLACEMENT


@pytest.fixture
def han_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A font that is installed after matplotlib has listed the fonts, with a glyph for 中."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((0, 700))
    pen.lineTo((900, 700))
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "han"])
    builder.setupCharacterMap({ord("中"): "han"})
    builder.setupGlyf({".notdef": pen.glyph(), "han": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "han": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test Han", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(tmp_path / "han.ttf")
    known = list(font_manager.fontManager.ttflist)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_, **__: [str(tmp_path / "han.ttf")])
    fonts._installed.cache_clear()
    yield tmp_path / "han.ttf"
    fonts._installed.cache_clear()
    font_manager.fontManager.ttflist[:] = known


def test_installed_fonts_serve_for_missing_glyphs(study: ReportData, han_font: Path) -> None:
    drawing = FIGURES[2].draw(renamed(study, ("中", "b", "c", "d"), DOLLARS))
    assert drawing is not None
    label = next(text for text in drawing.axes[0].get_yticklabels() if text.get_text() == "中")
    assert label.get_fontfamily()[:2] == [fonts.FAMILY, "Test Han"]
    assert not fonts.unavailable(drawing)


@pytest.mark.usefixtures("classes_only")
def test_glyphs_that_no_font_has_are_named_once(
    study: ReportData, tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    missing = "\U000200aa\U000200ab"
    with caplog.at_level(logging.WARNING):
        write_report(tmp_path, renamed(study, "abcd", (missing, "b", "c")))
    (line,) = [record.getMessage() for record in caplog.records if "font" in record.getMessage()]
    assert "no installed font has \U000200aa \U000200ab" in line
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_output_replaces_what_its_encoding_lacks(
    encoding: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = folder / "copy.json"
    copy.write_text(
        json.dumps(
            {"database": {"中 😀": {"subset": "test", "annotations": [{"segment": [0, 1], "label": "手 −"}]}}}
        )
    )
    detections = folder / "found.json"
    detections.write_text(
        json.dumps({"results": {"中 😀": [{"segment": [0, 1], "label": "手 −", "score": 1}]}})
    )
    truth = ["--ground-truth", str(copy)]
    files = [str(detections)]
    monkeypatch.setattr("tal_bench.report.study.figures.FIGURES", FIGURES[:0])
    for words in (
        ["list"],
        ["list", "settings"],
        ["data", "list"],
        ["report", str(folder)],
        ["evaluate", *truth, "--detections", *files, "--per-class"],
        ["diagnose", *files, *truth],
        ["--help"],
        ["report", "中 −\udcff"],
    ):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        rc = main(words)
        out.flush()
        err.flush()
        shown = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]  # type: ignore[attr-defined]
        assert rc == (2 if words[-1].startswith("中") else 0), shown
        assert "internal error" not in shown[1]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("length", [8, 60])
def test_table_of_a_study_at_any_width(study: ReportData, width: int, length: int) -> None:
    names = [f"{k}".rjust(length, "n") for k in range(4)]
    named = renamed(study, names, DOLLARS)
    named = replace(named, rows=tuple(replace(row, results=row.results[:1]) for row in named.rows))
    console = Console(width=width, file=io.StringIO(), record=True)
    print_study(named, console)
    lines = console.export_text().splitlines()
    assert max(map(cell_len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    assert set(names) <= words
    for row in named.rows:
        assert f"{row.mean():.1f}" in words
        for found in row.differences.values():
            assert found.estimate is not None
