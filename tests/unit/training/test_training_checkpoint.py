"""A training that was killed between two epochs is resumed with the same result."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from test_run import dataset, spec_of, taught
from tiny import FAST

from tal_bench.config import DatasetSpec, DistillSpec, RunSpec, TeacherUse, TermUse
from tal_bench.errors import DiskFullError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult
from tal_bench.studies import run as runs
from tal_bench.studies.run import Job, run
from tal_bench.training import train as training
from tal_bench.training.training_checkpoint import TrainingCheckpointer

__all__ = ["dataset"]  # a fixture
EPOCHS = FAST.model_copy(update={"epochs": 4, "validate_every": 1, "input_noise": 0.1})


class Killed(BaseException):
    """Exception that nothing in the package handles."""


def outcome(folder: Path, spec: RunSpec) -> dict[str, Any]:
    """Return the result and the files of a run, without times."""
    files = StudyFolder(folder)
    result = files.read_run(spec.hash)
    assert isinstance(result, RunResult)
    assert result.status == "finished", result.error
    record = result.model_dump(exclude={"timings"})
    return record | {s: files.run_file(spec.hash, s).read_bytes() for s in result.files}


def kill_after(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Raise `Killed` after the checkpoint of an epoch was written."""
    save = TrainingCheckpointer.save

    def save_and_kill(self: TrainingCheckpointer, done: int, *rest: Any) -> None:
        save(self, done, *rest)
        if done == epoch:
            raise Killed

    patch.setattr(TrainingCheckpointer, "save", save_and_kill)


def epochs_trained(patch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that grows by one with every trained epoch."""
    seen: list[object] = []
    batches = training.training_crops

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(None)
        return batches(*args, **kwargs)

    patch.setattr(training, "training_crops", counted)
    return seen


def decomposed(dataset: DatasetSpec) -> RunSpec:
    """Return the run of a student with a motion and an appearance branch, and terms of them."""
    teacher = spec_of(dataset, "conv-privileged")
    terms = (
        TermUse(name=name, teacher="t", weight=1.0) for name in ("decomposed-branches", "decomposed-features")
    )
    distill = DistillSpec(
        teachers={"t": TeacherUse(run=teacher.hash, model=teacher.model)}, terms=tuple(terms)
    )
    return spec_of(dataset, "conv-dw-decomposed", distill=distill, train=EPOCHS)


@pytest.fixture(scope="module")
def specs(dataset: DatasetSpec) -> dict[str, RunSpec]:
    teacher = spec_of(dataset, "conv")
    wide = teacher.detector.model_copy(update={"width": 24, "head_width": 24})  # needs a projection
    teacher = teacher.model_copy(update={"detector": wide})
    student = taught(dataset, teacher).model_copy(update={"train": EPOCHS})
    return {
        "teacher": teacher,
        "motion teacher": spec_of(dataset, "conv-privileged"),
        "distilled": student,
        "decomposed": decomposed(dataset),
        "tuning": student.model_copy(update={"phase": "tuning"}),
        "transformer": spec_of(dataset, "actionformer", train=EPOCHS),
        "trident": spec_of(dataset, "tridet", train=EPOCHS),
    }


@pytest.mark.parametrize("which", ["distilled", "decomposed", "tuning", "transformer", "trident"])
def test_an_interrupted_training_is_bitwise_equal_to_an_uninterrupted_one(
    specs: dict[str, RunSpec], which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specs[which]
    for folder in (tmp_path / "whole", tmp_path / "killed"):
        if spec.distill:
            (teacher,) = spec.distill.teachers.values()
            run(Job(specs["teacher" if teacher.model == "conv" else "motion teacher"], folder))
    history = ({1: 50.0, 2: 50.0, 3: 50.0, 4: 50.0},) if spec.phase == "tuning" else None
    run(Job(spec, tmp_path / "whole", history=history))
    job = Job(spec, tmp_path / "killed", history=history, checkpoint_every=0.0)
    for epoch in (1, 3):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_after(epoch, patch)
            run(job)
    torch.rand(11)
    seen = epochs_trained(monkeypatch)
    run(job)
    assert len(seen) == 1, "three of four epochs were done"
    assert outcome(tmp_path / "killed", spec) == outcome(tmp_path / "whole", spec)
    left = {f.suffix for f in (tmp_path / "killed" / "runs").iterdir()}
    assert ".resume" not in left


def test_short_trainings_write_no_checkpoint(
    specs: dict[str, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(
        "tal_bench.training.training_checkpoint.write_atomically", lambda path, *_, **__: written.append(path)
    )
    run(Job(specs["transformer"], tmp_path))
    assert not written


@pytest.mark.parametrize("harm", ["a bit", "half", "another run's"])
def test_with_a_damaged_checkpoint_training_starts_from_the_beginning(
    specs: dict[str, RunSpec],
    harm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = Job(specs["transformer"], tmp_path, checkpoint_every=0.0)
    kept = job.spec if harm != "another run's" else job.spec.model_copy(update={"seed": 5})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(2, patch)
        run(Job(kept, tmp_path, checkpoint_every=0.0))
    folder = StudyFolder(tmp_path)
    content = bytearray(folder.run_file(kept.hash, ".resume").read_bytes())
    if harm == "a bit":
        content[len(content) // 2] ^= 1
    folder.run_file(job.spec.hash, ".resume").write_bytes(
        content[: len(content) // 2 if harm == "half" else None]
    )
    seen = epochs_trained(monkeypatch)
    with caplog.at_level(logging.WARNING):
        run(job)
    assert len(seen) == 4
    assert ("starts from the beginning" in caplog.text) == (harm != "another run's")


def test_a_full_disk_does_not_stop_training(
    specs: dict[str, RunSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise DiskFullError("the disk is full", where=path)

    monkeypatch.setattr("tal_bench.training.training_checkpoint.write_atomically", refuse)
    assert run(Job(specs["transformer"], tmp_path, checkpoint_every=0.0)).status == "finished"
    assert "disk is full" in caplog.text


def test_a_failed_run_keeps_its_checkpoint(
    specs: dict[str, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(specs["transformer"], tmp_path, checkpoint_every=0.0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(2, patch)
        run(job)

    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(runs, "predict", explode)
    result = run(job)
    assert result.status == "failed"
    assert result.error is not None
    assert "out of memory with batches of 2" in result.error
    assert "batch_size: 1" in result.error
    assert StudyFolder(tmp_path).run_file(job.spec.hash, ".resume").exists()
