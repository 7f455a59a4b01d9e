"""Write the files of a diagnosis: tables, data and figures."""

from __future__ import annotations

import json
from pathlib import Path

from tal_bench.report.common.plot_style import rendered
from tal_bench.report.diagnosis import figures
from tal_bench.report.diagnosis.summary import DiagnosisReport
from tal_bench.report.diagnosis.tables import TABLES, markdown, summary
from tal_bench.report.diagnosis.timelines import timelines_figure
from tal_bench.system.files import write_atomically


def write_diagnosis(report: DiagnosisReport, folder: Path) -> list[Path]:
    """Write `diagnosis.md`, `diagnosis.json`, a CSV per table, and figures as PNG and SVG.

    Returns:
        Written files.

    Raises:
        InputError: The folder is not writable.
    """
    files: dict[str, str | bytes] = {
        "diagnosis.md": markdown(report),
        "diagnosis.json": json.dumps(summary(report), indent=1) + "\n",
    }
    files |= {
        f"{name}.csv": getattr(report, name).to_csv(index=False, float_format="%.4f") for name in TABLES
    }
    drawings = {
        "profile": figures.profile_figure(report),
        "gains": figures.gains_figure(report),
        "groups": figures.groups_figure(report),
        "timelines": timelines_figure(report),
    }
    for name, drawing in drawings.items():
        if drawing is not None:
            files |= {f"{name}{suffix}": content for suffix, content in rendered(drawing).items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]
