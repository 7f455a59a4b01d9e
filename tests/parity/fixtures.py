"""Fixtures of numbers from the original programs: NAME.json with settings, NAME.safetensors with arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file


class FixtureError(Exception):
    """A fixture or a folder of fixtures that cannot be read; the message names it."""


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
        file = self.folder / f"{self.name}.json"
        try:
            meta = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FixtureError(f"{file}: no such file beside {self.name}.safetensors") from None
        except ValueError as error:
            raise FixtureError(f"{file}: not JSON: {error}") from None
        if not isinstance(meta, dict):
            raise FixtureError(f"{file}: the JSON is not an object")
        return meta

    @cached_property
    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        file = self.folder / f"{self.name}.safetensors"
        try:
            return load_file(file)
        except FileNotFoundError:
            raise FixtureError(f"{file}: no such file beside {self.name}.json") from None
        except SafetensorError as error:
            raise FixtureError(f"{file}: not readable: {error}") from None

    def tree(self, prefix: str) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays below `prefix/`, by the rest of their names."""
        start = prefix.rstrip("/") + "/"
        return {name[len(start) :]: array for name, array in self.tensors.items() if name.startswith(start)}


def discover(folder: Path) -> list[Fixture]:
    """Return the fixtures of a folder by name; a ground-truth file belongs to the fixture that names it.

    Raises:
        FixtureError: If the folder does not exist, or holds no fixture.
    """
    if not folder.is_dir():
        raise FixtureError(f"--parity-dir {folder}: no such folder")
    names = {path.stem for path in folder.iterdir() if path.suffix in (".json", ".safetensors")}
    fixtures = [Fixture(folder, name) for name in sorted(names)]
    truth = {_ground_truth(fixture) for fixture in fixtures}
    found = [one for one in fixtures if f"{one.name}.json" not in truth and not one.name.endswith("_gt")]
    if not found:
        raise FixtureError(f"--parity-dir {folder}: no fixture, which is a NAME.json and a NAME.safetensors")
    return found


def _ground_truth(fixture: Fixture) -> str | None:
    """Return the name of the ground-truth file of a fixture; None if it has none or cannot be read."""
    try:
        return fixture.meta.get("gt_json")
    except FixtureError:
        return None  # reported by the comparison of this fixture
