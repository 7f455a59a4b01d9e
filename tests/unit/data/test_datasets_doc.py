"""docs/datasets.md says of every preset what the declaration says."""

from __future__ import annotations

from pathlib import Path

from layouts import BROUGHT

from tal_bench.data.registry import datasets
from tal_bench.inference.scoring import tiou_grid

TEXT = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
BEGIN, END = "<!-- presets:begin -->\n", "<!-- presets:end -->"


def table() -> str:
    """One row per preset, from its declaration."""
    lines = ["| name | looked for | streams | T | tIoU |", "| --- | --- | --- | ---: | --- |"]
    for name in BROUGHT:
        entry = datasets.get(name)
        spec = entry.spec(Path())
        streams = ", ".join(
            f"{stream} {m.channels}{'*' * (m.role == 'privileged')}" for stream, m in spec.modalities.items()
        )
        place = Path(entry.folders[0]) / entry.marker
        length = f"{spec.max_length}, resized" if spec.resize else str(spec.max_length)
        lines.append(f"| `{name}` | `{place.as_posix()}` | {streams} | {length} | {tiou_grid(spec.tiou)} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_that_of_the_declarations() -> None:
    assert TEXT.split(BEGIN)[1].split(END)[0] == table()
