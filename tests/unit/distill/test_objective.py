"""Distillation objective: coefficients, mixtures of teachers, projections, padding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_terms import architecture, made

from tal_bench.config import DistillSpec, TeacherUse, TermUse
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.terms.registry import terms
from tal_bench.types import DetectorOutput

D = 5
WEIGHTS = {"modal": 0.8, "structure": 0.2}


def spec(*uses: TermUse, **changes: object) -> DistillSpec:
    teachers = {role: TeacherUse(run="0", model="conv", weight=w) for role, w in WEIGHTS.items()}
    return DistillSpec(teachers=teachers, terms=uses, **changes)


def use(name: str, teacher: str, weight: float = 1.0, power: int = 0) -> TermUse:
    return TermUse(name=name, teacher=teacher, weight=weight, temperature_power=power)


def objective_of(value: DistillSpec, *, modal: int = D, structure: int = D) -> DistillationObjective:
    teachers = {"modal": architecture(modal), "structure": architecture(structure)}
    return DistillationObjective(value, architecture(D), teachers)


def same_width(value: DistillSpec) -> DistillationObjective:
    return objective_of(value)


TEACHERS = {"modal": made(1), "structure": made(2)}


def test_total_is_the_weighted_sum_with_powers_of_the_temperature() -> None:
    uses = (
        use("logits-binary", "modal", 2.0, 2),
        use("offsets", "structure", 0.5),
        use("stem", "modal", 3.0, 1),
    )
    soft = same_width(spec(*uses, temperature=3.0))(made(0), TEACHERS)
    expected = {u.name: float(terms.get(u.name).fn(made(0), TEACHERS[u.teacher], 3.0)) for u in uses}
    assert {k: float(v) for k, v in soft.parts.items()} == pytest.approx(expected)
    total = 2 * 9 * expected["logits-binary"] + 0.5 * expected["offsets"] + 3 * 3 * expected["stem"]
    assert float(soft.total) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", ["logits-binary", "logits", "offsets", "stem", "hallucination"])
def test_mix_is_the_mean_weighted_by_the_teachers_shares(name: str) -> None:
    soft = same_width(spec(use(name, "mix")))(made(0), TEACHERS)
    values = {role: float(terms.get(name).fn(made(0), t, 2.0)) for role, t in TEACHERS.items()}
    assert float(soft.parts[name]) == pytest.approx(
        0.8 * values["modal"] + 0.2 * values["structure"], rel=1e-5
    )


def wide(output: DetectorOutput, width: int) -> DetectorOutput:
    g = torch.Generator().manual_seed(width)
    return replace(output, stem=torch.randn(2, width, 8, generator=g))


@pytest.mark.parametrize("role", ["structure", "mix"])
def test_stems_of_another_width_go_through_a_projection(role: str) -> None:
    objective = objective_of(spec(use("stem", role)), structure=7)
    assert {n: tuple(p.shape) for n, p in objective.named_parameters()} == {
        "projections.stem/stem/structure.0.weight": (7, D)
    }
    student = made(0, grad=True)
    teachers = {"modal": TEACHERS["modal"], "structure": wide(TEACHERS["structure"], 7)}
    soft = objective(student, teachers)
    soft.total.backward()
    (weight,) = objective.parameters()
    assert weight.grad is not None
    assert bool(weight.grad.any())
    assert student.stem.grad is not None
    assert bool(student.stem.grad.any())
    projected = torch.einsum("bct,dc->bdt", made(0).stem, weight.detach())
    expected = terms.get("stem").fn(replace(made(0), stem=projected), teachers["structure"], 2.0)
    if role == "mix":
        expected = 0.8 * terms.get("stem").fn(made(0), teachers["modal"], 2.0) + 0.2 * expected
    torch.testing.assert_close(soft.parts["stem"].detach(), expected)


def test_equal_widths_need_no_projection() -> None:
    assert not list(same_width(spec(use("stem", "modal"))).parameters())
    assert not list(objective_of(spec(use("offsets", "modal")), modal=9, structure=9).parameters())


def test_padding_counts_only_with_count_padding() -> None:
    student = made(0)
    masked = same_width(spec(use("stem", "modal")))(student, TEACHERS).total
    counted = same_width(spec(use("stem", "modal"), count_padding=True))(student, TEACHERS).total
    torch.testing.assert_close(counted, (student.stem - TEACHERS["modal"].stem).square().mean())
    assert float(masked) != pytest.approx(float(counted))


def test_teachers_without_terms_have_no_influence() -> None:
    objective = same_width(spec(use("offsets", "modal")))
    other = {**TEACHERS, "structure": made(9)}
    torch.testing.assert_close(objective(made(0), TEACHERS).total, objective(made(0), other).total)
