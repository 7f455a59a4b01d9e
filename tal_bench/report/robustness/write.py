"""Write the files of a robustness test: tables, data and the figure."""

from __future__ import annotations

import json
from pathlib import Path

from tal_bench.evaluation.robustness import Robustness
from tal_bench.report.common.plot_style import rendered
from tal_bench.report.robustness.figure import robustness_figure
from tal_bench.report.robustness.tables import csv, markdown, summary
from tal_bench.system.files import write_atomically


def write_robustness(result: Robustness, folder: Path) -> list[Path]:
    """Write `robustness.md`, `.csv`, `.json`, and the figure as `.png` and `.svg`.

    Returns:
        Written files.

    Raises:
        InputError: The folder is not writable.
    """
    files: dict[str, str | bytes] = {
        "robustness.md": markdown(result),
        "robustness.csv": csv(result),
        "robustness.json": json.dumps(summary(result), indent=1, allow_nan=False) + "\n",
    }
    files |= {f"robustness{end}": content for end, content in rendered(robustness_figure(result)).items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]
