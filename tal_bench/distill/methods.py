"""Variants of published methods, in which one two-stream transformer teaches the RGB-only student.

Teacher, student, constants and tuning are those of `both-single`, so only the terms differ (`kd-ld` and
`kd-decomposed` need other networks). A method stands beside what its paper adds it to: labels alone (compare
with `none`), or labels and softened predictions (compare with `kd-logits`). The weights are those of the
terms: the published ones, or those of `distill/terms/weights.py`. Terms that take a temperature take the
variant's, 2 unless tuned.
"""

from __future__ import annotations

from tal_bench.config import TermUse
from tal_bench.distill.terms.registry import terms
from tal_bench.distill.variants import TeacherRef, Variant, variants

TEACHER = TeacherRef("teacher", "all")
TEACHERS = {"ld": TeacherRef("tridet", "all"), "decomposed": TeacherRef("teacher", "privileged")}
"""Teachers of methods that need another: one with trident heads, as the student must have too; and one that
reads the privileged modalities alone, whose student has a branch for them."""
PREDICTIONS = TermUse(name="logits-binary", teacher="both", weight=8.0, temperature_power=2)
"""The teacher's softened predictions with the weight that they have in the factorial."""

METHODS = {
    "fitnet": ("fitnet",),
    "at": ("at",),
    "nst": ("nst",),
    "pkt": ("pkt",),
    "mars": ("mars",),
    "rkd": ("rkd",),
    "vid": ("vid",),
    "sp": ("sp",),
    "cwd": ("cwd",),
    "cwd-logits": ("cwd-logits",),
    "reviewkd": ("reviewkd",),
    "dkd": ("dkd",),
    "dkd-binary": ("dkd-binary",),
    "fgd": ("fgd",),
    "mgd": ("mgd",),
    "pkd": ("pkd",),
    "dist": ("dist",),
    "dist-binary": ("dist-binary",),
    "decomposed": ("decomposed-branches", "decomposed-features"),
    "ofa": ("ofa",),
    "ofa-binary": ("ofa-binary",),
    "bckd": ("bckd-classification", "bckd-localization"),
    "crosskd": ("crosskd-classification", "crosskd-localization"),
    "logit-standardisation": ("logit-standardisation",),
    "ld": ("ld", "ld-classes"),
    "hallucination": ("hallucination-sigmoid",),
    "generalized": ("hallucination-sigmoid",),
}
"""Terms of each method, in the order of publication."""
WITH_PREDICTIONS = ("fitnet", "generalized")
"""Methods whose papers add them to labels and softened predictions; the others add to labels alone."""


def _method(name: str, uses: tuple[TermUse, ...], summary: str, reference: str, teacher: TeacherRef) -> None:
    variants.add(
        name,
        Variant(
            name,
            summary,
            teachers={"both": teacher},
            terms=uses,
            reference=reference,
        ),
    )


_method(
    "kd-logits",
    (PREDICTIONS,),
    "softened predictions alone: labels + logits-binary",
    terms.get("logits-binary").paper,
    TEACHER,
)
for _name, _terms in METHODS.items():
    _added = (PREDICTIONS,) if _name in WITH_PREDICTIONS else ()
    _method(
        f"kd-{_name}",
        (*_added, *(terms.get(term).use("both") for term in _terms)),
        f"labels + {' + '.join((*(use.name for use in _added), *_terms))}",
        terms.get(_terms[0]).paper,
        TEACHERS.get(_name, TEACHER),
    )
