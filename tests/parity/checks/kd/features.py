"""Outputs of the losses between features, by the names of the fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from tal_bench.data.batches import pack_segments
from tal_bench.distill.losses.features import fgd as focal_global
from tal_bench.distill.losses.features.alignment import Alignment
from tal_bench.distill.losses.features.at import at, attention_map
from tal_bench.distill.losses.features.cwd import cwd
from tal_bench.distill.losses.features.fitnet import Projection, fitnet
from tal_bench.distill.losses.features.mars import mars
from tal_bench.distill.losses.features.mgd import Generation, kept, mgd
from tal_bench.distill.losses.features.pkd import pkd, standardised
from tal_bench.distill.losses.features.reviewkd import hierarchical_context
from tal_bench.distill.losses.features.vid import Regressor, vid
from tal_bench.distill.losses.masking import time_mean

from .case import Case


def _fitnet(case: Case) -> dict[str, Tensor]:
    student, teacher, mask = case["student"], case["teacher"], case.mask("student", 2)
    steps = case.settings["projection"].split("+")
    assert set(steps) <= {"conv", "bn", "relu"}, steps
    projection = Projection(student.shape[1], teacher.shape[1], norm="bn" in steps, relu="relu" in steps)
    names = {"conv.weight": "conv.weight", "conv.bias": "conv.bias"}
    case.load(
        projection,
        names | ({"scale": "bn.weight", "shift": "bn.bias"} if projection.scale is not None else {}),
    )
    projected = projection(student, mask)
    mse = fitnet(projected, teacher, mask)
    return {"loss": case.settings["loss_weight"] * mse, "mse": mse, "projected": case.cut(projected, 2)}


def _mars(case: Case) -> dict[str, Tensor]:
    student, teacher, mask = case["student"], case["teacher"], case.mask("student", 2)
    mse = mars(student, teacher, mask)
    return {
        "loss": case.settings["alpha"] * mse,
        "mse": mse,
        "student_pooled": time_mean(student, mask),
        "teacher_pooled": time_mean(teacher, mask),
    }


def _summed(levels: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the values of the levels and their sum."""
    values = list(levels)
    return {"loss": torch.stack(values).sum(), **{f"level_{i}": value for i, value in enumerate(values)}}


def _at(case: Case) -> dict[str, Tensor]:
    power, levels = case.settings["p"], case.levels()
    outputs = _summed(at(s, t, m, power=power) for s, t, m in levels)
    if len(levels) == 1:
        s, t, m = levels[0]
        maps = {"student_map": attention_map(s, m, power), "teacher_map": attention_map(t, m, power)}
        outputs |= {name: case.cut(x, 1) for name, x in maps.items()}
    return outputs


def _cwd(case: Case) -> dict[str, Tensor]:
    on = case.settings["on"]
    assert on in ("features", "logits"), on
    student, teacher = case["student"], case["teacher"]
    mask = case.mask("student", 2 if on == "features" else 1)
    if on == "logits":
        student, teacher = student.transpose(1, 2), teacher.transpose(1, 2)
    value = cwd(student, teacher, mask, temperature=case.settings["tau"])
    return {"loss": case.settings["loss_weight"] * value}


def _pkd(case: Case) -> dict[str, Tensor]:
    levels, weight = case.levels(), case.settings["loss_weight"]
    outputs = _summed(weight * pkd(s, t, m) for s, t, m in levels)
    if len(levels) == 1:
        s, t, m = levels[0]
        outputs["student_normed"] = case.cut(standardised(s, m), 2)
        outputs["teacher_normed"] = case.cut(standardised(t, m), 2)
    return outputs


def _vid(case: Case) -> dict[str, Tensor]:
    student, teacher, mask = case["student"], case["teacher"], case.mask("student", 2)
    settings = case.settings
    regressor = Regressor(
        student.shape[1],
        teacher.shape[1],
        initial_variance=settings["init_pred_var"],
        eps=settings["eps"],
    )
    if settings["log_scale_noise"] == 0:
        start = regressor.log_scale.detach().to(case.params["log_scale"])
        torch.testing.assert_close(start, case.params["log_scale"].detach(), rtol=1e-6, atol=0.0)
    weights = {f"layers.{i}.weight": f"regressor.{i}.weight" for i in (0, 2, 4)}
    case.load(regressor, weights | {"log_scale": "log_scale"})
    mean, variance = regressor(student, mask)
    return {"loss": vid(mean, variance, teacher, mask), "mean": case.cut(mean, 2)}


def _reviewkd(case: Case) -> dict[str, Tensor]:
    return _summed(hierarchical_context(s, t, m) for s, t, m in case.levels())


ALIGN = {"conv.weight": "align.weight", "conv.bias": "align.bias"}


def _mgd(case: Case) -> dict[str, Tensor]:
    student, teacher, mask = case["student"], case["teacher"], case.mask("student", 2)
    visible = kept(case["rand"].float(), case.settings["lambda"])
    assert torch.equal(visible, case["keep"].bool()), "the hidden steps differ"
    generation = Generation(student.shape[1], teacher.shape[1])
    names = {
        f"{ours}.{leaf}": f"generation.{theirs}.{leaf}"
        for ours, theirs in (("first", 0), ("second", 2))
        for leaf in ("weight", "bias")
    }
    align = {f"align.{ours}": theirs for ours, theirs in ALIGN.items()}
    case.load(generation, names | (align if generation.align.conv is not None else {}))
    distance = mgd(generation(student, visible, mask), teacher, mask)
    return {"loss": case.settings["alpha"] * distance, "distance": distance}


def _fgd(case: Case) -> dict[str, Tensor]:
    student, teacher, mask, settings = (
        case["student"],
        case["teacher"],
        case.mask("student", 2),
        case.settings,
    )
    align = Alignment(student.shape[1], teacher.shape[1])
    case.load(align, ALIGN if align.conv is not None else {})
    aligned = align(student, mask)
    lists = [case[f"segments/{b}"].detach() for b in range(len(student))]
    segments, labels = pack_segments(lists, [torch.zeros(len(x)) for x in lists])
    lengths = torch.tensor(settings["input_length"])
    foreground, background = focal_global.region_masks(segments, labels >= 0, lengths, mask)
    parts = focal_global.focal(aligned, teacher, mask, foreground, background, temperature=settings["temp"])
    context = focal_global.global_relation(
        _context(case, "s", teacher.shape[1])(aligned, mask),
        _context(case, "t", teacher.shape[1])(teacher.detach(), mask),
        mask,
    )
    attention = parts.time_attention + parts.channel_attention
    loss = (
        settings["alpha"] * parts.foreground
        + settings["beta"] * parts.background
        + settings["gamma"] * attention
        + settings["lambda"] * context
    )
    outputs = {
        "loss": loss,
        "fg": parts.foreground,
        "bg": parts.background,
        "attention": attention,
        "global": context,
        "mask_fg": case.cut(foreground, 1),
        "mask_bg": case.cut(background, 1),
    }
    for name, x in (("student", aligned), ("teacher", teacher)):
        time = focal_global.time_attention(x, mask, settings["temp"])
        outputs[f"time_attention_{name}"] = case.cut(time, 1)
        outputs[f"channel_attention_{name}"] = focal_global.channel_attention(x, mask, settings["temp"])
    return outputs


def _context(case: Case, side: str, channels: int) -> focal_global.GcBlock:
    block = focal_global.GcBlock(channels)
    layers = {
        "attention": f"conv_mask_{side}",
        "reduce": f"channel_add_conv_{side}.0",
        "norm": f"channel_add_conv_{side}.1",
        "expand": f"channel_add_conv_{side}.3",
    }
    case.load(
        block,
        {f"{o}.{leaf}": f"{t}.{leaf}" for o, t in layers.items() for leaf in ("weight", "bias")},
    )
    return block


FEATURES: Mapping[str, Callable[[Case], dict[str, Tensor]]] = {
    "fitnet": _fitnet,
    "mars": _mars,
    "at": _at,
    "cwd": _cwd,
    "pkd": _pkd,
    "vid": _vid,
    "reviewkd_hcl": _reviewkd,
    "mgd": _mgd,
    "fgd": _fgd,
}
