"""A study: which rows, at what budget."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tal_bench.config.base import Count, FolderName, Fraction, Positive, Spec
from tal_bench.config.run import Precision, Pruner, Search, grid_size

WEIGHTS = (".safetensors", ".json", ".tar", ".pth", ".pt", ".ckpt")
"""Suffixes of files of weights, including formats that have to be imported first."""


def weights_path(name: str) -> Path | None:
    """Return the path that is given in place of a model's name, or None where it is a name."""
    is_path = "/" in name or os.sep in name or Path(name).suffix in WEIGHTS
    return Path(name).expanduser() if is_path else None


class Budget(Spec):
    """Budget of a study.

    Attributes:
        trials: Tuning trials per student row; the first uses the default settings.
        seeds: Final runs per student row.
        teacher_seeds: Final runs per teacher and reference row; null = as many as `seeds`.
        confirmed: Number of best trials of a row that are trained with further seeds on validation; the one
            with the best mean is chosen.
        confirm_seeds: Number of seeds on which they are compared, that of the trial included.
        epochs: Number of epochs that replaces the schedule of the models' recipe.
        videos: Maximum number of videos of each split.
        generation: Trials per generation; they are proposed from the same earlier results, whatever the
            number of jobs.
        paired_teachers: Whether student seed s learns from teacher seed s rather than from seed 0.
        teacher_lr: Multiples of the default learning rate that are tried for teachers on validation.
    """

    trials: Count = 6
    seeds: Count = 8
    teacher_seeds: Count | None = 3
    confirmed: Count = 2
    confirm_seeds: Count = 3
    epochs: Count | None = None
    videos: Count | None = None
    generation: Count = 4
    paired_teachers: bool = False
    teacher_lr: tuple[Positive, ...] = ()

    @property
    def label_seeds(self) -> int:
        """Number of final runs per teacher and reference row, at most that of student rows."""
        return min(self.seeds, self.teacher_seeds or self.seeds)


BUDGETS: dict[str, Budget] = {
    "smoke": Budget(trials=1, seeds=1, teacher_seeds=None, epochs=2, videos=12),
    "quick": Budget(),
    "full": Budget(trials=40, seeds=5, teacher_seeds=None, paired_teachers=True, teacher_lr=(0.5, 1.0, 2.0)),
}


Objective = Literal["map", "gmacs", "params"]
Sampler = Literal["tpe", "random", "grid", "nsga2"]
Settings = dict[str, float]
"""`lr` (a multiple of the recipe's), `soft_weight`, `temperature`, `weight/<term>`, `student/<size>`."""
FRONT_TRIALS = 4
"""Factor by which a search with several objectives has more trials."""


def _names_a_row(value: str) -> str:
    if value and (not value.isprintable() or len(value) > 80 or value.strip() != value or "|" in value):
        raise ValueError("cannot be the name of a row: up to 80 printable characters, no '|'")
    return value


class RowSpec(Spec):
    """A student row that differs from a registered variant.

    Attributes:
        variant: Registered variant that the row is based on.
        name: Name in the table; the variant's if empty.
        student: Registered student that replaces the study's.
        teacher: Registered teacher that replaces the study's.
        without: Terms that are removed.
        shares: Role of a teacher to its weight in terms that mix teachers.
        settings: Settings with fixed values, which are not tuned.
        grid: Setting to values; each combination is a row with these values fixed and in its name.
    """

    variant: str
    name: Annotated[str, AfterValidator(_names_a_row)] = ""
    student: str | None = None
    teacher: str | None = None
    without: tuple[str, ...] = ()
    shares: dict[str, Fraction] = {}
    settings: Settings = {}
    grid: dict[str, Annotated[tuple[float, ...], Field(min_length=1)]] = {}

    @property
    def title(self) -> str:
        """Name, or prefix of the names, of its rows."""
        return self.name or self.variant

    def expanded(self) -> list[RowSpec]:
        """Return a row for each point of the grid, or the row itself without a grid."""
        points = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        return [
            self.model_copy(
                update={
                    "name": " ".join([self.title, *(f"{k.rpartition('/')[2]}={v:g}" for k, v in p.items())]),
                    "settings": {**self.settings, **p},
                    "grid": {},
                }
            )
            for p in points
        ]


class StudySpec(Spec):
    """Definition of an ablation study: student, variants, references and budget.

    Attributes:
        name: Name of the study, and of the folder of its results in the reports directory.
        description: Question that the study answers.
        dataset: Registered dataset, or YAML file.
        folds: Fold of the dataset to test on, from 0, in place of the dataset's own; `all` = every fold in
            turn, merged into one table in which every video is tested once; null = that of the dataset.
        student: Registered student, the same in every row.
        teacher: Registered model, or file of weights, that replaces the transformer teacher of the variants.
        variants: Registered variants, or names of `rows`; all rows if empty.
        rows: Student rows that differ from registered variants, in the order of the table.
        baseline: Whether the row `none` is added.
        references: Registered models that are trained on labels and shown beside the students.
        budget: Named budget.
        trials: Number of trials that overrides the budget's.
        seeds: Number of seeds that overrides the budget's.
        seed: Seed of the samplers.
        objective: Objectives of tuning on validation. `map` is the average mAP; with `gmacs` or `params`
            tuning also varies the size of the student and gives a Pareto front.
        sampler: Optuna sampler that proposes trials.
        pruner: Rule that ends trials early; not used with several objectives.
        search: Setting to the range or values that replace the declared ones; with the sampler `grid`, the
            only settings that vary.
        patience: Number of generations without improvement after which a row's search ends; None = never.
        start: Row to settings that are tried before the defaults.
        device: Device of the runs; `auto` is a GPU if there is one.
        precision: Precision of matrix products.
        teacher_precision: Precision of the teachers during distillation.
        deterministic: Whether runs on a GPU have to repeat their results bit by bit, as those on the CPU do.
    """

    name: FolderName
    description: str = ""
    dataset: str = "sprites"
    folds: Annotated[int, Field(ge=0)] | Literal["all"] | None = None
    student: str = "conv-dw-hallucinated"
    teacher: str = "actionformer"
    variants: tuple[str, ...] = ()
    rows: tuple[RowSpec, ...] = ()
    baseline: bool = True
    references: tuple[str, ...] = ()
    budget: Literal["smoke", "quick", "full"] = "quick"
    trials: Count | None = None
    seeds: Count | None = None
    seed: int = 0
    precision: Literal["auto"] | Precision = "auto"
    teacher_precision: Literal["student"] | Precision = "student"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = False
    objective: tuple[Objective, ...] = ("map",)
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    search: dict[str, Search] = {}
    patience: Count | None = None
    start: dict[str, Settings] = {}

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        names = [row.name for row in self.every_row]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"rows: two are named '{twice}', give each a name of its own")
        if len(set(self.objective)) < len(self.objective) or "map" not in self.objective:
            raise ValueError(f"objective: {', '.join(self.objective) or 'nothing'}, need map, and each once")
        if self.sampler == "grid" and not self.search:
            raise ValueError("sampler: a grid needs values, name settings under search")
        return self

    @property
    def teacher_file(self) -> Path | None:
        """Path of the teacher's weights, or None where it is a registered name."""
        return weights_path(self.teacher)

    @property
    def effective_budget(self) -> Budget:
        """Named budget with the overrides."""
        changes = {k: v for k, v in (("trials", self.trials), ("seeds", self.seeds)) if v is not None}
        budget = BUDGETS[self.budget]
        if len(self.objective) > 1:
            changes.setdefault("trials", FRONT_TRIALS * budget.trials)
        if self.sampler == "grid" and self.budget != "smoke":
            changes.setdefault("trials", grid_size(self.search))
        return budget.model_copy(update=changes)

    @property
    def every_row(self) -> list[RowSpec]:
        """Rows with their grids expanded, each with its name."""
        return [r for row in self.rows for r in row.model_copy(update={"name": row.title}).expanded()]
