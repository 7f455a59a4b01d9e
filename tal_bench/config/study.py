"""A study: which rows, at what budget."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tal_bench.config.base import Count, FolderName, Fraction, Positive, Spec
from tal_bench.config.run import Pruner, Search, grid_size

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


Objective = Literal["map", "gmacs", "params"]
Sampler = Literal["tpe", "random", "grid", "nsga2"]
Settings = dict[str, float]
"""`lr` (a multiple of the recipe's), `soft_weight`, `temperature`, `weight/<term>`, `student/<size>`."""
FRONT_TRIALS = 4
"""A front of several objectives needs so many times the trials of a search for one best point."""


def _names_a_row(value: str) -> str:
    if value and (not value.isprintable() or len(value) > 80 or value.strip() != value or "|" in value):
        raise ValueError("cannot be the name of a row: up to 80 printable characters, no '|'")
    return value


class RowSpec(Spec):
    """A student row that differs from a registered variant.

    Attributes:
        variant: registered variant that it starts from.
        name: in the table; empty = the variant's.
        student: in place of the study's.
        teacher: in place of the study's: a registered name.
        without: terms left out.
        shares: role of a teacher to its share in terms that mix teachers.
        settings: held at these values, not tuned.
        grid: setting to values: one row for each combination, its values held and told by its name.
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
        """The name that its rows begin with."""
        return self.name or self.variant

    def expanded(self) -> list[RowSpec]:
        """One row for each point of the grid; itself without one."""
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
    """An ablation: which student, which variants, which references, at what budget.

    Attributes:
        name: folder of its results below the reports directory.
        description: what question it answers.
        dataset: registered name or YAML file.
        student: registered student, the same in every row.
        teacher: replaces the transformer teacher of the variants: a registered name, or a file of weights.
        variants: registered variants, or names of `rows`; `none` is added. Where none is named, all rows.
        rows: student rows that differ from registered variants, in the order of the table.
        baseline: whether `none` is added.
        references: registered models trained on labels, shown beside.
        budget: named budget.
        trials: overrides the budget.
        seeds: overrides the budget.
        seed: of samplers.
        objective: what tuning looks at on validation; more than one gives a front of students whose sizes are
            tuned, too: `map` is the best average mAP, `gmacs` and `params` the least cost.
        sampler: proposes trials.
        pruner: ends hopeless trials early; with several objectives none is.
        search: setting to its range, or to the values to choose from, in place of the declared one; with the
            sampler `grid` all that is varied.
        patience: a row's search ends after so many generations that brought nothing better; none = never.
        start: row to settings that are tried before the defaults.
        device: where runs train; `auto` = a GPU if there is one.
        precision: of matrix products.
        teacher_precision: what teachers compute in while they teach.
    """

    name: FolderName
    description: str = ""
    dataset: str = "sprites"
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
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    teacher_precision: Literal["student", "fp32", "bf16"] = "student"
    device: Literal["auto", "cpu", "cuda"] = "auto"
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
        """Where the teacher's weights are, when it is no registered name."""
        return weights_path(self.teacher)

    @property
    def spending(self) -> Budget:
        """The named budget with the overrides."""
        changes = {k: v for k, v in (("trials", self.trials), ("seeds", self.seeds)) if v is not None}
        budget = BUDGETS[self.budget]
        if len(self.objective) > 1:
            changes.setdefault("trials", FRONT_TRIALS * budget.trials)
        if self.sampler == "grid" and self.budget != "smoke":
            changes.setdefault("trials", grid_size(self.search))
        return budget.model_copy(update=changes)

    @property
    def every_row(self) -> list[RowSpec]:
        """Rows with their grids expanded, every one with its name."""
        return [r for row in self.rows for r in row.model_copy(update={"name": row.title}).expanded()]
