"""Variants of the 2 x 2 factorial, and the presets of C2MS-Net.

The first six are the rows of the factorial (modalities x structure of the teacher): the student, its initial
weights and the tuning budget are the same, and only teachers and terms differ. The `c2ms-*` presets keep the
constants of C2MS-Net's code (J. Vis. Commun. Image R. 116:104734, 2026).
"""

from __future__ import annotations

from tal_bench.config import TermUse
from tal_bench.distill.terms.weights import BALANCED
from tal_bench.distill.variants import TeacherRef, Variant, variants


def _terms(teacher: str, *, h: str = "", s: str = "") -> tuple[TermUse, ...]:
    """Return KL and offsets from role ``teacher``, hallucination from role ``h``, and stem from role ``s``.

    The weights are those that the terms declare (`distill.terms.weights`); they are the settings of trial 0.
    """
    uses = [
        TermUse(name="logits-binary", teacher=teacher, weight=8.0, temperature_power=2),
        TermUse(name="offsets", teacher=teacher, weight=BALANCED["offsets"]),
    ]
    if h:
        uses.append(TermUse(name="hallucination", teacher=h, weight=BALANCED["hallucination"]))
    if s:
        uses.append(TermUse(name="stem", teacher=s, weight=BALANCED["stem"]))
    return tuple(uses)


def _c2ms(power: int, kl: float, *, teacher: str, h: str = "", s: str = "") -> tuple[TermUse, ...]:
    """Return terms with the published constants; all but the KL term are multiplied by temperature**power."""
    uses = [
        TermUse(name="logits", teacher=teacher, weight=kl, temperature_power=2),
        TermUse(name="offsets", teacher=teacher, weight=1.0, temperature_power=power),
    ]
    if h:
        uses.append(TermUse(name="hallucination", teacher=h, weight=5.0, temperature_power=power))
    if s:
        uses.append(TermUse(name="stem", teacher=s, weight=1.0, temperature_power=power))
    return tuple(uses)


C2MS = "C2MS-Net, J. Vis. Commun. Image R. 116:104734 (2026)"

for _variant in (
    Variant("none", "labels only; the baseline, outside the factorial"),
    Variant(
        "none-matched",
        "labels only, for as many operations as the most expensive row with its teachers",
        matched=True,
    ),
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
