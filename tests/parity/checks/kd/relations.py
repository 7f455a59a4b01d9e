"""Outputs of the losses between relations, by the names of the fixtures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from tal_bench.distill.losses.relations import rows
from tal_bench.distill.losses.relations.nst import nst
from tal_bench.distill.losses.relations.pkt import pkt
from tal_bench.distill.losses.relations.rkd import l2_normalised, rkd_angle, rkd_distance
from tal_bench.distill.losses.relations.sp import sp

from .case import Case

ROWS = {"time": rows.time_rows, "batch": rows.sample_rows, "batch_pooled": rows.pooled_rows}


def _rows(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of student and teacher, and which count."""
    mask, of = case.mask("student", 2), ROWS[case.settings["rows"]]
    student, valid = of(case["student"], mask)
    return student, of(case["teacher"], mask)[0], valid


def _per_sample(case: Case, values: Tensor) -> dict[str, Tensor]:
    return {"loss": values.mean(), "per_sample": values}


def _sp(case: Case) -> dict[str, Tensor]:
    return _per_sample(case, sp(*_rows(case)))


def _pkt(case: Case) -> dict[str, Tensor]:
    return _per_sample(case, pkt(*_rows(case), eps=case.settings["eps"]))


def _rkd(case: Case) -> dict[str, Tensor]:
    settings, (student, teacher, valid) = case.settings, _rows(case)
    if settings["l2_normalised_rows"]:
        student, teacher = l2_normalised(student), l2_normalised(teacher)
    distance = rkd_distance(student, teacher, valid, squared=settings["squared"], eps=settings["eps"])
    angle = rkd_angle(student, teacher, valid)
    loss = settings["distance_weight"] * distance + settings["angle_weight"] * angle
    return {
        "loss": loss.mean(),
        "distance": distance.mean(),
        "angle": angle.mean(),
        "distance_per_sample": distance,
        "angle_per_sample": angle,
    }


def _nst(case: Case) -> dict[str, Tensor]:
    return {"loss": nst(case["student"], case["teacher"], case.mask("student", 2))}


RELATIONS: Mapping[str, Callable[[Case], dict[str, Tensor]]] = {
    "sp": _sp,
    "pkt": _pkt,
    "rkd": _rkd,
    "nst": _nst,
}
