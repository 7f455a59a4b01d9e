"""Training objective: (1 - lambda) x loss on labels + lambda x weighted sum of distillation terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tal_bench.config import DistillSpec
from tal_bench.distill.terms.registry import terms
from tal_bench.types import DetectorOutput, Outputs

MIX = "mix"
"""Role in a `TermUse` that stands for the weighted mean over all teachers."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """Value of the distillation terms for a batch.

    Attributes:
        total: Weighted sum of the terms.
        parts: Unweighted terms by name.
    """

    total: Tensor
    parts: dict[str, Tensor]


class DistillationObjective(nn.Module):
    """Distillation terms of a `DistillSpec` between a student and its teachers.

    Args:
        spec: Terms, their weights, and the temperature.
        student_width: Width D of the student's stem.
        teacher_widths: Widths D of the teachers' stems by role. For the stem term, the student's stem is
            projected to another width by a learned 1x1 projection that is not part of the student.
    """

    def __init__(self, spec: DistillSpec, student_width: int, teacher_widths: Mapping[str, int]) -> None:
        super().__init__()
        self.spec = spec
        self.projections = nn.ModuleDict(
            {
                role: nn.Linear(student_width, teacher_widths[role], bias=False)
                for use in spec.terms
                if use.name == "stem"
                for role in (spec.teachers if use.teacher == MIX else (use.teacher,))
                if teacher_widths[role] != student_width
            }
        )

    def forward(self, student: DetectorOutput, teachers: Mapping[str, Outputs]) -> Distillation:
        """Compute the distillation from the outputs of student and teachers for the same batch."""
        spec = self.spec
        if spec.count_padding:
            student = replace(student, mask=[torch.ones_like(m) for m in student.mask])
        parts: dict[str, Tensor] = {}
        total = student.stem.new_zeros(())
        for use in spec.terms:
            value = self._term(use.name, use.teacher, student, teachers)
            parts[use.name] = value
            total = total + use.weight * spec.temperature**use.temperature_power * value
        return Distillation(total, parts)

    def _term(self, name: str, role: str, student: DetectorOutput, teachers: Mapping[str, Outputs]) -> Tensor:
        """Return a term for one teacher, or its weighted mean over all teachers."""
        fn = terms.get(name).fn
        shares = {r: t.weight for r, t in self.spec.teachers.items()} if role == MIX else {role: 1.0}
        values = [
            share * fn(self._projected(student, name, r), teachers[r], self.spec.temperature)
            for r, share in shares.items()
        ]
        return torch.stack(values).sum() / sum(shares.values())

    def _projected(self, student: DetectorOutput, name: str, role: str) -> DetectorOutput:
        """Return the student's outputs, for the stem term with the stem in the width of the teacher."""
        if name != "stem" or role not in self.projections:
            return student
        stem = self.projections[role](student.stem.transpose(1, 2)).transpose(1, 2)
        return replace(student, stem=stem)
