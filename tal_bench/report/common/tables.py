"""A table of a report, and its writers: Markdown, LaTeX (booktabs) and CSV; the page has a template."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from csv import QUOTE_NONNUMERIC
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tal_bench.report.common.markup import code, escape_markdown
from tal_bench.system.text import printable

if TYPE_CHECKING:
    import pandas as pd

DASH = "–"
BEST = "best"
"""Class of the cell with the best value of a column."""
TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "≈": r"$\approx$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "°": r"$^\circ$",
    "<": r"$<$",
    ">": r"$>$",
    '"': "''",
    "|": r"$|$",
    "\N{NO-BREAK SPACE}": "~",
}
"""Characters with a meaning or without a glyph in LaTeX's default encoding, and what stands for them."""
LETTERS = frozenset("ßæÆœŒøØåÅłŁ")
ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
"""Accents that LaTeX's default encoding puts on letters."""
RESIZE = r"\noindent\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""LaTeX command that shrinks a table to the width of the text if it is wider."""


@dataclass(frozen=True)
class Cell:
    """Cell of a table.

    Attributes:
        main: Text.
        below: Smaller text below it on the page, after it elsewhere.
        classes: CSS classes on the page.
        code: Whether Markdown shows the text as code.
        link: Address that Markdown links the text to; empty for none.
    """

    main: str
    below: str = ""
    classes: str = ""
    code: bool = False
    link: str = ""

    @property
    def line(self) -> str:
        """The whole text on one line."""
        return f"{self.main} {self.below}".rstrip()


@dataclass(frozen=True)
class Header:
    """Header of a column, with its unit and direction apart.

    Attributes:
        name: Name, with the direction if there is no unit.
        unit: Unit, with the direction.
        text: Whether the column has texts, which are left-aligned.
        pinned: Whether the column stays in view, as the first one does, on pages narrower than the table.
    """

    name: str
    unit: str = ""
    text: bool = False
    pinned: bool = False

    @property
    def line(self) -> str:
        """The whole text on one line."""
        return f"{self.name} {self.unit}".rstrip()


@dataclass(frozen=True)
class Group:
    """Lines of a table with a common heading, which may be empty."""

    name: str
    lines: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Table:
    """Table with headers and groups of lines."""

    columns: Sequence[Header]
    groups: Sequence[Group]
    title: str = ""


def plain_table(
    headers: Sequence[str],
    lines: Iterable[Sequence[str | Cell]] = (),
    *,
    text: int = 1,
    groups: Sequence[Group] = (),
) -> Table:
    """Return a table from lines or from groups of lines, whose first `text` columns are left-aligned."""
    columns = [Header(name, text=k < text) for k, name in enumerate(headers)]
    return Table(columns, groups or [text_group("", lines)])


def text_group(name: str, lines: Iterable[Sequence[str | Cell]]) -> Group:
    """Return a group of lines of texts."""
    return Group(name, [[Cell(text) if isinstance(text, str) else text for text in line] for line in lines])


def markdown_table(table: Table) -> str:
    """Return a table as Markdown, the best values in bold."""
    # Some Markdown renderers turn `@0` into a link to a user.
    lines = [[escape_markdown(column.line.removeprefix("@")) for column in table.columns]]
    lines.append(["---" if column.text else "---:" for column in table.columns])
    for group in table.groups:
        if group.name:
            lines.append([f"*{group.name}*", *[""] * (len(table.columns) - 1)])
        lines += [[_bold(cell, _markdown_cell(cell), "**") for cell in line] for line in group.lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex_table(table: Table) -> str:
    """Return a table for LaTeX with a rule between groups, the best values in bold."""
    alignment = "".join("l" if column.text else "r" for column in table.columns)
    lines = [RESIZE, rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    lines.append(" & ".join(map(_latex_header, table.columns)) + r" \\")
    for group in table.groups:
        lines.append(r"\midrule")
        texts = [[_bold(c, escape(c.line), r"\textbf{", "}") for c in line] for line in group.lines]
        lines += [_latex_line(line) for line in texts]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", ""])


def csv_table(table: pd.DataFrame, digits: int | None = None) -> str:
    """Return a table as CSV, with all digits by default; missing values are empty."""
    write = partial(
        table.to_csv,
        index=False,
        lineterminator="\n",
        float_format=None if digits is None else f"%.{digits}f",
    )
    text = str(write())
    # A carriage return is not quoted by default, and readers take it for the end of a line.
    return str(write(quoting=QUOTE_NONNUMERIC)) if "\r" in text else text


def escape(text: str) -> str:
    """Escape text for LaTeX; a character that pdfLaTeX cannot print becomes its code, such as `[U+1F600]`."""
    text = printable(text)
    return "".join(TEX.get(c) or (c if _is_printed(c) else f"[U+{ord(c):04X}]") for c in text)


def _is_printed(character: str) -> bool:
    """Whether pdfLaTeX prints a character without further packages."""
    base, *accents = list(unicodedata.normalize("NFD", character))
    plain = base.isascii() and base.isprintable()
    return character in LETTERS or (plain and len(accents) < 2 and ACCENTS.issuperset(accents))


def _bold(cell: Cell, text: str, before: str, after: str = "") -> str:
    return f"{before}{text}{after or before}" if cell.classes == BEST else text


def _markdown_cell(cell: Cell) -> str:
    main = code(cell.main).replace("|", r"\|") if cell.code else escape_markdown(cell.main)
    return f"{f'[{main}]({cell.link})' if cell.link else main} {escape_markdown(cell.below)}".rstrip()


def _latex_line(texts: Sequence[str]) -> str:
    r"""Return a line; `{}` in front of what the `\\` of the line above would take for its argument."""
    guard = "{}" if texts[0].startswith(("[", "*")) else ""
    return guard + " & ".join(texts) + r" \\"


def _latex_header(header: Header) -> str:
    r"""Return a header with its unit on a second line; `\\{}` since `\\[` would start an option."""
    if not header.unit:
        return escape(header.name)
    return rf"\shortstack[r]{{{escape(header.name)}\\{{}}{escape(header.unit)}}}"
