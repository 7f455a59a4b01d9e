"""What the rows of a study share, and the plans of those trained on labels; `students` has the others.

The protocol: student rows, `none` included, are tuned with the same number of trials on a validation part of
the training videos; every row is then trained on all training videos with the final seeds and tested once.
Teachers of tuning runs have not seen the validation videos either.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from tal_bench.config import Budget, DatasetSpec, DetectorSpec, Inputs, Phase, RunSpec, Settings, TrainSpec
from tal_bench.distill.variants import TeacherRef, Variant
from tal_bench.errors import InputError
from tal_bench.models.registry import (
    Model,
    decoding_recipe,
    detector_spec,
    get_model,
    model_name,
    training_recipe,
)
from tal_bench.models.size_space import sized
from tal_bench.results.records import RowRecord, RunResult
from tal_bench.studies.imported_teacher import ImportedTeacher
from tal_bench.studies.run import CHECKPOINT_EVERY, Job
from tal_bench.studies.scheduler import Plan
from tal_bench.tuning.search import Trial, Tuning, best
from tal_bench.tuning.trial_mirror import TrialMirror

TUNING_SEED = 1000
"""Of every tuning run; the final seeds are 0, 1, 2 ..."""
STEPS_OF_FEW = 6
"""A budget that names a number of videos takes at most this share of them into a batch."""
Asking = Generator[Sequence[Job], list[RunResult], Settings]


@dataclass(frozen=True, slots=True)
class Context:
    """What all rows of a study share.

    Attributes:
        dataset: with its fingerprint.
        classes: K.
        student: registered name.
        teacher: registered name of the transformer teacher.
        budget: what may be spent.
        seed: of the samplers.
        folder: of the study.
        device: `cpu` or `cuda`.
        precision: of the runs.
        teacher_precision: of teachers while they teach.
        brought: the teacher that a person brings as a file, or none.
        tuning: how rows are searched.
        checkpoint_every: seconds between two writings of a training's state.
        ledger: shows the trials to others, or none.
    """

    dataset: DatasetSpec
    classes: int
    student: str
    teacher: str
    budget: Budget
    seed: int
    folder: Path
    device: str
    precision: Literal["fp32", "bf16"]
    teacher_precision: Literal["student", "fp32", "bf16"] = "student"
    brought: ImportedTeacher | None = None
    tuning: Tuning = field(default_factory=Tuning)
    checkpoint_every: float = CHECKPOINT_EVERY
    ledger: TrialMirror | None = None

    def is_imported(self, model: str) -> bool:
        """Whether a row's model comes from a file and is not trained."""
        return self.brought is not None and model == self.brought.name

    def model(self, name: str) -> Model:
        """A registered model, or the one that was brought."""
        return self.brought.model if self.brought and self.is_imported(name) else get_model(name)

    def architecture(self, model: str) -> DetectorSpec:
        """Of a model on this dataset."""
        if self.brought and self.is_imported(model):
            return self.brought.card.detector
        return detector_spec(get_model(model), self.dataset, self.classes)

    def schedule(self, model: str) -> TrainSpec:
        """The model's recipe on this dataset, shortened when the budget says so.

        A budget of few videos has small batches, so that an epoch has a few steps.
        """
        recipe = training_recipe(get_model(model), self.dataset)
        if self.budget.videos is not None:
            largest = max(1, self.budget.videos // STEPS_OF_FEW)
            recipe = recipe.model_copy(update={"batch_size": min(recipe.batch_size, largest)})
        if self.budget.epochs is None:
            return recipe
        warmup = min(recipe.warmup_epochs, self.budget.epochs - 1)
        return recipe.model_copy(
            update={"warmup_epochs": warmup, "epochs": self.budget.epochs - warmup, "validate_every": 1}
        )

    def run(self, model: str, phase: Phase, seed: int, settings: Settings) -> RunSpec:
        """A run on labels alone; of a model that was brought always the same one, which trains nothing."""
        common = RunSpec(
            dataset=self.dataset,
            model=model,
            detector=sized(self.architecture(model), settings, f"model '{model}'"),
            train=TrainSpec(),
            decode=decoding_recipe(self.model(model), self.dataset),
            videos=self.budget.videos,
            precision=self.precision,
        )
        if self.brought and self.is_imported(model):
            return common.model_copy(update={"weights": self.brought.weights})
        schedule = self.schedule(model)
        train = schedule.model_copy(update={"lr": schedule.lr * settings.get("lr", 1.0)})
        return common.model_copy(update={"train": train, "phase": phase, "seed": seed})

    def job(self, spec: RunSpec) -> Job:
        """The run as a worker gets it."""
        return Job(spec, self.folder, self.device, checkpoint_every=self.checkpoint_every)

    def trials(self, specs: Sequence[RunSpec], past: Sequence[Trial]) -> list[Job]:
        """A generation of tuning runs as workers get them, with what may end them early."""
        rule = self.tuning.rule
        judged = [spec.model_copy(update={"pruner": rule}) for spec in specs]
        if rule == "none":
            return [self.job(spec) for spec in judged]
        kept = [t for t in past if t.finished] if rule == "median" else past
        history = tuple(t.curve for t in kept)
        return [
            Job(spec, self.folder, self.device, history, place, self.checkpoint_every)
            for place, spec in enumerate(judged)
        ]


def teacher_model(ref: TeacherRef, context: Context) -> str:
    """Registered name of a variant's teacher in a study.

    Raises:
        InputError: the student's structure has no such teacher.
    """
    if ref.inputs == "student":
        return context.student
    source = {"student": context.student, "teacher": context.teacher}.get(ref.structure)
    if source is None:
        return ref.structure if ref.inputs == "all" else model_name(ref.structure, cast("Inputs", ref.inputs))
    model = context.model(source)
    if context.brought and context.is_imported(source) and ref.inputs in context.brought.serves:
        return source
    name = model_name(
        model.structure,
        cast("Inputs", ref.inputs),
        temporal_attention=model.temporal_attention,
        size=model.size,
    )
    try:
        get_model(name)
    except InputError as error:
        raise InputError(
            f"'{source}' has no counterpart '{name}' to learn from",
            hint="register one, or choose another student",
        ) from error
    return name


def check_teachers(variant: Variant, context: Context) -> None:
    """Find out before hours of training whether student and teachers say things that can be compared.

    Raises:
        InputError: other levels, or a term on inputs that the student has not.
    """
    student = context.architecture(context.student)
    for role, ref in variant.teachers.items():
        name = teacher_model(ref, context)
        teacher = context.architecture(name)
        if teacher.level_strides != student.level_strides:
            raise InputError(
                f"student '{context.student}' has {student.levels} levels, "
                f"its teacher '{name}' in '{variant.name}' has {teacher.levels}",
                hint="choose networks of one size",
            )
        matched = any(use.name == "hallucination" and use.teacher in (role, "mix") for use in variant.terms)
        if matched and teacher.input_channels != student.input_channels:
            raise InputError(
                f"variant '{variant.name}' compares inputs, and '{context.student}' hallucinates none of "
                f"what its teacher '{name}' sees",
                hint="choose a student with -hallucinated in its name, or another variant",
            )


def modalities(model: str, context: Context) -> str:
    """What a model sees, as tables show it: `rgb + flow`."""
    spec = context.architecture(model)
    return " + ".join(spec.reads)


def labels_row(context: Context, name: str, model: str, kind: Literal["teacher", "reference"]) -> Plan:
    """A model trained on labels, with all final seeds."""
    settings = yield from tuned_teacher(context, model)
    seeds = (0,) if context.is_imported(model) else tuple(range(context.budget.seeds))
    specs = [context.run(model, "final", seed, settings) for seed in seeds]
    yield [context.job(spec) for spec in specs]
    return RowRecord(
        name=name,
        kind=kind,
        model=model,
        modalities=modalities(model, context),
        settings=settings,
        finals=tuple(spec.hash for spec in specs),
        seeds=seeds,
    )


def tuned_teacher(context: Context, model: str) -> Asking:
    """Learning rate of a teacher: the default, or the best of the budget's multiples on validation."""
    multiples = context.budget.teacher_lr
    if not multiples or context.is_imported(model):
        return {}
    specs = [context.run(model, "tuning", TUNING_SEED, {"lr": multiple}) for multiple in multiples]
    results = yield [context.job(spec) for spec in specs]
    trials = [Trial({"lr": m}, result) for m, result in zip(multiples, results, strict=True)]
    found = best(trials)
    return found.settings if found else {"lr": 1.0}
