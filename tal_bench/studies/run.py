"""Do one run: from a `RunSpec` to a `RunResult` on disk."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tal_bench.config import Pruner, RunSpec
from tal_bench.data.channel_statistics import channel_covariances, channel_statistics
from tal_bench.data.dataset import Dataset, Part, Video, open_cached
from tal_bench.distill.objective import DistillationObjective
from tal_bench.errors import DiskFullError, InputError, TalBenchError
from tal_bench.execution.failure import reason
from tal_bench.inference import scoring
from tal_bench.inference.detections import detections_json
from tal_bench.inference.trained_models import load_trained
from tal_bench.models.checkpoint import card_of_run, load_model, save_model
from tal_bench.models.input_fusion import fit_standardisation, fit_whitening
from tal_bench.models.registry import get_model
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import EpochRecord, RunResult
from tal_bench.system.environment import environment
from tal_bench.system.files import write_atomically
from tal_bench.system.gpus import DeviceUnavailableError, open_device, still_works
from tal_bench.system.worker_pool import UnopenedDeviceError, UnusableWorkerError
from tal_bench.training.device import Device
from tal_bench.training.prediction import predict
from tal_bench.training.teacher_cache import TeacherCache
from tal_bench.training.train import initialise_from, train
from tal_bench.training.training_checkpoint import Notes, TrainingCheckpointer
from tal_bench.tuning.pruning import Curve, pruning_callback
from tal_bench.tuning.search import Trial

LOG = logging.getLogger(__name__)
CHECKPOINT_EVERY = 30.0
"""Default seconds between two checkpoints of a training; shorter trainings write none."""
DEVICE_HINT = "see with nvidia-smi what holds it, and run the same command again: ended runs are kept"
"""What to do where no worker can open its device."""
PARTS: dict[str, tuple[Part, Part]] = {
    "tuning": ("train", "validation"),
    "final": ("train+validation", "test"),
}
"""Phase to the parts of the dataset that a run trains on and is evaluated on."""
TEACHER_CACHE = TeacherCache()
"""Outputs of teachers that later runs of this process may need again."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a worker needs for a run.

    Attributes:
        spec: Spec of the run.
        folder: Folder of the study.
        history: Validation curves of earlier trials, by which to prune; None = do not prune.
        position: Position of the trial within its generation.
        checkpoint_every: Seconds between two checkpoints of the training.
        graphs: Whether training steps on a GPU are recorded as CUDA graphs.
    """

    spec: RunSpec
    folder: Path
    history: tuple[Curve, ...] | None = None
    position: int = 0
    checkpoint_every: float = CHECKPOINT_EVERY
    graphs: bool = True


@dataclass(frozen=True, slots=True)
class JobFactory:
    """Makes jobs of run specs: where and how they are computed, which changes no result.

    Attributes:
        folder: Folder of the study.
        checkpoint_every: Seconds between two checkpoints of a training.
        graphs: Whether training steps on a GPU are recorded as CUDA graphs.
    """

    folder: Path
    checkpoint_every: float = CHECKPOINT_EVERY
    graphs: bool = True

    def job(self, spec: RunSpec) -> Job:
        """Return the job of a run."""
        return Job(spec, self.folder, checkpoint_every=self.checkpoint_every, graphs=self.graphs)

    def trials(self, specs: Sequence[RunSpec], past: Sequence[Trial], pruner: Pruner) -> list[Job]:
        """Return the jobs of a generation of trials, with the curves by which they may be pruned.

        Args:
            specs: Run specs of the generation.
            past: Trials of all completed generations.
            pruner: Rule that may end a trial early.
        """
        pruned = [spec.model_copy(update={"pruner": pruner}) for spec in specs]
        if pruner == "none":
            return [self.job(spec) for spec in pruned]
        used = [trial for trial in past if trial.finished] if pruner == "median" else past
        history = tuple(trial.curve for trial in used)
        return [
            Job(spec, self.folder, history, position, self.checkpoint_every, self.graphs)
            for position, spec in enumerate(pruned)
        ]


class _PrunedError(Exception):
    """Raised to end a pruned trial."""


def load_result(job: Job) -> RunResult | None:
    """Return the result of a run that has ended, or None; failures and damaged files are tried again."""
    folder = StudyFolder(job.folder)
    try:
        known = folder.read_run(job.spec.hash)
        if known is None or known.status == "failed":
            return None
        folder.check_files(known)
    except InputError as error:
        LOG.warning("%s: %s; the run is repeated", error.where, error.what)
        return None
    return known


def run(job: Job) -> RunResult:
    """Do a run and write its result; a failure is a result too.

    The result is written last, after weights and detections. The training state of a failed run is kept.

    Raises:
        InputError: Data or teachers cannot be read; other failures are in the result's `error`.
        UnusableWorkerError: This process cannot use its device, or not any more; another has to do the run.
    """
    folder = StudyFolder(job.folder)
    attempt = _Attempt(job, folder)
    try:
        result = attempt.finish()
    except _PrunedError:
        result = attempt.result("pruned")
    except InputError:
        raise
    except Exception as error:
        why = reason(error, job.spec)
        if isinstance(error, DeviceUnavailableError):
            raise UnopenedDeviceError(why, hint=DEVICE_HINT) from None
        if not still_works(attempt.device.torch):
            raise UnusableWorkerError(why) from None
        result = attempt.result("failed", error=why)
    try:
        folder.write_run(result)
    except DiskFullError as error:
        return attempt.result("failed", error=str(error))
    if result.status != "failed":
        folder.run_file(job.spec.hash, ".resume").unlink(missing_ok=True)
    return result


class _Attempt:
    """A run in progress, with its measurements so far."""

    def __init__(self, job: Job, folder: StudyFolder) -> None:
        self.spec, self.folder, self.graphs = job.spec, folder, job.graphs
        self.checkpoint_every = job.checkpoint_every
        self.device = Device(job.spec.device, job.spec.precision, deterministic=job.spec.deterministic)
        self.history: list[EpochRecord] = []
        self.timings: dict[str, float] = {}
        self.data: Dataset | None = None
        self.evaluated: list[Video] = []
        self.metrics: dict[str, float] = {}
        self.per_class: dict[str, float] = {}
        self.evaluation = ""
        self.started = self.before = 0.0
        self.stop = None
        if job.history is not None:
            schedule = job.spec.train
            self.stop = pruning_callback(
                job.history, schedule.total_epochs, job.spec.pruner, schedule.validate_every, job.position
            )

    def finish(self) -> RunResult:
        """Train, unless the weights are imported; evaluate; write weights and detections."""
        open_device(self.device.torch)
        spec, file = self.spec, self.folder.run_file(self.spec.hash, ".safetensors")
        networks = _networks(spec, self.folder) if spec.weights is None else None
        self.data = open_cached(spec.dataset, _reads(spec, self.folder), spec.videos)
        train_part, eval_part = PARTS[spec.phase]
        self.evaluated = self.data.videos(eval_part)
        if networks is None:
            average = load_model(file)[0]
        else:
            average = self._train(*networks, self.data.videos(train_part))
        if not self.metrics:
            self._evaluate(average)
        if networks is not None and (spec.phase == "final" or spec.distill is None):
            save_model(
                average, file, card_of_run(spec, self.data.outputs)
            )  # tuning needs those of teachers only
        if spec.phase == "final":
            text = json.dumps(detections_json(self.detections), separators=(",", ":"))
            write_atomically(self.folder.run_file(spec.hash, ".detections.json"), text)
        return self.result("finished")

    def _train(
        self,
        student: nn.Module,
        teachers: dict[str, nn.Module],
        objective: DistillationObjective | None,
        videos: list[Video],
    ) -> nn.Module:
        """Train, and return the moving average of the weights after the last epoch."""
        spec = self.spec
        self.started = time.perf_counter()
        if spec.detector.standardise:
            fit_standardisation(student, channel_statistics(videos))
        if spec.detector.whiten:
            fit_whitening(student, channel_covariances(videos, spec.detector.reads))
        average = train(
            student,
            spec.detector,
            videos,
            spec.train,
            seed=spec.seed,
            device=self.device,
            teachers=teachers,
            objective=objective,
            after_epoch=self._after_epoch,
            checkpointer=self._checkpointer(),
            teacher_cache=TEACHER_CACHE,
            graphs=self.graphs,
        )
        self.timings["train"] = self._training_seconds()
        return average

    def _checkpointer(self) -> TrainingCheckpointer:
        """Return what saves the training; it holds this object, which must not hold it in turn.

        Otherwise features and detections would stay in memory until garbage is collected, which is rare.
        """
        return TrainingCheckpointer(
            self.folder.run_file(self.spec.hash, ".resume"),
            self.spec.hash,
            self.checkpoint_every,
            self._checkpoint_state,
            self._restore_state,
        )

    def _training_seconds(self) -> float:
        """Return the seconds of training so far, those before an interruption included."""
        tested = sum(self.timings.get(name, 0.0) for name in ("predict", "evaluate"))
        return time.perf_counter() - self.started + self.before - tested

    def _checkpoint_state(self) -> Notes:
        """Return the state of the run that a checkpoint stores beside that of the training."""
        return {
            "history": [record.model_dump() for record in self.history],
            "timings": self.timings | {"train": self._training_seconds()},
        }

    def _restore_state(self, notes: Notes) -> None:
        """Restore that state, and report the earlier scores to the pruner again."""
        self.history = [EpochRecord(**record) for record in notes["history"]]
        self.timings = notes["timings"]
        self.before = sum(self.timings.values())
        for record in self.history:
            if self.stop is not None and record.validation_map is not None:
                self.stop(record.epoch, record.validation_map)

    def _after_epoch(self, epoch: int, losses: dict[str, float], average: nn.Module) -> bool:
        """Record the losses and, in tuning runs, the validation mAP, by which the trial may be pruned."""
        if not all(math.isfinite(value) for value in losses.values()):
            raise TalBenchError(
                f"training diverged: the loss is not finite in epoch {epoch}", hint="lower the lr"
            )
        spec = self.spec.train
        last = epoch == spec.total_epochs
        if not (last or epoch % spec.validate_every == 0):
            self.history.append(EpochRecord(epoch=epoch, losses=losses))
            return False
        value = None
        if self.spec.phase == "tuning":
            value = self._evaluate(average)
        self.history.append(EpochRecord(epoch=epoch, losses=losses, validation_map=value))
        if value is not None and self.stop is not None and self.stop(epoch, value):
            self.timings["train"] = self._training_seconds()
            raise _PrunedError
        return False

    def _evaluate(self, model: nn.Module) -> float:
        """Return the average mAP in percent on the evaluated part."""
        started = time.perf_counter()
        spec = self.spec
        assert self.data is not None
        found = list(predict(model, spec.detector, self.evaluated, spec.decode, self.device))
        self.detections, truth = scoring.tables(found, self.evaluated, self.data)
        predicted = time.perf_counter()
        videos = [v.meta.id for v in self.evaluated]
        self.metrics, self.per_class = scoring.metrics(spec.dataset, self.detections, truth, videos)
        self.evaluation = scoring.describe_run_evaluation(self.data, spec.phase, self.evaluated)
        now = time.perf_counter()
        self.timings["predict"] = self.timings.get("predict", 0.0) + predicted - started
        self.timings["evaluate"] = self.timings.get("evaluate", 0.0) + now - predicted
        return self.metrics["map_avg"]

    def result(self, status: Any, error: str | None = None) -> RunResult:
        """Return the result as far as it is known."""
        return RunResult(
            hash=self.spec.hash,
            spec=self.spec,
            status=status,
            metrics={} if status == "failed" else self.metrics,
            per_class={} if status == "failed" else self.per_class,
            evaluation=self.evaluation,
            videos=len(self.evaluated),
            skipped=tuple(self.data.selection.skipped) if self.data else (),
            history=tuple(self.history),
            environment=environment(self.device.torch),
            timings={name: round(value, 3) for name, value in self.timings.items()},
            files=self.folder.digests(self.spec.hash) if status == "finished" else {},
            error=error,
        )


def _networks(
    spec: RunSpec, folder: StudyFolder
) -> tuple[nn.Module, dict[str, nn.Module], DistillationObjective | None]:
    """Return the student with its initial weights, the teachers, and the objective.

    The initial weights depend only on the seed and the architecture, so they are the same in every row.

    Raises:
        TalBenchError: The training of a teacher failed.
        InputError: A teacher's run or weights are missing.
    """
    torch.manual_seed(spec.seed)
    student = get_model(spec.model).build(spec.detector)
    if spec.distill is None:
        return student, {}, None
    for use in spec.distill.teachers.values():
        known = folder.read_run(use.run)
        if known is not None and known.status == "failed":  # this run fails too; the study goes on
            raise TalBenchError(f"its teacher {use.model} failed: {known.error}")
    loaded = {role: load_trained(use.run, folder) for role, use in spec.distill.teachers.items()}
    teachers = {role: net for role, (net, _) in loaded.items()}
    architectures = {role: run.detector for role, (_, run) in loaded.items()}
    objective = DistillationObjective(spec.distill, spec.detector, architectures, spec.seed)
    if spec.distill.student_init != "random":
        initialise_from(student, teachers[spec.distill.student_init])
    return student, teachers, objective


def _reads(spec: RunSpec, folder: StudyFolder) -> tuple[str, ...]:
    """Return the modalities that the student and its teachers read, in the order of the dataset."""
    needed = set(spec.detector.reads)
    for use in spec.distill.teachers.values() if spec.distill else ():
        taught = folder.read_run(use.run)
        needed |= set(taught.spec.detector.reads) if taught else set()
    return tuple(name for name in spec.dataset.modalities if name in needed)
