"""Write the tables and figures of a study from its JSON files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tal_bench.report.study.collect import ReportData

__all__ = ["draw", "summary", "write_report"]


def write_report(folder: Path, study: ReportData | None = None) -> list[Path]:
    """Write page, tables, `pairs.csv`, `summary.json`, `figure.png` and `.svg`, and `figures/`.

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
    """
    from tal_bench.report.study import pareto, tables
    from tal_bench.report.study.collect import collect
    from tal_bench.report.study.figures import FIGURES
    from tal_bench.report.study.page import page
    from tal_bench.system.files import write_atomically

    study = study or collect(folder)
    images = draw(study)
    files: dict[str, str | bytes] = {
        "page.html": page(study, {name: image[".png"] for name, image in images.items()}, folder),
        "table.md": tables.markdown(study),
        "table.csv": tables.csv(study),
        "table.tex": tables.latex(study),
        "summary.json": json.dumps(summary(study), indent=1) + "\n",
        **tables.pairs_csv(study),
        **pareto.tables(study),
    }
    for figure in FIGURES:
        path = Path(figure.folder, figure.name).as_posix()
        files |= {f"{path}{suffix}": image for suffix, image in images.get(figure.name, {}).items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def draw(study: ReportData) -> dict[str, dict[str, bytes]]:
    """Draw all figures for which the study has data; return their content by name and suffix."""
    from tal_bench.report.common.plot_style import rendered
    from tal_bench.report.study.figures import FIGURES

    drawings = {figure.name: figure.draw(study) for figure in FIGURES}
    return {name: rendered(drawing) for name, drawing in drawings.items() if drawing is not None}


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
