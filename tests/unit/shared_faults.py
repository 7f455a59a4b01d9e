"""Small inputs that once went wrong: committed excerpts, and the same kinds of files in another folder."""

from __future__ import annotations

from pathlib import Path

COMMITTED = Path(__file__).parent / "faults"
SIBLING = Path(__file__).parents[3] / "shared" / "faults"
"""Folder beside the checkout with further inputs."""


def fault_files(kind: str) -> list[Path]:
    """Return the folders of a kind of inputs: `labels`, `annotations`."""
    return [folder / kind for folder in (COMMITTED, SIBLING) if (folder / kind).is_dir()]
