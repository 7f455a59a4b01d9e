"""Write the tables and figures of a study from its JSON files."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tal_bench.report.study.collect import ReportData

__all__ = ["summary", "write_report"]


def write_report(folder: Path, study: ReportData | None = None) -> list[Path]:
    """Write page, tables, `pairs.csv`, `runs.csv`, `trials.csv`, `summary.json`, and all figures.

    For studies with several objectives, `pareto.md`, `.csv`, `.png` and `.svg` are written, too. The study
    may be unfinished. Equal results give equal files.

    Args:
        folder: Folder of the study.
        study: Result of `collect` for the folder; None to collect it. Collecting takes about a second per
            final run on 200 videos, because of the intervals.

    Returns:
        Written files.

    Raises:
        InputError: There is no study, one of its files is malformed, or the folder is not writable.
        IncompleteReportError: Figures, the page or `runs.csv` could not be made, the last because of a
            malformed run of no row; the tables and all other files, which are its `files`, have been written.
    """
    from tal_bench.report.common.report_files import ReportFiles
    from tal_bench.report.study import pareto, tables
    from tal_bench.report.study.collect import collect
    from tal_bench.report.study.figures import FIGURES
    from tal_bench.report.study.page import page

    found = study or collect(folder)
    files = ReportFiles(folder, shlex.join(["tal-bench", "report", str(folder)]))
    files.write(
        {
            "table.md": tables.markdown(found),
            "table.csv": tables.csv(found),
            "table.tex": tables.latex(found),
            "summary.json": json.dumps(summary(found), indent=1) + "\n",
            **tables.pairs_csv(found),
            **pareto.tables(found),
        }
    )
    files.write(files.attempt("runs.csv, trials.csv", lambda: tables.data_files(found, folder)) or {})
    images = files.draw_all(FIGURES, found)
    text = files.attempt("page.html", lambda: page(found, images, folder))
    if text is not None:
        files.write({"page.html": text})
    return files.finish()


def summary(study: ReportData) -> dict[str, Any]:
    """Return the content of `summary.json`, with mAP in percent."""
    from tal_bench.report.study import columns, notes, pairs

    return {
        "study": study.record.spec.name,
        "complete": study.complete,
        "rows": [columns.line(study, row) | {"failures": dict(row.failures)} for row in study.rows],
        "interaction": asdict(study.interaction) if study.interaction else None,
        "headline": notes.headline(study),
        "findings": [*notes.findings(study), *pairs.sentences(study)],
        "provenance": notes.provenance(study),
        "notes": notes.notes(study),
    }
