"""Outputs of the losses between logits and boundaries, by the names of the fixtures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from tal_bench.distill.losses.localization import bckd, crosskd, ld
from tal_bench.distill.losses.logits.dist import dist_inter, dist_intra
from tal_bench.distill.losses.logits.dkd import dkd_others, dkd_target
from tal_bench.distill.losses.logits.ofa import ofa
from tal_bench.distill.losses.logits.standardisation import standardised_kl, z_scores
from tal_bench.distill.losses.masking import valid_rows

from .case import Case


def _dist(case: Case) -> dict[str, Tensor]:
    settings, mask, tau = case.settings, case.mask("student", 1), case.settings["tau"]
    scores = [(valid_rows(case[name], mask) / tau).softmax(dim=2) for name in ("student", "teacher")]
    inter, intra = (tau**2 * loss(*scores, mask) for loss in (dist_inter, dist_intra))
    loss = settings["beta"] * inter + settings["gamma"] * intra
    return {"loss": loss, "inter": inter, "intra": intra}


def _dkd(case: Case) -> dict[str, Tensor]:
    settings = case.settings
    given = case["student"], case["teacher"], case["target"], case.mask("student", 1)
    target, others = (loss(*given, temperature=settings["temperature"]) for loss in (dkd_target, dkd_others))
    loss = settings["alpha"] * target + settings["beta"] * others
    return {"loss": loss, "tckd": target, "nckd": others}


def _standardisation(case: Case) -> dict[str, Tensor]:
    student, teacher, mask = case["student"], case["teacher"], case.mask("student", 1)
    return {
        "loss": standardised_kl(student, teacher, mask, temperature=case.settings["temperature"]),
        "student_z": case.cut(z_scores(student, mask), 1),
        "teacher_z": case.cut(z_scores(teacher, mask), 1),
    }


def _ofa(case: Case) -> dict[str, Tensor]:
    settings = case.settings
    given = case["student"], case["teacher"], case["target"].detach(), case.mask("student", 1)
    return {"loss": ofa(*given, eps=settings["eps"], temperature=settings["temperature"])}


def _bckd(case: Case) -> dict[str, Tensor]:
    settings, mask = case.settings, case.mask("weight", 1)
    logits, positives = (case["student_logits"], case["teacher_logits"]), settings["avg_factor"]
    label = case["weight"].detach()
    classification = bckd.bckd_classification(*logits, label, mask, positives, beta=settings["beta"])
    weight = bckd.localization_weight(*logits, label, mask)
    segments = case["student_segments"], case["teacher_segments"]
    localization = bckd.bckd_localization(*segments, weight, mask, positives)
    cls, loc = settings["cls_weight"] * classification, settings["loc_weight"] * localization
    return {
        "loss": cls + loc,
        "cls": cls,
        "loc": loc,
        "giou": case.cut(bckd.segment_giou(*segments), 1),
        "loc_weight_per_position": case.cut(weight, 1),
    }


def _ld(case: Case) -> dict[str, Tensor]:
    settings, mask = case.settings, case.mask("positive", 1)
    bins, logits = (
        (case["student_bins"], case["teacher_bins"]),
        (case["student_logits"], case["teacher_logits"]),
    )
    weight = ld.score_weight(case["student_logits"], case["positive"], mask)
    loss = partial(ld.ld, *bins, mask=mask, temperature=settings["temperature"])
    main = settings["ld_weight"] / settings["avg_factor"] * loss(weight)
    region = settings["ld_vlr_weight"] / settings["avg_factor_vlr"] * loss(case["vlr_weight"].detach())
    classes = ld.ld_classes(*logits, case["positive"], mask, temperature=settings["kd_temperature"])
    classes = settings["kd_weight"] * classes
    return {
        "loss": main + region + classes,
        "ld": main,
        "ld_vlr": region,
        "kd": classes,
        "weight_per_position": weight,
    }


def _crosskd(case: Case) -> dict[str, Tensor]:
    settings, mask, label = case.settings, case.mask("weight", 1), case["weight"].detach()
    params = {name: p.detach() for name, p in case.params.items()}
    first = settings["reused_teacher_head_idx"] > 0

    def head(branch: str, x: Tensor, mask: Tensor) -> Tensor:
        x = F.relu(x) if first else x
        for layer in (f"{branch}_conv", f"{branch}_out"):
            x = F.relu(x) if layer.endswith("_out") else x
            x = F.conv1d(
                x.masked_fill(~mask[:, None], 0.0),
                params[f"{layer}.weight"],
                params.get(f"{layer}.bias"),
                padding=1,
            )
        if branch == "cls":
            return x.transpose(1, 2)
        return (params["scale"] * x).unflatten(1, (2, settings["n_bins"])).permute(0, 3, 1, 2)

    outputs: dict[str, Tensor] = {}
    for branch, kind in (("cls", "logits"), ("reg", "bins")):
        student, teacher = case[f"student_{branch}_hold"], case[f"teacher_{branch}_hold"].detach()
        run = partial(head, branch)
        outputs[f"aligned_{branch}"] = case.cut(crosskd.aligned(student, teacher, mask), 2)
        outputs[f"reused_{kind}"] = crosskd.reused(run, student, teacher, mask)
        outputs[f"teacher_{kind}"] = run(teacher, mask)
    logits = outputs["reused_logits"], outputs["teacher_logits"]
    classification = bckd.bckd_classification(
        *logits, label, mask, settings["avg_factor"], beta=settings["beta"]
    )
    region = crosskd.region_weight(outputs["teacher_logits"], label, mask)
    bins = outputs["reused_bins"], outputs["teacher_bins"]
    localization = crosskd.crosskd_localization(*bins, region, mask, temperature=settings["temperature"])
    cls, reg = settings["cls_weight"] * classification, settings["reg_weight"] * localization
    predictions = {
        name: case.cut(x, 1) for name, x in outputs.items() if name.startswith(("reused", "teacher"))
    }
    return outputs | predictions | {"loss": cls + reg, "cls": cls, "reg": reg, "reg_normaliser": region.sum()}


PREDICTIONS: Mapping[str, Callable[[Case], dict[str, Tensor]]] = {
    "dist": _dist,
    "dkd": _dkd,
    "logit_standardisation": _standardisation,
    "ofa": _ofa,
    "bckd": _bckd,
    "ld": _ld,
    "crosskd": _crosskd,
}
