"""Term `hallucination`: the student's input against the teacher's."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.terms.reductions import mean_square
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs


def hallucination(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the mean squared error of the student's input and the teacher's, [B, C, T] both.

    The primary channels are identical, so this is the error of the hallucinated channels times their share
    of C (C2MS-Net: half of the flow error).
    """
    return mean_square(student.inputs, teacher.inputs, student.mask[0])


terms.add(
    "hallucination",
    Term(
        "hallucination",
        hallucination,
        search=around(BALANCED["hallucination"]),
        reads={"inputs": "equal"},
        summary="student's input against the teacher's",
        formula="mean over valid positions and channels of (input_student - input_teacher)^2",
        paper="C2MS-Net (2026); Hoffman et al., CVPR 2016",
        normalizer="valid positions x channels",
        weight=BALANCED["hallucination"],
    ),
)
