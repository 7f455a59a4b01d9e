"""Write the files of a profile: tables, data and the figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.report_files import ReportFiles
from tal_bench.report.profile.figure import profile_figure
from tal_bench.report.profile.tables import Record, csv, markdown


def write_profile(records: Sequence[Record], folder: Path, provenance: Sequence[str]) -> list[Path]:
    """Write `profile.md`, `.csv`, `.json`, and the figure as `.png` and `.svg`.

    Returns:
        Written files.

    Raises:
        InputError: The folder is not writable.
        IncompleteReportError: The figure could not be drawn; the other files have been written.
    """
    content = {"provenance": list(provenance), "models": list(records)}
    files = ReportFiles(folder, "tal-bench profile")
    files.write(
        {
            "profile.md": markdown(records, provenance),
            "profile.csv": csv(records),
            "profile.json": json.dumps(content, indent=1) + "\n",
        }
    )
    figure = FigureDeclaration[Sequence[Record]](
        "profile", "Cost", "Cost of detectors.", lambda found: profile_figure(found, provenance), folder=""
    )
    files.draw_all([figure], records)
    return files.finish()
