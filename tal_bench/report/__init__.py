"""Tables and figures of a study, from its JSON files alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tal_bench.report.collect import Study

__all__ = ["summary", "write_report"]


def write_report(folder: Path, study: Study | None = None) -> list[Path]:
    """Write `table.md`, `table.csv`, `table.tex`, `summary.json`, `figure.png` and `figure.svg`.

    Of a study with several objectives also `pareto.md`, `.csv`, `.png` and `.svg`. Works on an unfinished
    study, and gives the same files from the same results.

    Args:
        folder: of a study.
        study: as `collect` gave it; collected when none. Its intervals are what takes time: about a second
            per final run on 200 videos.

    Returns:
        The files written.

    Raises:
        InputError: there is no study, one of its files is not what it should be, or it cannot be written.
    """
    from tal_bench.report import figures, pareto, tables
    from tal_bench.report.collect import collect
    from tal_bench.results import write_atomically

    study = study or collect(folder)
    files: dict[str, str | bytes] = {
        "table.md": tables.markdown(study),
        "table.csv": tables.csv(study),
        "table.tex": tables.latex(study),
        "summary.json": json.dumps(summary(study), indent=1) + "\n",
    }
    files |= {f"figure{suffix}": content for suffix, content in figures.render(study).items()}
    files |= pareto.files(study)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def summary(study: Study) -> dict[str, Any]:
    """The report as plain data, mAP in percent."""
    from tal_bench.report import notes, tables

    return {
        "study": study.record.spec.name,
        "complete": study.complete,
        "rows": [tables.line(study, row) | {"failures": dict(row.failures)} for row in study.rows],
        "interaction": asdict(study.interaction) if study.interaction else None,
        "findings": notes.findings(study),
        "provenance": notes.provenance(study),
        "notes": notes.notes(study),
    }
