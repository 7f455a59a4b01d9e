"""Commands beside `ablate` that start worker processes have one per GPU by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tal_bench.cli import main
from tal_bench.errors import InputError
from tal_bench.extraction import workers
from tal_bench.system import gpus
from tal_bench.system.gpus import VARIABLE


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("command", ["features extract", "robustness"])
def test_the_default_number_of_processes(
    command: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int]] = []

    def extract_files(*args: Any, jobs: int, device: str, **named: Any) -> Any:
        given.append((device, jobs))
        raise InputError("enough")

    def measure_robustness(what: Any, options: Any, **named: Any) -> Any:
        given.append((options.device, options.jobs))
        raise InputError("enough")

    monkeypatch.setattr(gpus, "visible_gpus", lambda: ("GPU-a", "GPU-b", "GPU-c"))
    monkeypatch.setattr(gpus, "default_jobs", lambda: 7)
    monkeypatch.setattr("tal_bench.training.device.choose_device", lambda name: name)
    monkeypatch.setattr("tal_bench.extraction.video_files.extract_files", extract_files)
    monkeypatch.setattr("tal_bench.inference.robustness.measure_robustness", measure_robustness)
    video = tmp_path / "a.mp4"
    video.touch()
    flags = ["--out", str(tmp_path / "out"), "--modality", "rgb"] if command == "features extract" else []
    for jobs in ([], ["--jobs", "5"]):
        assert main([*command.split(), str(video), "--device", device, *flags, *jobs]) == 2
    assert given == [(device, 3 if device == "cuda" else 7), (device, 5)]


def test_processes_that_extract_features_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    class StopError(Exception):
        pass

    def pool(jobs: int, initializer: Any, *, environments: Any) -> Any:
        given.append([variables.get(VARIABLE, "") for variables in environments])
        raise StopError

    monkeypatch.setattr(gpus, "visible_gpus", lambda: ("GPU-a", "MIG-b"))
    monkeypatch.setattr(workers, "LocalWorkerPool", pool)
    for items, device in (([1, 2, 3], "cuda"), ([1], "cuda"), ([1, 2, 3], "cpu")):
        with pytest.raises(StopError):
            list(workers.map_items(str, items, 3, str, device))
    assert given == [["GPU-a", "MIG-b", "GPU-a"], ["GPU-a"], []]
