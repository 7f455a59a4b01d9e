"""The README shows the result in reports/, and its examples work.

`PYTHONPATH=tests python tests/unit/docs/test_readme.py` updates the result in the README.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from processes import ForkedCommands

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
STUDY = ROOT / "reports" / "published" / "two-by-two-sprites"
BLOCKS = ("headline", "result")
OMITTED = {"conv-dw", "conv", "actionformer-privileged"}
"""Rows of the full table that the README omits."""


def blocks(study: Path) -> dict[str, str]:
    """Return the sentences and the table of the README from summary.json and table.csv of a study."""
    headline = json.loads((study / "summary.json").read_text(encoding="utf-8"))["headline"]
    lines = [
        "| row | reads | average mAP ↑ | against `none` [95 % CI] | params | s per minute of video (TV-L1) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    with (study / "table.csv").open(encoding="utf-8") as file:
        lines += [_line(row) for row in csv.DictReader(file) if row["row"] not in OMITTED]
    sentences = [f"**{line}**" for line in headline]
    return {name: "\n".join(found) + "\n" for name, found in zip(BLOCKS, (sentences, lines), strict=True)}


def replaced(text: str, name: str, content: str) -> str:
    """Return the text of the README with another content between the marks of a block."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, rest = text.split(begin)
    return before + begin + content + end + rest.split(end)[1]


def _line(row: dict[str, str]) -> str:
    difference = "–"
    if row["delta_none"]:
        low, high = float(row["delta_none_low"]), float(row["delta_none_high"])
        unclear = "" if row["delta_none_clear"] == "True" else "≈ "
        difference = f"{unclear}{float(row['delta_none']):+.1f} [{low:+.1f}, {high:+.1f}]"
        difference = difference.replace(" ", "\N{NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")
    spread = f"{float(row['map_avg_mean']):.1f} ± {float(row['map_avg_sd']):.1f}".replace(
        " ", "\N{NO-BREAK SPACE}"
    )
    name = f"*{row['row']}*" if row["kind"] != "student" else f"`{row['row']}`"
    return (
        f"| {name} | {row['modalities']} "
        f"| {spread} | {difference} "
        f"| {float(row['params']) / 1e6:.2f} M "
        f"| {float(row['minute']):.2f} ({float(row['minute_with_flow_tvl1'] or row['minute']):.1f}) |"
    )


def test_readme_shows_the_committed_report() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(replaced(text, name, content) == text for name, content in blocks(STUDY).items())
    assert (STUDY / "figure.png").is_file()


def test_links_have_targets() -> None:
    pages = [README, *sorted((ROOT / "docs").glob("*.md"))]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


@pytest.mark.parametrize(("kind", "name"), [("students", "conv-wide"), ("variants", "stem-only")])
def test_plugins_of_the_readme_work(kind: str, name: str, tmp_path: Path, commands: ForkedCommands) -> None:
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    example = next(text for text in examples if f"{kind}.add" in text)
    assert len(example.splitlines()) < 20
    file = tmp_path / "plugin.py"
    file.write_text(example, encoding="utf-8")
    code, listed = commands.run(["list", kind, "--plugin", file])
    assert code == 0 and name in listed, listed


if __name__ == "__main__":
    readme = README.read_text(encoding="utf-8")
    for block_name, block_content in blocks(STUDY).items():
        readme = replaced(readme, block_name, block_content)
    README.write_text(readme, encoding="utf-8")
