"""Training objective: (1 - lambda) x loss on labels + lambda x weighted sum of distillation terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec, DistillSpec, TermUse
from tal_bench.distill.terms.registry import LABELS, OUTPUTS, Term, terms
from tal_bench.types import DetectorOutput, Outputs

MIX = "mix"
"""Role in a `TermUse` that stands for the weighted mean over all teachers."""
PARAMETER_STREAM = 7919
"""Offset of the seed of the terms' parameters, so that they do not share the student's random numbers."""


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

    Its parameters are those of the terms. They are trained with the student and are not part of it; their
    initial values depend on the seed and on the term alone, not on the other terms.

    Args:
        spec: Terms, their weights, and the temperature.
        student: Architecture of the student.
        teachers: Architectures of the teachers by role.
        seed: Seed of the run.

    Attributes:
        keep: Names of the features (`models.heads.features`) that the terms read beside a detector's outputs.
        reads_labels: Whether a term reads the labels of the batch.
        projections: Learned 1x1 projections of the student's features to another width, by term, feature
            and role; one per level where a feature has levels.
        learned: Modules of the terms that have parameters of their own, by term and role.
    """

    def __init__(
        self,
        spec: DistillSpec,
        student: DetectorSpec,
        teachers: Mapping[str, DetectorSpec],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec = spec
        reads = {name for use in spec.terms for name in terms.get(use.name).reads}
        self.keep = tuple(sorted(reads - {*OUTPUTS, LABELS}))
        self.reads_labels = LABELS in reads
        self.projections = nn.ModuleDict()
        self.learned = nn.ModuleDict()
        for use in spec.terms:
            term = terms.get(use.name)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed + PARAMETER_STREAM)
                for role in self._shares(use):
                    self.projections.update(_projections(term, role, student, teachers[role]))
                    if term.module is not None:
                        self.learned[f"{use.name}/{role}"] = term.module(student, teachers[role])

    def forward(self, student: DetectorOutput, teachers: Mapping[str, Outputs]) -> Distillation:
        """Compute the distillation from the outputs of student and teachers for the same batch."""
        spec = self.spec
        if spec.count_padding:
            student = replace(student, mask=[torch.ones_like(m) for m in student.mask])
        parts: dict[str, Tensor] = {}
        total = student.stem.new_zeros(())
        for use in spec.terms:
            shares = self._shares(use)
            values = [
                share * self._value(terms.get(use.name), role, student, teachers[role])
                for role, share in shares.items()
            ]
            value = torch.stack(values).sum() / sum(shares.values())
            parts[use.name] = value
            total = total + use.weight * spec.temperature**use.temperature_power * value
        return Distillation(total, parts)

    def _shares(self, use: TermUse) -> dict[str, float]:
        """Return the roles of the teachers that a term matches, and their weights."""
        if use.teacher == MIX:
            return {role: teacher.weight for role, teacher in self.spec.teachers.items()}
        return {use.teacher: 1.0}

    def _value(self, term: Term, role: str, student: DetectorOutput, teacher: Outputs) -> Tensor:
        """Return a term for one teacher."""
        fn = self.learned[f"{term.name}/{role}"] if term.fn is None else term.fn
        value: Tensor = fn(self._projected(student, term, role), teacher, self.spec.temperature)
        return value

    def _projected(self, student: DetectorOutput, term: Term, role: str) -> DetectorOutput:
        """Return the student's outputs, with features that a term has projected in the teacher's width."""
        for name in term.projected:
            key = f"{term.name}/{name}/{role}"
            if key not in self.projections:
                continue
            layers = self.projections[key]
            if name == "stem":
                student = replace(student, stem=_project(layers, [student.stem])[0])
            else:
                levels = _project(layers, student.features[name])
                student = replace(student, features={**student.features, name: levels})
        return student


def _projections(term: Term, role: str, student: DetectorSpec, teacher: DetectorSpec) -> dict[str, nn.Module]:
    """Return the projections of those features of a term whose widths differ, one layer per level."""
    found: dict[str, nn.Module] = {}
    for name in term.projected:
        own, other = student.feature_widths[name], teacher.feature_widths[name]
        if own != other:
            levels = 1 if name == "stem" else student.levels
            layers = [nn.Linear(own, other, bias=False) for _ in range(levels)]
            found[f"{term.name}/{name}/{role}"] = nn.ModuleList(layers)
    return found


def _project(layers: nn.Module, features: list[Tensor]) -> list[Tensor]:
    """Project [B, C, T_l] per level to another number of channels, in the precision of the weights."""
    # autocast has ended here, so features of half precision are converted
    return [
        F.linear(x.transpose(1, 2).to(weight.dtype), weight).transpose(1, 2)
        for weight, x in zip(layers.parameters(), features, strict=True)
    ]
