"""The LaTeX tables of a study compile, also with names that LaTeX or its fonts cannot take as they are."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fake_study import ROWS, write_fake_study

from tal_bench.report.common.tables import escape
from tal_bench.report.study.collect import ReportData, collect
from tal_bench.report.study.tables import latex

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""
NASTY = ('$_&%#{}~^\\<>"|', "emoji 🎬 ✓", "مرحبا", "Łódź, Gauß, ångström", "a – b — c … × · °", "行")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    folder = tmp_path_factory.mktemp("study")
    write_fake_study(folder, rows=ROWS[:6], trials=1)
    return collect(folder)


def with_names(study: ReportData, names: tuple[str, ...]) -> ReportData:
    """Return the study with other names of rows, models, teachers and modalities."""
    rows = [
        replace(
            row,
            record=row.record.model_copy(
                update={"name": name, "model": name, "modalities": name, "teachers": {"modal": name}}
            ),
        )
        for row, name in zip(study.rows, names, strict=True)
    ]
    return replace(study, rows=tuple(rows))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
@pytest.mark.parametrize("names", [None, NASTY], ids=["plain", "nasty"])
def test_the_tables_compile(study: ReportData, names: tuple[str, ...] | None, tmp_path: Path) -> None:
    text = latex(with_names(study, names) if names else study)
    (tmp_path / "a.tex").write_text(DOCUMENT % text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert (tmp_path / "a.pdf").is_file()
    assert "Overfull" not in log and "Missing character" not in log


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        ("<x>", "$<$x$>$"),
        ("Łódź", "Łódź"),
        ("🎬", "[U+1F3AC]"),
        ("ب", "[U+0628]"),
        ("a\tb", "a[U+FFFD]b"),
    ],
)
def test_characters_without_a_glyph_are_shown_by_their_code(text: str, escaped: str) -> None:
    assert escape(text) == escaped
