"""Fixtures of numbers from the original programs: NAME.json with settings, NAME.safetensors with arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file


@dataclass(frozen=True)
class Fixture:
    """Settings and arrays of a fixture, read at their first use."""

    folder: Path
    name: str

    @property
    def id(self) -> str:
        return f"{self.folder.name}/{self.name}"

    @property
    def informational(self) -> bool:
        """Whether the numbers depend on the implementation; they are reported and never fail."""
        return self.name.endswith("_INFORMATIONAL")

    @cached_property
    def meta(self) -> dict[str, Any]:
        meta = json.loads((self.folder / f"{self.name}.json").read_text(encoding="utf-8"))
        assert isinstance(meta, dict), f"{self.id}: the JSON is not an object"
        return meta

    @cached_property
    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        return load_file(self.folder / f"{self.name}.safetensors")

    def tree(self, prefix: str) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays below `prefix/`, by the rest of their names."""
        start = prefix.rstrip("/") + "/"
        return {name[len(start) :]: array for name, array in self.tensors.items() if name.startswith(start)}


def discover(folder: Path) -> list[Fixture]:
    """Return the fixtures of a folder by name; ground-truth files belong to the fixture that names them."""
    if not folder.is_dir():
        raise FileNotFoundError(f"--parity-dir {folder}: no such folder")
    names = {path.stem for path in folder.glob("*.json") if not path.stem.endswith("_gt")}
    names |= {path.stem for path in folder.glob("*.safetensors")}
    return [Fixture(folder, name) for name in sorted(names)]
