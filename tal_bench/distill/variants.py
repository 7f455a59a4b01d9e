"""Distillation variants: what a variant is, and the registry.

The variants themselves are data, declared in `distill/factorial.py` and `distill/methods.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tal_bench.config import Inputs, Range, TermUse
from tal_bench.distill.terms.registry import terms
from tal_bench.registry import Registry

LEARNING_RATE = Range(low=0.4, high=2.5)
"""Search range in every row, as a multiple of the recipe's learning rate."""
SOFT_WEIGHT = Range(low=0.2, high=0.8, log=False)
TEMPERATURE = Range(low=1.0, high=4.0)


@dataclass(frozen=True, slots=True)
class TeacherRef:
    """Teacher relative to the student and teacher of a study.

    Attributes:
        structure: `student`, `teacher`, or the name of a structure (`conv`).
        inputs: Modalities that the teacher reads; `student` means the student's own network.
        weight: Share of the teacher in terms that mix teachers.
    """

    structure: str
    inputs: Inputs | str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Variant:
    """Row of the ablation.

    Attributes:
        name: Name on the command line and in tables.
        summary: One line for `tal-bench list variants`.
        teachers: Teachers by role.
        terms: Distillation terms with their default weights.
        soft_weight: Weight lambda of the distillation terms.
        temperature: Temperature tau.
        student_init: `random`, or the role of a teacher from which matching weights are copied.
        reference: Publication of the variant.
        fixed: Whether to keep the published constants and tune only the learning rate.
    """

    name: str
    summary: str
    teachers: dict[str, TeacherRef] = field(default_factory=dict)
    terms: tuple[TermUse, ...] = ()
    soft_weight: float = 0.6
    temperature: float = 2.0
    student_init: str = "random"
    reference: str = ""
    fixed: bool = False

    def search_space(self) -> dict[str, Range]:
        """Return the tuned settings: `lr` (a multiple), `soft_weight`, `temperature`, `weight/<term>`."""
        space = {"lr": LEARNING_RATE}
        if self.terms and not self.fixed:
            space |= {"soft_weight": SOFT_WEIGHT, "temperature": TEMPERATURE}
            space |= {f"weight/{use.name}": terms.get(use.name).search for use in self.terms}
        return space

    def defaults(self) -> dict[str, float]:
        """Return the settings of trial 0, with the keys of the search space."""
        values = {"lr": 1.0, "soft_weight": self.soft_weight, "temperature": self.temperature}
        values |= {f"weight/{use.name}": use.weight for use in self.terms}
        return {name: values[name] for name in self.search_space()}


variants: Registry[Variant] = Registry("variant", "tal_bench.distill.factorial", "tal_bench.distill.methods")
