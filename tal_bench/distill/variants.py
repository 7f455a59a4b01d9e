"""The distillation variants as data: which teachers, which terms, which constants.

The first six are the rows of a clean 2 x 2 (modalities x structure of the teacher): one student, the same
initial weights, the same tuning budget; only teacher and terms change. The `c2ms-*` presets keep the
constants of C2MS-Net's code (J. Vis. Commun. Image R. 116:104734, 2026).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tal_bench.config import Inputs, Range, TermUse
from tal_bench.distill.terms.registry import terms
from tal_bench.registry import Registry

LEARNING_RATE = Range(low=0.4, high=2.5)
"""Searched in every row, as a multiple of the recipe's rate."""
SOFT_WEIGHT = Range(low=0.2, high=0.8, log=False)
TEMPERATURE = Range(low=1.0, high=4.0)


@dataclass(frozen=True, slots=True)
class TeacherRef:
    """A teacher relative to the study's student and teacher.

    Attributes:
        structure: `student`, `teacher`, or the name of a structure (`conv`).
        inputs: which modalities it reads; `student` = exactly the student's network.
        weight: its share in terms that mix teachers.
    """

    structure: str
    inputs: Inputs | str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the ablation.

    Attributes:
        name: as the command line and the tables say it.
        summary: one line for `tal-bench list variants`.
        teachers: role to teacher.
        terms: what is matched, with default weights.
        soft_weight: lambda.
        temperature: tau.
        student_init: `random`, or the role of a teacher to copy matching weights from.
        reference: where it comes from.
        fixed: keep the constants as published; only the learning rate is tuned.
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
        """Tuned settings by name: `lr` (a multiple), `soft_weight`, `temperature`, `weight/<term>`."""
        space = {"lr": LEARNING_RATE}
        if self.terms and not self.fixed:
            space |= {"soft_weight": SOFT_WEIGHT, "temperature": TEMPERATURE}
            space |= {f"weight/{use.name}": terms.get(use.name).search for use in self.terms}
        return space

    def defaults(self) -> dict[str, float]:
        """The settings of trial 0, same keys as the search space."""
        known = {"lr": 1.0, "soft_weight": self.soft_weight, "temperature": self.temperature}
        known |= {f"weight/{use.name}": use.weight for use in self.terms}
        return {name: known[name] for name in self.search_space()}


variants: Registry[Variant] = Registry("variant")


def _terms(teacher: str, *, h: str = "", s: str = "") -> tuple[TermUse, ...]:
    """Terms of a clean row: KL and offsets from one role, hallucination and stem from the named roles.

    The weights were set on the validation part of `sprites`; studies start from them and tune.
    """
    use = [
        TermUse(name="logits-binary", teacher=teacher, weight=8.0, temperature_power=2),
        TermUse(name="offsets", teacher=teacher, weight=0.05),
    ]
    if h:
        use.append(TermUse(name="hallucination", teacher=h, weight=2.0))
    if s:
        use.append(TermUse(name="stem", teacher=s, weight=1.0))
    return tuple(use)


def _c2ms(power: int, kl: float, *, teacher: str, h: str = "", s: str = "") -> tuple[TermUse, ...]:
    """Terms with the published constants; ``power`` of the temperature multiplies all but the KL term."""
    use = [
        TermUse(name="logits", teacher=teacher, weight=kl, temperature_power=2),
        TermUse(name="offsets", teacher=teacher, weight=1.0, temperature_power=power),
    ]
    if h:
        use.append(TermUse(name="hallucination", teacher=h, weight=5.0, temperature_power=power))
    if s:
        use.append(TermUse(name="stem", teacher=s, weight=1.0, temperature_power=power))
    return tuple(use)


C2MS = "C2MS-Net, J. Vis. Commun. Image R. 116:104734 (2026)"

for _variant in (
    Variant("none", "labels only; the baseline, outside the factorial"),
    Variant(
        "self",
        "a teacher like the student: what distillation gives by itself",
        teachers={"self": TeacherRef("student", "student")},
        terms=_terms("self"),
    ),
    Variant(
        "cross-modal",
        "a two-stream teacher of the student's structure",
        teachers={"modal": TeacherRef("student", "all")},
        terms=_terms("modal", h="modal"),
    ),
    Variant(
        "cross-structure",
        "a transformer teacher that sees what the student sees",
        teachers={"structure": TeacherRef("teacher", "primary")},
        terms=_terms("structure", s="structure"),
    ),
    Variant(
        "both-single",
        "one teacher with both advantages: two-stream transformer",
        teachers={"both": TeacherRef("teacher", "all")},
        terms=_terms("both", h="both", s="both"),
    ),
    Variant(
        "both",
        "two teachers: two-stream transformer (.8) and two-stream conv (.2)",
        teachers={
            "modal": TeacherRef("teacher", "all", 0.8),
            "structure": TeacherRef("conv", "all", 0.2),
        },
        terms=_terms("mix", h="modal", s="structure"),
        reference=C2MS,
    ),
    Variant(
        "c2ms-modal",
        "published constants: two-stream conv to the student",
        teachers={"modal": TeacherRef("conv", "all")},
        terms=_c2ms(0, 0.1, teacher="modal", h="modal"),
        student_init="modal",
        reference=C2MS,
        fixed=True,
    ),
    Variant(
        "c2ms-structure",
        "published constants: primary-only conv to the student",
        teachers={"structure": TeacherRef("conv", "primary")},
        terms=_c2ms(0, 0.01, teacher="structure", s="structure"),
        reference=C2MS,
        fixed=True,
    ),
    Variant(
        "c2ms-both",
        "published constants: two-stream transformer (.8) and two-stream conv (.2)",
        teachers={
            "modal": TeacherRef("teacher", "all", 0.8),
            "structure": TeacherRef("conv", "all", 0.2),
        },
        terms=_c2ms(2, 0.1, teacher="mix", h="modal", s="structure"),
        student_init="modal",
        reference=C2MS,
        fixed=True,
    ),
):
    variants.add(_variant.name, _variant)
