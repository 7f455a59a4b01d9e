"""The result that the README shows is the one in reports/, number by number."""

from __future__ import annotations

import csv
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "reports" / "published" / "two-by-two-sprites"
BEGIN, END = "<!-- result:begin -->\n", "<!-- result:end -->"


def block(table: Path) -> str:
    """The README's table, from a study's table.csv."""
    lines = [
        "| row | sees | average mAP ↑ | against `none` [95 % CI] | params | GMACs | latency "
        "| s per minute of video (with TV-L1) |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            difference = "–"
            if row["delta_none"]:
                low, high = float(row["delta_none_low"]), float(row["delta_none_high"])
                unclear = "" if row["delta_none_clear"] == "True" else "≈ "
                difference = f"{unclear}{float(row['delta_none']):+.1f} [{low:+.1f}, {high:+.1f}]"
            name = f"*{row['row']}*" if row["kind"] != "student" else f"`{row['row']}`"
            lines.append(
                f"| {name} | {row['modalities']} "
                f"| {float(row['map_avg_mean']):.1f} ± {float(row['map_avg_sd']):.1f} | {difference} "
                f"| {float(row['params']) / 1e6:.2f} M | {float(row['gmacs']):.2f} "
                f"| {float(row['latency_ms']):.1f} ms "
                f"| {float(row['minute']):.2f} ({float(row['minute_with_flow_tvl1'] or row['minute']):.1f}) |"
            )
    return "\n".join(lines) + "\n"


def test_readme_shows_the_committed_report() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split(BEGIN)[1].split(END)[0]
    assert block(STUDY / "table.csv") in shown
    assert (STUDY / "figure.png").is_file()
