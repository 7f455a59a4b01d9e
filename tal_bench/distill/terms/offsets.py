"""Term `offsets`: predicted distances to start and end."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.terms.reductions import mean_of_level_means, packed
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs


def offsets(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the mean squared error of the offsets, averaged over levels.

    Where both detectors predict offsets per class, these are compared class by class. Where only one does,
    its offsets are first averaged over the classes, weighted by the class probabilities.
    """
    same_form = student.offsets[0].ndim == teacher.offsets[0].ndim
    ours, theirs = (x.offsets if same_form else class_average(x) for x in (student, teacher))
    errors = (packed(ours) - packed(theirs).detach()).square().flatten(2).mean(dim=2)
    return mean_of_level_means(errors, student.mask)


def class_average(output: Outputs) -> list[Tensor]:
    """Return the offsets [B, T_l, 2] per level, averaged over classes where each class has its own."""
    if output.offsets[0].ndim == 3:
        return output.offsets
    shares = [x.sigmoid() / x.sigmoid().sum(dim=2, keepdim=True) for x in output.logits]
    return [(x * share[:, :, :, None]).sum(dim=2) for x, share in zip(output.offsets, shares, strict=True)]


terms.add(
    "offsets",
    Term(
        "offsets",
        offsets,
        search=around(BALANCED["offsets"]),
        reads={"offsets": "any"},
        summary="distances to start and end",
        formula="mean over levels of the mean over valid positions of (offsets_student - offsets_teacher)^2",
        paper="C2MS-Net (2026)",
        normalizer="valid positions x 2, and levels",
        weight=BALANCED["offsets"],
    ),
)
