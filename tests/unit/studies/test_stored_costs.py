"""Costs of a study are measured once per hardware, also what a minute of video costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from study_parts import run_specs

from tal_bench.studies import costs
from tal_bench.training.device import Device


def test_extraction_is_measured_once_on_every_kind_of_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    names = {"cpu": "a processor", "cuda": "NVIDIA A100"}

    def seconds(dataset: object, device: str) -> dict[str, float]:
        measured.append(names[device])
        return {"decode": float(len(measured))}

    monkeypatch.setattr(costs, "extraction_seconds", seconds)
    monkeypatch.setattr(costs, "hardware_name", lambda device: names[device.type])

    def extraction(device: str) -> dict[str, float]:
        return costs._extraction(run_specs(), tmp_path, Device(device), Console(quiet=True))

    assert [extraction(device)["decode"] for device in ("cpu", "cuda", "cpu", "cuda")] == [1, 2, 1, 2]
    names |= {"cpu": "another processor", "cuda": "NVIDIA H200"}
    assert [extraction(device)["decode"] for device in ("cpu", "cuda", "cpu", "cuda")] == [3, 4, 3, 4]
    assert measured == ["a processor", "NVIDIA A100", "another processor", "NVIDIA H200"]
