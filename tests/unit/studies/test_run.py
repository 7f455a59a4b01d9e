"""One run, trained for real on ten small videos: what it leaves on disk, and how it fails."""

from __future__ import annotations

import gc
import json
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FAST, write_dataset
from torch import nn

from tal_bench.config import DatasetSpec, DistillSpec, RunSpec, TeacherUse, TermUse
from tal_bench.data.registry import read_dataset_file
from tal_bench.data.splits import with_fingerprint
from tal_bench.errors import DataError, InputError
from tal_bench.evaluation.files import read_detections, read_ground_truth
from tal_bench.evaluation.mean_ap import interpolated_ap
from tal_bench.inference.detections import ground_truth_json
from tal_bench.inference.trained_models import load_trained
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.results.folder import StudyFolder
from tal_bench.studies import run as runs
from tal_bench.studies.run import Job, _networks, load_result, run
from tal_bench.system.worker_pool import UnopenedDeviceError, UnusableWorkerError
from tal_bench.training import step
from tal_bench.training.teacher_cache import TeacherCache
from tal_bench.training.train import train

STUDENT = "conv-dw-hallucinated"


@pytest.fixture(scope="module")
def dataset(dataset_file: Path) -> DatasetSpec:
    return with_fingerprint(read_dataset_file(dataset_file))


def spec_of(dataset: DatasetSpec, model: str = STUDENT, **changes: Any) -> RunSpec:
    architecture = detector_spec(get_model(model), dataset, 3)
    value = {"dataset": dataset, "model": model, "detector": architecture, "train": FAST}
    return RunSpec(**{**value, **changes})


def taught(dataset: DatasetSpec, teacher: RunSpec, **changes: Any) -> RunSpec:
    distill = DistillSpec(
        teachers={"t": TeacherUse(run=teacher.hash, model=teacher.model)},
        terms=(
            TermUse(name="stem", teacher="t", weight=1.0),
            TermUse(name="offsets", teacher="t", weight=0.1),
        ),
        **changes,
    )
    return spec_of(dataset, distill=distill)


def test_a_run_leaves_result_weights_and_detections(dataset: DatasetSpec, tmp_path: Path) -> None:
    job = Job(spec_of(dataset), tmp_path)
    assert load_result(job) is None
    result = run(job)
    assert (result.status, result.error, result.hash) == ("finished", None, job.spec.hash)
    assert set(result.metrics) == {"map_0.30", "map_0.40", "map_0.50", "map_0.60", "map_0.70", "map_avg"}
    grid = [v for k, v in result.metrics.items() if k != "map_avg"]
    assert result.metrics["map_avg"] == pytest.approx(float(np.mean(grid)))
    assert np.mean(list(result.per_class.values())) == pytest.approx(result.metrics["map_avg"])
    assert load_result(job) == result
    assert {f.name for f in (tmp_path / "runs").iterdir()} == {
        f"{result.hash}{suffix}" for suffix in (".json", ".safetensors", ".detections.json")
    }
    assert result.environment["threads"] == str(torch.get_num_threads())
    net, known = load_trained(result.hash, StudyFolder(tmp_path))
    assert known == job.spec
    assert not net.training


def test_detections_on_disk_give_the_same_numbers(dataset: DatasetSpec, tmp_path: Path) -> None:
    result = run(Job(spec_of(dataset, "actionformer"), tmp_path))
    data = runs.open_cached(dataset, ("rgb",), None)
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(ground_truth_json(data.videos("test"), data.classes)))
    again = interpolated_ap(
        read_detections(tmp_path / "runs" / f"{result.hash}.detections.json"),
        read_ground_truth(truth, "test"),
        dataset.tiou,
        videos=data.ids("test"),
    )
    assert 100 * again.average == pytest.approx(result.metrics["map_avg"], abs=1e-9)


def test_the_same_spec_gives_the_same_result(dataset: DatasetSpec, tmp_path: Path) -> None:
    first, second = (run(Job(spec_of(dataset), tmp_path / name)) for name in "ab")
    assert first.metrics == second.metrics
    assert first.history == second.history
    weights = [(tmp_path / n / "runs" / f"{first.hash}.safetensors").read_bytes() for n in "ab"]
    assert weights[0] == weights[1]


def test_runs_with_the_same_teacher_and_seed_compute_its_outputs_once(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = spec_of(dataset, "conv")
    run(Job(teacher, tmp_path))
    monkeypatch.setattr(runs, "TEACHER_CACHE", TeacherCache())
    first = run(Job(taught(dataset, teacher), tmp_path))
    kept = runs.TEACHER_CACHE.nbytes
    assert kept > 0
    run(Job(taught(dataset, teacher, soft_weight=0.3), tmp_path))
    assert runs.TEACHER_CACHE.nbytes == kept
    (tmp_path / "runs" / f"{first.hash}.json").unlink()
    again = run(Job(taught(dataset, teacher), tmp_path))
    assert (again.metrics, again.history) == (first.metrics, first.history)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_every_row_starts_from_the_same_weights_of_a_seed(dataset: DatasetSpec, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    teachers = [spec_of(dataset, name) for name in ("conv", "actionformer-primary")]
    for teacher in teachers:
        run(Job(teacher, tmp_path))
    alone = _networks(spec_of(dataset), folder)[0]
    torch.rand(5)
    for teacher in teachers:
        student, nets, objective = _networks(taught(dataset, teacher), folder)
        assert same(student, alone)
        assert nets.keys() == {"t"}
        assert objective is not None
    assert not same(alone, _networks(spec_of(dataset, seed=1), folder)[0])
    copied = _networks(taught(dataset, teachers[0], student_init="t"), folder)[0]
    assert not same(copied, alone)


@pytest.mark.parametrize(
    ("phase", "parts"), [("tuning", ("train", "validation")), ("final", ("train+validation", "test"))]
)
def test_tuning_never_sees_the_test_videos(
    dataset: DatasetSpec, tmp_path: Path, phase: Any, parts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Sequence[str]] = {}
    real_train, real_predict = runs.train, runs.predict

    def train(student: Any, architecture: Any, videos: Any, *rest: Any, **named: Any) -> Any:
        seen["train"] = [v.meta.id for v in videos]
        return real_train(student, architecture, videos, *rest, **named)

    def predict(model: Any, architecture: Any, videos: Any, *rest: Any) -> Any:
        seen["evaluate"] = [v.meta.id for v in videos]
        return real_predict(model, architecture, videos, *rest)

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(runs, "predict", predict)
    run(Job(spec_of(dataset, phase=phase), tmp_path))
    data = runs.open_cached(dataset, ("rgb",), None)
    assert seen["train"] == data.ids(parts[0])
    assert seen["evaluate"] == data.ids(parts[1])
    assert not set(seen["train"]) & set(seen["evaluate"])


def test_students_without_privileged_teachers_open_no_privileged_file(tmp_path: Path) -> None:
    dataset = with_fingerprint(read_dataset_file(write_dataset(tmp_path / "data")))
    for file in (tmp_path / "data" / "flow").iterdir():
        file.unlink()
    assert run(Job(spec_of(dataset), tmp_path / "study")).status == "finished"
    with pytest.raises(DataError, match=r"flow.video_"):
        run(Job(spec_of(dataset, "conv"), tmp_path / "study"))


def test_a_student_of_a_failed_teacher_fails_and_says_why(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = spec_of(dataset, "conv")

    def broken(*args: Any, **named: Any) -> Any:
        raise FloatingPointError("no good")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "train", broken)
        failed = run(Job(teacher, tmp_path))
    assert (failed.status, failed.error) == ("failed", "FloatingPointError: no good")
    assert load_result(Job(teacher, tmp_path)) is None, "it is tried again"
    student = run(Job(taught(dataset, teacher), tmp_path))
    assert student.status == "failed"
    assert student.error == "its teacher conv failed: FloatingPointError: no good"
    assert student.metrics == {}
    assert run(Job(teacher, tmp_path)).status == "finished"
    assert run(Job(taught(dataset, teacher), tmp_path)).status == "finished"


def test_a_missing_teacher_is_bad_input(dataset: DatasetSpec, tmp_path: Path) -> None:
    teacher = spec_of(dataset, "conv")
    with pytest.raises(InputError, match="has not finished"):
        run(Job(taught(dataset, teacher), tmp_path))
    run(Job(teacher, tmp_path))
    (tmp_path / "runs" / f"{teacher.hash}.safetensors").unlink()
    with pytest.raises(InputError, match="no such weights"):
        run(Job(taught(dataset, teacher), tmp_path))


def test_a_diverging_run_fails_and_keeps_no_weights(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = step._losses

    def infinite(*args: Any) -> Any:
        losses, normalizer = real(*args)
        return {**losses, "total": losses["total"] * float("inf")}, normalizer

    monkeypatch.setattr(step, "_losses", infinite)
    result = run(Job(spec_of(dataset), tmp_path))
    assert result.status == "failed"
    assert "not finite in epoch 1" in str(result.error)
    assert [f.suffix for f in (tmp_path / "runs").iterdir()] == [".json"]


def test_a_hopeless_trial_is_pruned(dataset: DatasetSpec, tmp_path: Path) -> None:
    long = FAST.model_copy(update={"epochs": 4, "validate_every": 1})
    spec = spec_of(dataset, phase="tuning", train=long)
    better = tuple(dict.fromkeys(range(1, 5), 101.0) for _ in range(3))
    started = time.perf_counter()
    result = run(Job(spec, tmp_path, history=better))
    assert result.status == "pruned"
    assert all(result.timings[name] > 0 for name in ("train", "predict", "evaluate"))
    assert sum(result.timings.values()) < time.perf_counter() - started, "no second counts twice"
    assert len(result.history) < 4
    assert all(r.validation_map is not None for r in result.history)
    assert load_result(Job(spec, tmp_path)) == result


def test_interrupted_runs_leave_no_result(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "save_model", interrupted)
    job = Job(spec_of(dataset), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    assert load_result(job) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_run_whose_device_cannot_be_opened_is_left_to_other_workers(
    dataset: DatasetSpec, tmp_path: Path
) -> None:
    job = Job(spec_of(dataset, device="cuda"), tmp_path)
    with pytest.raises(UnopenedDeviceError, match=r"^device cuda cannot be opened: "):
        run(job)
    assert StudyFolder(tmp_path).read_run(job.spec.hash) is None


def test_a_run_leaves_nothing_for_the_garbage_collector(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers collect garbage rarely, and a run that is part of a cycle would keep features and tables."""
    attempts: list[weakref.ref[Any]] = []
    made = runs._Attempt.__init__

    def remember(self: Any, *rest: Any) -> None:
        attempts.append(weakref.ref(self))
        made(self, *rest)

    monkeypatch.setattr(runs._Attempt, "__init__", remember)
    gc.collect()
    gc.disable()
    try:
        long = FAST.model_copy(update={"epochs": 2})
        result = run(Job(spec_of(dataset, train=long), tmp_path, checkpoint_every=0.0))
        alive = attempts[0]() is not None
    finally:
        gc.enable()
    assert result.status == "finished" and not alive


def failing_after_an_epoch(*args: Any, **kwargs: Any) -> nn.Module:
    """Train for one epoch, and raise what a GPU raises after a failed assertion."""
    after = kwargs["after_epoch"]

    def stop(epoch: int, losses: dict[str, float], model: nn.Module) -> bool:
        if epoch == 2:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return bool(after(epoch, losses, model))

    return train(*args, **{**kwargs, "after_epoch": stop})


def test_a_failed_run_keeps_its_training_state(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = FAST.model_copy(update={"epochs": 3})
    job = Job(spec_of(dataset, train=schedule), tmp_path, checkpoint_every=0.0)
    whole = run(Job(job.spec, tmp_path / "whole"))
    state = StudyFolder(tmp_path).run_file(job.spec.hash, ".resume")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "train", failing_after_an_epoch)
        assert run(job).status == "failed"
    assert state.is_file()
    epochs: list[int] = []
    with monkeypatch.context() as patch:
        record = runs._Attempt._after_epoch
        patch.setattr(
            runs._Attempt,
            "_after_epoch",
            lambda self, epoch, *rest: (epochs.append(epoch), record(self, epoch, *rest))[1],
        )
        again = run(job)
    assert epochs == [2, 3], "the first epoch is not repeated"
    assert (again.metrics, again.history) == (whole.metrics, whole.history)
    assert not state.exists()


def test_a_process_that_lost_its_device_records_nothing_and_asks_to_be_replaced(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(spec_of(dataset, train=FAST.model_copy(update={"epochs": 2})), tmp_path, checkpoint_every=0.0)
    monkeypatch.setattr(runs, "train", failing_after_an_epoch)
    monkeypatch.setattr(runs, "still_works", lambda device: False)
    with pytest.raises(UnusableWorkerError, match="device-side assert"):
        run(job)
    folder = StudyFolder(tmp_path)
    assert folder.read_run(job.spec.hash) is None
    assert folder.run_file(job.spec.hash, ".resume").is_file()
