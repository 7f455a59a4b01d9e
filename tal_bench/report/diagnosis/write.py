"""The files of a diagnosis: tables, data and figures."""

from __future__ import annotations

import json
from pathlib import Path

from tal_bench.report.common.plot_style import rendered
from tal_bench.report.diagnosis import figures
from tal_bench.report.diagnosis.summary import Diagnosed
from tal_bench.report.diagnosis.tables import TABLES, markdown, summary
from tal_bench.report.diagnosis.timelines import timelines_figure
from tal_bench.system.files import write_atomically


def write_diagnosis(found: Diagnosed, folder: Path) -> list[Path]:
    """Write `diagnosis.md`, `diagnosis.json`, a CSV per table, and figures as PNG and SVG.

    Returns:
        The files written.

    Raises:
        InputError: the folder cannot be written.
    """
    files: dict[str, str | bytes] = {
        "diagnosis.md": markdown(found),
        "diagnosis.json": json.dumps(summary(found), indent=1) + "\n",
    }
    files |= {f"{name}.csv": getattr(found, name).to_csv(index=False, float_format="%.4f") for name in TABLES}
    drawings = {
        "profile": figures.profile_figure(found),
        "gains": figures.gains_figure(found),
        "groups": figures.groups_figure(found),
        "timelines": timelines_figure(found),
    }
    for name, drawing in drawings.items():
        if drawing is not None:
            files |= {f"{name}{suffix}": content for suffix, content in rendered(drawing).items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]
