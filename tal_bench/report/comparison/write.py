"""Write the files of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

from tal_bench.errors import InputError
from tal_bench.report.common.report_files import ReportFiles
from tal_bench.report.common.tables import csv_table
from tal_bench.report.comparison import documents
from tal_bench.report.comparison.data import StudyComparison
from tal_bench.report.comparison.figures import FIGURES


def write_comparison(comparison: StudyComparison, folder: Path) -> list[Path]:
    """Write page, tables, `pairs.csv`, `ranks.csv`, `outcomes.csv`, `summary.json` and `figures/`.

    Args:
        comparison: Result of `compare`.
        folder: Folder for the files; created if missing.

    Returns:
        Written files.

    Raises:
        InputError: The folder is that of a study, or not writable.
        IncompleteReportError: A figure or the page could not be made; the other files, which are its `files`,
            have been written.
    """
    check_folder(folder)
    files = ReportFiles(folder, "tal-bench compare with the same arguments")
    files.write(
        {
            "table.md": documents.markdown(comparison),
            "table.tex": documents.latex(comparison),
            "table.csv": csv_table(comparison.table()),
            "pairs.csv": csv_table(comparison.pairs()),
            "ranks.csv": csv_table(comparison.mean_ranks()),
            "outcomes.csv": csv_table(comparison.wins()),
            "summary.json": json.dumps(documents.summary(comparison), indent=1) + "\n",
        }
    )
    images = files.draw_all(FIGURES, comparison)
    text = files.attempt("page.html", lambda: documents.page(comparison, images))
    if text is not None:
        files.write({"page.html": text})
    return files.finish()


def check_folder(folder: Path) -> None:
    """Check that a comparison does not replace the report of a study.

    Raises:
        InputError: The folder is that of a study.
    """
    if (folder / "study.json").exists():
        hint = "give a folder of its own, which keeps the report of the study"
        raise InputError("is the folder of a study", where=folder, hint=hint)
