"""From the settings of a row to the specs of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Literal, cast

from tal_bench.config import (
    Budget,
    DatasetSpec,
    DetectorSpec,
    DistillSpec,
    Inputs,
    Phase,
    Precision,
    RunSpec,
    Settings,
    TeacherUse,
    TrainSpec,
)
from tal_bench.distill.objective import MIX
from tal_bench.distill.terms.registry import LABELS, OFFERED_BY, Term, terms
from tal_bench.distill.variants import TeacherRef, Variant
from tal_bench.errors import InputError
from tal_bench.models.detector import Detector
from tal_bench.models.registry import (
    Model,
    decoding_recipe,
    detector_spec,
    get_model,
    model_name,
    training_recipe,
)
from tal_bench.models.size_space import sized
from tal_bench.profiling.model import count, count_registered
from tal_bench.studies.imported_teacher import ImportedTeacher

TUNING_SEED = 1000
"""Seed of every tuning run; the final seeds are 0, 1, 2 and so on."""
STEP = 3
"""Multiply-accumulates of a training step, in forward passes: the gradients of inputs and weights cost one
each."""
MIN_STEPS = 6
"""Steps per epoch that a budget of few videos leaves at least, by smaller batches."""


@dataclass(frozen=True, slots=True)
class RunSpecs:
    """Builds the specs of a study's runs; dataset, budget, device and precision are the same in all of them.

    Attributes:
        dataset: Dataset with its fingerprint.
        classes: Number of classes, K.
        budget: Budget of the study.
        device: Kind of device of the runs.
        precision: Precision of the runs.
        teacher_precision: Precision of the teachers during distillation.
        deterministic: Whether a GPU has to use algorithms that repeat their results.
        imported: Teacher from a file of weights, or None.
    """

    dataset: DatasetSpec
    classes: int
    budget: Budget
    device: Literal["cpu", "cuda"]
    precision: Precision
    teacher_precision: Literal["student"] | Precision = "student"
    deterministic: bool = False
    imported: ImportedTeacher | None = None

    def is_imported(self, model: str) -> bool:
        """Whether a model comes from a file and is not trained."""
        return self.imported is not None and model == self.imported.name

    def model(self, name: str) -> Model:
        """Return a registered model, or the imported teacher."""
        return self.imported.model if self.imported and self.is_imported(name) else get_model(name)

    def architecture(self, model: str) -> DetectorSpec:
        """Return the architecture of a model on the study's dataset."""
        if self.imported and self.is_imported(model):
            return self.imported.card.detector
        return detector_spec(get_model(model), self.dataset, self.classes)

    def modalities(self, model: str) -> str:
        """Return the modalities that a model reads, as tables show them: `rgb + flow`."""
        return " + ".join(self.architecture(model).reads)

    def schedule(self, model: str) -> TrainSpec:
        """Return the model's training recipe, shortened to the budget."""
        recipe = training_recipe(get_model(model), self.dataset)
        if self.budget.videos is not None:
            largest = max(1, self.budget.videos // MIN_STEPS)
            recipe = recipe.model_copy(update={"batch_size": min(recipe.batch_size, largest)})
        if self.budget.epochs is None:
            return recipe
        warmup = min(recipe.warmup_epochs, self.budget.epochs - 1)
        return recipe.model_copy(
            update={"warmup_epochs": warmup, "epochs": self.budget.epochs - warmup, "validate_every": 1}
        )

    def forward_macs(self, model: str) -> int:
        """Count the multiply-accumulates of a forward pass per video."""
        architecture, frames = self.architecture(model), self.dataset.max_length
        if self.is_imported(model):
            return count(self.model(model), architecture, frames)[1]
        return count_registered(model, architecture.model_dump_json(), frames)[1]

    def step_macs(self, student: str, teachers: Iterable[str] = ()) -> int:
        """Count the multiply-accumulates of a training step per video of the batch.

        Args:
            student: Registered name.
            teachers: Models that teach it; each computes its forward pass once.
        """
        return self._step_macs(self.forward_macs(student), teachers)

    def operations(self, spec: RunSpec) -> int:
        """Count the multiply-accumulates of a training step of a run, for all videos of its batch."""
        own = count_registered(spec.model, spec.detector.model_dump_json(), self.dataset.max_length)[1]
        teachers = [use.model for use in spec.distill.teachers.values()] if spec.distill else []
        return spec.train.batch_size * self._step_macs(own, teachers)

    def _step_macs(self, forward: int, teachers: Iterable[str]) -> int:
        """Count those of a step per video, from those of the student's forward pass."""
        return STEP * forward + sum(self.forward_macs(teacher) for teacher in dict.fromkeys(teachers))

    def on_labels(self, model: str, phase: Phase, seed: int, settings: Settings) -> RunSpec:
        """Return a run on labels alone; for the imported teacher always the same run, which only tests it."""
        common = RunSpec(
            dataset=self.dataset,
            model=model,
            detector=sized(self.architecture(model), settings, f"model '{model}'"),
            train=TrainSpec(),
            decode=decoding_recipe(self.model(model), self.dataset),
            videos=self.budget.videos,
            precision=self.precision,
            device=self.device,
            deterministic=self.deterministic,
        )
        if self.imported and self.is_imported(model):
            return common.model_copy(update={"weights": self.imported.weights})
        schedule = self.schedule(model)
        train = schedule.model_copy(update={"lr": schedule.lr * settings.get("lr", 1.0)})
        return common.model_copy(update={"train": train, "phase": phase, "seed": seed})

    def distilled(
        self,
        student: str,
        variant: Variant,
        phase: Phase,
        seed: int,
        settings: Settings,
        teachers: dict[str, RunSpec],
        epochs_factor: float = 1.0,
    ) -> RunSpec:
        """Return a student's run under a variant.

        Args:
            student: Registered name.
            variant: Terms and constants; without terms the run is one on labels.
            phase: Phase of the run.
            seed: Seed of the run.
            settings: Tuned values; the variant's constants are used for the others.
            teachers: Role to the run that trained the teacher.
            epochs_factor: Factor on the number of epochs of the recipe.
        """
        base = self.on_labels(student, phase, seed, settings)
        if epochs_factor != 1.0:
            base = base.model_copy(update={"train": _lengthened(base.train, epochs_factor)})
        if not variant.terms:
            return base
        distill = DistillSpec(
            teachers={
                role: TeacherUse(run=run.hash, model=run.model, weight=variant.teachers[role].weight)
                for role, run in teachers.items()
            },
            terms=tuple(
                use.model_copy(update={"weight": settings.get(f"weight/{use.name}", use.weight)})
                for use in variant.terms
            ),
            soft_weight=settings.get("soft_weight", variant.soft_weight),
            temperature=settings.get("temperature", variant.temperature),
            student_init=variant.student_init,
            precision=self.teacher_precision,
        )
        return base.model_copy(update={"distill": distill})

    def teacher_of(self, ref: TeacherRef, student: str, teacher: str) -> str:
        """Return the model that a variant's teacher is for a student and a transformer teacher.

        Raises:
            InputError: the structure has no model with these inputs.
        """
        if ref.inputs == "student":
            return student
        inputs = cast("Inputs", ref.inputs)
        source = {"student": student, "teacher": teacher}.get(ref.structure)
        if source is None:
            return ref.structure if inputs == "all" else model_name(ref.structure, inputs)
        if self.imported and self.is_imported(source) and inputs in self.imported.serves:
            return source
        model = self.model(source)
        name = model_name(
            model.structure, inputs, temporal_attention=model.temporal_attention, size=model.size
        )
        try:
            get_model(name)
        except InputError as error:
            raise InputError(
                f"'{source}' has no counterpart '{name}' to learn from",
                hint="register one, or choose another student",
            ) from error
        return name

    def check_teachers(self, variant: Variant, student: str, teachers: dict[str, str]) -> None:
        """Check that the outputs of a student and of its teachers can be compared.

        Args:
            variant: Terms of the row.
            student: Registered name.
            teachers: Role to model.

        Raises:
            InputError: they have different pyramid levels, or a term reads what one of them does not offer.
        """
        own = self.architecture(student)
        for role, name in teachers.items():
            other = self.architecture(name)
            if other.level_strides != own.level_strides:
                raise InputError(
                    f"student '{student}' has {own.levels} levels, "
                    f"its teacher '{name}' in '{variant.name}' has {other.levels}",
                    hint="choose networks of one size",
                )
            for use in variant.terms:
                if use.teacher not in (role, MIX):
                    continue
                term = terms.get(use.name)
                self._check_reads(variant.name, term, student, name)
                fields = [f for f in ("standardise", "whiten") if getattr(own, f) != getattr(other, f)]
                if "inputs" in term.reads and fields:
                    settings = ", ".join(f"{field}: {json.dumps(getattr(other, field))}" for field in fields)
                    raise InputError(
                        f"term '{term.name}' of variant '{variant.name}' compares inputs, and "
                        f"'{student}' and its teacher '{name}' do not {' and '.join(fields)} them alike",
                        hint=f"write 'detector: {{{settings}}}' in the dataset file, "
                        "or train the teacher again",
                    )

    def _check_reads(self, variant: str, term: Term, student: str, teacher: str) -> None:
        """Check that a term finds what it reads in the outputs of both networks.

        Raises:
            InputError: One of them does not offer it, or their widths differ and the term needs equal ones.
        """
        own, other = self._offers(student), self._offers(teacher)
        if own["logits"] < term.least_classes:
            raise InputError(
                f"term '{term.name}' of variant '{variant}' needs {term.least_classes} classes, and the "
                f"dataset has {own['logits']}",
                hint="choose a form per class, such as logits-binary",
            )
        for name, width in term.reads.items():
            if name == LABELS:
                continue
            networks = {"student": ("student", student, own), "teacher": ("its teacher", teacher, other)}
            read = [networks[width]] if width in ("student", "teacher") else networks.values()
            for kind, model, offers in read:
                if name not in offers:
                    raise InputError(
                        f"term '{term.name}' of variant '{variant}' reads '{name}', which {kind} '{model}' "
                        "does not offer",
                        hint=OFFERED_BY.get(name, f"it offers {', '.join(offers)}"),
                    )
            if width != "equal" or own[name] == other[name]:
                continue
            if name == "inputs":
                raise InputError(
                    f"term '{term.name}' of variant '{variant}' compares inputs, and '{student}' does not "
                    f"hallucinate the inputs of its teacher '{teacher}'",
                    hint="choose a student with -hallucinated in its name, or another variant",
                )
            raise InputError(
                f"term '{term.name}' of variant '{variant}' compares '{name}' of equal widths, and student "
                f"'{student}' has {own[name]} channels, its teacher '{teacher}' {other[name]}",
                hint="choose networks of one width",
            )

    def _offers(self, model: str) -> dict[str, int]:
        """Return the features that distillation can read of a model, with their channels."""
        spec, build = self.architecture(model), self.model(model).build
        whole = isinstance(build, type) and issubclass(build, Detector)
        return spec.feature_widths if whole else spec.output_widths


def _lengthened(schedule: TrainSpec, factor: float) -> TrainSpec:
    """Return a schedule with a multiple of its epochs, rounded up, evaluated as often as before."""
    total = ceil(schedule.total_epochs * factor)
    warmup = round(schedule.warmup_epochs * factor)
    every = max(1, round(schedule.validate_every * factor))
    return schedule.model_copy(
        update={"warmup_epochs": warmup, "epochs": total - warmup, "validate_every": every}
    )
