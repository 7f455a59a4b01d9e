"""`--deterministic`: part of the runs of a GPU, without meaning on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from study_parts import run_spec, run_specs
from tiny import write_dataset

from tal_bench.config import RunSpec, StudySpec
from tal_bench.data.registry import read_dataset_file
from tal_bench.data.splits import with_fingerprint
from tal_bench.distill.variants import variants
from tal_bench.profiling import training as profiling
from tal_bench.results.folder import StudyFolder
from tal_bench.studies import setup
from tal_bench.studies.plan import StudyPlan
from tal_bench.studies.run import JobFactory, _Attempt
from tal_bench.system.arithmetic.determinism import VARIABLE
from tal_bench.training import device as device_module
from tal_bench.training.device import Device

STUDENT = "conv-dw-hallucinated"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def plan_of(tmp_path: Path, **fields: Any) -> StudyPlan:
    file = tmp_path / "tiny" / "dataset.yaml"
    if not file.exists():
        write_dataset(file.parent)
    dataset = with_fingerprint(read_dataset_file(file)).at(Path.cwd())
    spec = StudySpec(name="s", dataset=str(file), variants=("both",), budget="smoke", **fields)
    return setup.planned(spec, dataset)[0]


def test_runs_of_a_gpu_know_it() -> None:
    specs = run_specs(device="cuda", deterministic=True)
    teachers = {
        role: specs.on_labels(specs.teacher_of(ref, STUDENT, "actionformer"), "final", 0, {})
        for role, ref in variants.get("both").teachers.items()
    }
    student = specs.distilled(STUDENT, variants.get("both"), "final", 0, {}, teachers)
    assert all(spec.deterministic for spec in (student, *teachers.values()))


def test_runs_of_the_cpu_are_the_same_with_and_without_it(tmp_path: Path) -> None:
    with_it, without = (plan_of(tmp_path, deterministic=wanted, device="cpu") for wanted in (True, False))
    assert not with_it.run_specs.deterministic and VARIABLE not in os.environ
    runs = [plan.run_specs.on_labels(STUDENT, "final", 0, {}).hash for plan in (with_it, without)]
    assert runs[0] == runs[1]


def test_a_study_says_so_before_it_uses_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question for bf16 opens the GPU, and cuBLAS reads the variable then."""
    opened: list[bool] = []

    def supported(including_emulation: bool = True) -> bool:
        opened.append(True)
        return True

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(opened))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    plan = plan_of(tmp_path, deterministic=True, device="cuda")
    assert opened and plan.run_specs.deterministic and plan.run_specs.precision == "bf16"
    assert os.environ[VARIABLE] == ":4096:8", "for this process and the workers that it starts"


def test_a_run_computes_as_its_spec_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def device_of(spec: RunSpec) -> Device:
        job = JobFactory(tmp_path).job(spec)
        return _Attempt(job, StudyFolder(tmp_path)).device

    assert device_of(run_spec(device="cuda", deterministic=True)).deterministic
    assert not device_of(run_spec(device="cuda")).deterministic


def test_a_measured_step_is_stored_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "hardware_name", lambda device: "GPU")
    devices = [Device("cuda", "bf16"), Device("cuda", "bf16", deterministic=True)]
    keys = {profiling.training_key(run_spec(), {}, device=device, threads=1) for device in devices}
    assert len(keys) == 2


def test_the_memory_of_a_training_is_measured_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    class Noted(device_module.Device):
        def __init__(self, name: str, precision: Any, *, deterministic: bool = False) -> None:
            seen.append(deterministic)
            raise RuntimeError("no GPU")

    monkeypatch.setattr(profiling, "Device", Noted)
    for wanted in (True, False):
        with pytest.raises(RuntimeError, match="no GPU"):
            profiling.training_memory(
                run_spec(device="cuda", deterministic=wanted),
                None,
                {},
                graphs=True,  # type: ignore[arg-type]
            )
    assert seen == [True, False]
