"""The examples of docs/extend.md work as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tal_bench.data.registry import read_dataset_file

TEXT = (Path(__file__).parents[2] / "docs" / "extend.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_dataset_file_is_read(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(example, encoding="utf-8")
    spec = read_dataset_file(file)
    assert spec.channels("primary") == {"rgb": 96}
    assert spec.annotations == tmp_path / "annotations.json"


@pytest.mark.parametrize(
    ("kind", "name"), [("variants", "stem-only"), ("students", "conv-wide"), ("datasets", "mine")]
)
def test_plugins_are_short_and_listed(kind: str, name: str, tmp_path: Path) -> None:
    example = next(block for block in blocks("python") if f"{kind}.add" in block)
    assert len(example.strip().splitlines()) < 20
    file = tmp_path / "plugin.py"
    file.write_text(example, encoding="utf-8")
    command = [sys.executable, "-m", "tal_bench", "list", kind, "--plugin", str(file)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert name in listed
