"""Write the files of a profile: tables, data and the figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tal_bench.report.common.plot_style import rendered
from tal_bench.report.profile.figure import profile_figure
from tal_bench.report.profile.tables import Record, csv, markdown
from tal_bench.system.files import write_atomically


def write_profile(records: Sequence[Record], folder: Path, provenance: Sequence[str]) -> list[Path]:
    """Write `profile.md`, `.csv`, `.json`, and the figure as `.png` and `.svg`.

    Returns:
        Written files.

    Raises:
        InputError: The folder is not writable.
    """
    content = {"provenance": list(provenance), "models": list(records)}
    files: dict[str, str | bytes] = {
        "profile.md": markdown(records, provenance),
        "profile.csv": csv(records),
        "profile.json": json.dumps(content, indent=1) + "\n",
    }
    images = rendered(profile_figure(records, provenance))
    files |= {f"profile{end}": image for end, image in images.items()}
    for name, text in files.items():
        write_atomically(folder / name, text)
    return [folder / name for name in files]
