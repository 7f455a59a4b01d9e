"""Terms `ofa` and `ofa-binary`: the teacher's scores with a raised target, for exits of the student too."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec
from tal_bench.distill.losses.logits.ofa import ofa
from tal_bench.distill.losses.masking import mean_over, valid_features, valid_rows
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs

EPS = 1.0
"""Exponent of the raised target; with 1 it has no effect on the softmax form."""
SOURCE = "formula of Hao840/OFAKD f7bb896, distillers/ofa.py, no licence"
PAPER = "Hao et al., One-for-All, NeurIPS 2023"
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class OfaTerm(nn.Module):
    """Loss of the logits and of exits from the neck, a mean over valid positions, then over levels.

    Args:
        student: Architecture of the student.
        teacher: Architecture of the teacher.
        loss: Function (student logits, teacher logits, target, mask) -> scalar.
    """

    def __init__(self, student: DetectorSpec, teacher: DetectorSpec, loss: Loss) -> None:
        super().__init__()
        width = student.feature_widths["neck"]
        self.exits = nn.ModuleList(nn.Conv1d(width, student.classes, 1) for _ in range(student.levels))
        self.loss = loss

    def forward(self, student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
        """Return the value for a batch; the temperature is the published one, 1."""
        levels = zip(
            self.exits,
            student.features["neck"],
            student.logits,
            teacher.logits,
            student.labels.classes,
            student.mask,
            strict=True,
        )
        return level_mean(
            self.loss(logits, t, y, m) + self.loss(out(valid_features(x, m)).transpose(1, 2), t, y, m)
            for out, x, logits, t, y, m in levels
        )


def ofa_softmax(student: Tensor, teacher: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the published loss, the cross entropy to the softmax with a raised target."""
    return ofa(student, teacher, target, mask, eps=EPS)


def ofa_binary(student: Tensor, teacher: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the cross entropy to the teacher's sigmoid with a raised target.

    The mean over valid positions and classes of -((p + y)^eps - y) log q - (1 - p) log(1 - q), where p is the
    teacher's score and q the student's.
    """
    s, p, y = (
        valid_rows(student, mask),
        valid_rows(teacher.detach(), mask).sigmoid(),
        valid_rows(target, mask),
    )
    yes = (p + y).pow(EPS) - y
    return mean_over(-(yes * F.logsigmoid(s) + (1 - p) * F.logsigmoid(-s)).mean(dim=2), mask)


terms.add(
    "ofa",
    Term(
        "ofa",
        None,
        module=lambda student, teacher: OfaTerm(student, teacher, ofa_softmax),
        search=around(1.0),
        weight=1.0,
        summary="softmax scores with a raised target, for exits too",
        formula="mean over levels of the mean over valid positions of -sum over classes of ((p_teacher + "
        "y)^eps - y) "
        "log p_student, for logits and for exits conv1(neck_student); p softmax, eps 1",
        paper=PAPER,
        reads={"logits": "equal", "neck": "any", "labels": "any"},
        normalizer="valid positions, levels",
        source=SOURCE,
        differences="an exit is a 1x1 convolution of a level of the neck; background positions have no "
        "target",
        least_classes=2,
    ),
)
terms.add(
    "ofa-binary",
    Term(
        "ofa-binary",
        None,
        module=lambda student, teacher: OfaTerm(student, teacher, ofa_binary),
        search=around(BALANCED["ofa-binary"]),
        weight=BALANCED["ofa-binary"],
        summary="sigmoid scores with a raised target, for exits too",
        formula="mean over levels of the mean over valid positions and classes of -((p_teacher + y)^eps - y) "
        "log p_student - (1 - p_teacher) log(1 - p_student), for logits and for exits "
        "conv1(neck_student); p sigmoid",
        paper=f"{PAPER}, applied to each class separately",
        reads={"logits": "equal", "neck": "any", "labels": "any"},
        normalizer="valid positions x classes, levels",
        source=SOURCE,
        differences="sigmoid in place of softmax; an exit is a 1x1 convolution of a level of the neck",
    ),
)
