"""Term `hallucination-sigmoid`: the student's input against the teacher's, after a sigmoid."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.features.hallucination import hallucinated
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs


def hallucination_sigmoid(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the mean squared error of the sigmoids of both inputs over valid positions and channels.

    The primary channels are identical, so this is the error of the hallucinated channels times their share.
    """
    return hallucinated(student.inputs, teacher.inputs, student.mask[0])


terms.add(
    "hallucination-sigmoid",
    Term(
        "hallucination-sigmoid",
        hallucination_sigmoid,
        search=around(BALANCED["hallucination-sigmoid"]),
        weight=BALANCED["hallucination-sigmoid"],
        summary="sigmoid of the student's input against the teacher's",
        formula="mean over valid positions and channels of (sigmoid(input_student) - "
        "sigmoid(input_teacher))^2",
        paper="Hoffman et al., CVPR 2016; Garcia et al., ECCV 2018",
        reads={"inputs": "equal"},
        normalizer="valid positions x channels",
        source="formula of the papers",
        differences="a mean in place of a sum; applied to the input features that the student hallucinates",
    ),
)
