"""Test that the table of docs/datasets.md matches the declared presets."""

from __future__ import annotations

from pathlib import Path

from layouts import EXTERNAL_DATASETS

from tal_bench.data.registry import datasets
from tal_bench.inference.scoring import tiou_grid

TEXT = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
BEGIN, END = "<!-- presets:begin -->\n", "<!-- presets:end -->"


def table() -> str:
    """Return the table with one row per declared preset."""
    lines = ["| name | looked for | streams | T | tIoU |", "| --- | --- | --- | ---: | --- |"]
    for name in EXTERNAL_DATASETS:
        entry = datasets.get(name)
        spec = entry.spec(Path())
        streams = ", ".join(
            f"{stream} {m.channels}{'*' * (m.role == 'privileged')}" for stream, m in spec.modalities.items()
        )
        place = Path(entry.folders[0]) / entry.marker
        length = f"{spec.max_length}, resized" if spec.resize else str(spec.max_length)
        lines.append(f"| `{name}` | `{place.as_posix()}` | {streams} | {length} | {tiou_grid(spec.tiou)} |")
    return "\n".join(lines) + "\n"


def test_table_matches_the_declarations() -> None:
    assert TEXT.split(BEGIN)[1].split(END)[0] == table()
