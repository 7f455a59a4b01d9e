"""A study: which rows, at what budget."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from tal_bench.config.base import Count, FolderName, Positive, Spec

WEIGHTS = (".safetensors", ".json", ".tar", ".pth", ".pt", ".ckpt")
"""What the name of a file with weights may end in; not all of them can be read."""


def weights_path(name: str) -> Path | None:
    """The file or folder that stands in the place of a model's name, or none where it is a name."""
    is_path = "/" in name or os.sep in name or Path(name).suffix in WEIGHTS
    return Path(name).expanduser() if is_path else None


class Budget(Spec):
    """How much a study spends.

    Attributes:
        trials: per student row, the first with default settings.
        seeds: final runs per row.
        epochs: replaces the schedule of the models' recipe.
        videos: use only the first so many videos of each split.
        generation: trials that share the same knowledge, whatever the number of jobs.
        paired_teachers: student seed s learns from teacher seed s, not from seed 0.
        teacher_lr: multiples of the default learning rate tried for teachers on validation.
    """

    trials: Count = 6
    seeds: Count = 3
    epochs: Count | None = None
    videos: Count | None = None
    generation: Count = 4
    paired_teachers: bool = False
    teacher_lr: tuple[Positive, ...] = ()


BUDGETS: dict[str, Budget] = {
    "smoke": Budget(trials=1, seeds=1, epochs=2, videos=12),
    "quick": Budget(),
    "full": Budget(trials=40, seeds=5, paired_teachers=True, teacher_lr=(0.5, 1.0, 2.0)),
}


class StudySpec(Spec):
    """An ablation: which student, which variants, which references, at what budget.

    Attributes:
        name: folder of its results below the reports directory.
        description: what question it answers.
        dataset: registered name or YAML file.
        student: registered student, the same in every row.
        teacher: replaces the transformer teacher of the variants: a registered name, or a file of weights.
        variants: registered variants; `none` is added.
        references: registered models trained on labels, shown beside.
        budget: named budget.
        trials: overrides the budget.
        seeds: overrides the budget.
        seed: of samplers.
        precision: of matrix products.
        teacher_precision: what teachers compute in while they teach.
    """

    name: FolderName
    description: str = ""
    dataset: str = "sprites"
    student: str = "conv-dw-hallucinated"
    teacher: str = "actionformer"
    variants: tuple[str, ...] = ("both",)
    references: tuple[str, ...] = ()
    budget: Literal["smoke", "quick", "full"] = "quick"
    trials: Count | None = None
    seeds: Count | None = None
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    teacher_precision: Literal["student", "fp32", "bf16"] = "student"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def teacher_file(self) -> Path | None:
        """Where the teacher's weights are, when it is no registered name."""
        return weights_path(self.teacher)

    @property
    def spending(self) -> Budget:
        """The named budget with the overrides."""
        changes = {k: v for k, v in (("trials", self.trials), ("seeds", self.seeds)) if v is not None}
        return BUDGETS[self.budget].model_copy(update=changes)
