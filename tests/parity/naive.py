"""Published distillation losses written a second time, plainly, from their formulas.

Each function follows the formula in the fixture of its method: it cuts the inputs to their valid steps,
loops over samples, and leaves the gradients to autograd. It shares no code with the product, so the fixtures
of other shapes and settings that `naive_fixtures.py` makes with it are an independent reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = Mapping[str, Tensor]
Outputs = dict[str, Tensor]
Formula = Callable[[Mapping[str, Any], Tensors, Tensors], Outputs]
"""Settings, inputs and parameters of a case to its outputs; `loss` is the one that is differentiated."""

MACHINE = 2.0**-23


def valid(x: Tensors, name: str, time: int) -> list[Tensor]:
    """Return an input sample by sample, [T_b, ...], its valid steps only."""
    samples = [s.movedim(time - 1, 0) for s in x[name]]
    return [s[m] for s, m in zip(samples, x["mask"], strict=True)] if "mask" in x else samples


def features(x: Tensors) -> tuple[list[Tensor], list[Tensor]]:
    return valid(x, "student", 2), [t.detach() for t in valid(x, "teacher", 2)]


def rows(x: Tensors, *names: str) -> list[Tensor]:
    return [torch.cat(valid(x, name, 1)) for name in names]


def levels(x: Tensors) -> list[Tensors]:
    """Return the inputs of each level as those of a single level."""
    if "student" in x:
        return [x]
    count = sum(name.startswith("student_") for name in x)
    return [{"student": x[f"student_{i}"], "teacher": x[f"teacher_{i}"]} for i in range(count)]


def summed(values: list[Tensor]) -> Outputs:
    parts = {f"level_{i}": v for i, v in enumerate(values)} if len(values) > 1 else {}
    return {"loss": torch.stack(values).sum()} | parts


def kl(teacher: Tensor, student: Tensor, dim: int) -> Tensor:
    p, q = teacher.detach().log_softmax(dim), student.log_softmax(dim)
    return (p.exp() * (p - q)).sum(dim)


def conv(x: Tensor, p: Tensors, name: str) -> Tensor:
    """Convolve [T, C] in time with zeros beyond its ends."""
    weight, bias = p[f"{name}.weight"], p.get(f"{name}.bias")
    edge = weight.shape[2] // 2
    around = torch.cat([x.new_zeros(edge, x.shape[1]), x, x.new_zeros(edge, x.shape[1])])
    steps = [around[i : i + len(x)] @ weight[:, :, i].T for i in range(weight.shape[2])]
    y = torch.stack(steps).sum(0)
    return y if bias is None else y + bias


def fitnet(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    student, teacher = features(x)
    y = torch.cat([conv(f, p, "conv") for f in student])
    if "bn" in s["projection"]:
        variance = (y - y.mean(0)).square().mean(0)
        y = p["bn.weight"] * (y - y.mean(0)) / (variance + 1e-5).sqrt() + p["bn.bias"]
    y = y.clamp(min=0) if "relu" in s["projection"] else y
    mse = (y - torch.cat(teacher)).square().mean()
    return {"loss": s["loss_weight"] * mse, "mse": mse}


def mars(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    student, teacher = (torch.stack([f.mean(0) for f in side]) for side in features(x))
    mse = (student - teacher).square().mean()
    return {"loss": s["alpha"] * mse, "mse": mse, "student_pooled": student, "teacher_pooled": teacher}


def at(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    def level(one: Tensors) -> Tensor:
        sides = ([(f ** s["p"]).mean(1) for f in side] for side in features(one))
        student, teacher = (torch.cat([a / a.norm().clamp(min=1e-12) for a in side]) for side in sides)
        return (student - teacher).square().mean()

    return summed([level(one) for one in levels(x)])


def similarity(e: Tensor) -> Tensor:
    gram = e @ e.T
    return gram / gram.norm(dim=1, keepdim=True).clamp(min=1e-12)


def sets(s: Mapping[str, Any], x: Tensors) -> list[tuple[Tensor, Tensor]]:
    """Return the sets of rows [R, C] of student and teacher."""
    student, teacher = features(x)
    if s["rows"] == "time":
        return list(zip(student, teacher, strict=True))
    flat: Callable[[Tensor], Tensor] = (lambda f: f.mean(0)) if s["rows"] == "batch_pooled" else torch.flatten
    return [(torch.stack([*map(flat, student)]), torch.stack([*map(flat, teacher)]))]


def per_set(s: Mapping[str, Any], values: list[Tensor]) -> Outputs:
    every = torch.stack(values)
    return {"loss": every.mean()} | ({"per_sample": every} if s["rows"] == "time" else {})


def sp(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    return per_set(s, [(similarity(t) - similarity(e)).square().mean() for e, t in sets(s, x)])


def pkt(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    def probability(e: Tensor) -> Tensor:
        n = e / (e.norm(dim=1, keepdim=True) + s["eps"])
        similar = (n @ n.T + 1) / 2
        return similar / similar.sum(1, keepdim=True)

    def value(e: Tensor, t: Tensor) -> Tensor:
        a, b = probability(t), probability(e)
        return (a * ((a + s["eps"]) / (b + s["eps"])).log()).mean()

    return per_set(s, [value(*pair) for pair in sets(s, x)])


def rkd(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    def distance(e: Tensor) -> Tensor:
        square = (e @ e.T).diagonal()
        d = (square[:, None] + square - 2 * e @ e.T).clamp(min=s["eps"])
        d = (d if s["squared"] else d.sqrt()) * (1 - torch.eye(len(e), dtype=e.dtype))
        return d / d[d > 0].mean()

    def angle(e: Tensor) -> Tensor:
        u = F.normalize(e[None] - e[:, None], dim=2)
        return torch.einsum("ijc,ikc->ijk", u, u)

    pairs = [(e, t) for e, t in sets(s, x)]
    if s["l2_normalised_rows"]:
        pairs = [(F.normalize(e, dim=1), F.normalize(t, dim=1)) for e, t in pairs]
    far = torch.stack([F.smooth_l1_loss(distance(e), distance(t)) for e, t in pairs])
    turned = torch.stack([F.smooth_l1_loss(angle(e), angle(t)) for e, t in pairs])
    outputs = {"distance": far.mean(), "angle": turned.mean()}
    outputs["loss"] = s["distance_weight"] * far.mean() + s["angle_weight"] * turned.mean()
    return outputs | ({"distance_per_sample": far, "angle_per_sample": turned} if s["rows"] == "time" else {})


def nst(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a.T @ b).square().mean()

    values = []
    for e, t in zip(*features(x), strict=True):
        a, b = (y / y.norm(dim=0).clamp(min=1e-12) for y in (e, t))
        values.append(kernel(b, b) + kernel(a, a) - 2 * kernel(a, b))
    return {"loss": torch.stack(values).mean()}


def cwd(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    time = 2 if s["on"] == "features" else 1
    sides = zip(valid(x, "student", time), valid(x, "teacher", time), strict=True)
    values = torch.stack([kl(t / s["tau"], e / s["tau"], 0) for e, t in sides])
    return {"loss": s["loss_weight"] * s["tau"] ** 2 * values.mean()}


def pkd(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    def level(one: Tensors) -> Tensor:
        e, t = (torch.cat(side) for side in features(one))
        a, b = ((y - y.mean(0)) / (y.std(0) + 1e-6) for y in (e, t))
        return s["loss_weight"] * (a - b).square().mean() / 2

    return summed([level(one) for one in levels(x)])


def pooled(f: Tensor, k: int) -> Tensor:
    steps = len(f)
    return torch.stack([f[i * steps // k : math.ceil((i + 1) * steps / k)].mean(0) for i in range(k)])


def reviewkd_hcl(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    def level(one: Tensors) -> Tensor:
        values = []
        for e, t in zip(*features(one), strict=True):
            scales = [(e, t)] + [(pooled(e, k), pooled(t, k)) for k in (4, 2, 1) if k < len(e)]
            weights = [0.5**i for i in range(len(scales))]
            total = sum(w * (a - b).square().mean() for w, (a, b) in zip(weights, scales, strict=True))
            values.append(torch.as_tensor(total) / sum(weights))
        return torch.stack(values).mean()

    return summed([level(one) for one in levels(x)])


def vid(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    student, teacher = (torch.cat(side) for side in features(x))
    for i in (0, 2, 4):
        student = student @ p[f"regressor.{i}.weight"][:, :, 0].T
        student = student.clamp(min=0) if i < 4 else student
    variance = (1 + p["log_scale"].exp()).log() + s["eps"]
    return {"loss": ((student - teacher).square() / variance + variance.log()).mean() / 2}


def aligned(f: Tensor, p: Tensors) -> Tensor:
    return conv(f, p, "align") if "align.weight" in p else f


def mgd(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    student, teacher = features(x)
    total = torch.zeros((), dtype=student[0].dtype)
    for e, t, keep in zip(student, teacher, valid(x, "keep", 1), strict=True):
        hidden = conv(aligned(e, p) * keep[:, None], p, "generation.0").clamp(min=0)
        total = total + (conv(hidden, p, "generation.2") - t).square().sum()
    return {"loss": s["alpha"] * total / len(student), "distance": total / len(student)}


def fgd(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    parts = {name: [] for name in ("fg", "bg", "attention", "global")}  # type: dict[str, list[Tensor]]
    student, teacher = features(x)
    for b, (unaligned, t) in enumerate(zip(student, teacher, strict=True)):
        e = aligned(unaligned, p)
        inside = torch.zeros(len(e), dtype=e.dtype)
        for start, end in x[f"segments/{b}"].tolist():
            first = math.floor(start / s["input_length"][b] * len(e))
            last = math.ceil(end / s["input_length"][b] * len(e))
            for i in range(first, min(last, len(e) - 1) + 1):
                inside[i] = max(float(inside[i]), 1 / (last + 1 - first))
        outside = (inside == 0).to(e.dtype)
        outside = outside / outside.sum().clamp(min=1)
        time_e, time_t = (len(y) * (y.abs().mean(1) / s["temp"]).softmax(0) for y in (e, t))
        channel_e, channel_t = (y.shape[1] * (y.abs().mean(0) / s["temp"]).softmax(0) for y in (e, t))
        error = ((e - t).square() * channel_t).sum(1) * time_t
        parts["fg"].append((inside * error).sum())
        parts["bg"].append((outside * error).sum())
        parts["attention"].append((channel_e - channel_t).abs().sum() + (time_e - time_t).abs().sum())
        parts["global"].append((context(e, p, "s") - context(t, p, "t")).square().sum())
    outputs = {name: torch.stack(values).mean() for name, values in parts.items()}
    weights = {"fg": "alpha", "bg": "beta", "attention": "gamma", "global": "lambda"}
    loss = torch.stack([s[weights[name]] * value for name, value in outputs.items()]).sum()
    return outputs | {"loss": loss}


def context(f: Tensor, p: Tensors, side: str) -> Tensor:
    share = conv(f, p, f"conv_mask_{side}")[:, 0].softmax(0)
    g = (share[:, None] * f).sum(0)
    name = f"channel_add_conv_{side}"
    h = p[f"{name}.0.weight"][:, :, 0] @ g + p[f"{name}.0.bias"]
    h = (h - h.mean()) / ((h - h.mean()).square().mean() + 1e-5).sqrt()
    h = (h * p[f"{name}.1.weight"] + p[f"{name}.1.bias"]).clamp(min=0)
    return f + p[f"{name}.3.weight"][:, :, 0] @ h + p[f"{name}.3.bias"]


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of each row."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)


def dist(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    e, t = ((y / s["tau"]).softmax(1) for y in rows(x, "student", "teacher"))
    inter = s["tau"] ** 2 * (1 - correlation(e, t).mean())
    intra = s["tau"] ** 2 * (1 - correlation(e.T, t.T).mean())
    return {"loss": s["beta"] * inter + s["gamma"] * intra, "inter": inter, "intra": intra}


def dkd(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    e, t, targets = rows(x, "student", "teacher", "target")
    target, others = [], []
    for a, b, y in zip(e, t, targets.tolist(), strict=True):
        rest = [k for k in range(len(a)) if k != y]
        pa, pb = ((z / s["temperature"]).softmax(0) for z in (a, b))
        qa, qb = (torch.stack([z[y], z[rest].sum()]) for z in (pa, pb))
        target.append((qb * (qb / qa).log()).sum())
        others.append(kl(b[rest] / s["temperature"], a[rest] / s["temperature"], 0))
    tckd, nckd = (s["temperature"] ** 2 * torch.stack(v).mean() for v in (target, others))
    return {"loss": s["alpha"] * tckd + s["beta"] * nckd, "tckd": tckd, "nckd": nckd}


def logit_standardisation(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    e, t = (
        (y - y.mean(1, keepdim=True)) / (1e-7 + y.std(1, keepdim=True)) for y in rows(x, "student", "teacher")
    )
    return {"loss": s["temperature"] ** 2 * kl(t / s["temperature"], e / s["temperature"], 1).mean()}


def ofa(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    e, t, y = rows(x, "student", "teacher", "target")
    e, t = e / s["temperature"], t / s["temperature"]
    return {"loss": -(((t.softmax(1) + y) ** s["eps"] - y) * e.log_softmax(1)).sum(1).mean()}


def score_loss(e: Tensor, t: Tensor, beta: float) -> Tensor:
    """Return [N], the cross entropy of scores weighted by their difference."""
    a, b = e.sigmoid(), t.sigmoid().detach()
    entropy = -b * F.logsigmoid(e) - (1 - b) * F.logsigmoid(-e)
    return ((a - b).abs() ** beta * entropy).sum(1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    inside = (torch.minimum(a[1], b[1]) - torch.maximum(a[0], b[0])).clamp(min=0)
    union = (a[1] - a[0] + b[1] - b[0] - inside).clamp(min=1e-6)
    hull = (torch.maximum(a[1], b[1]) - torch.minimum(a[0], b[0])).clamp(min=1e-6)
    return inside / union - (hull - union) / hull


def bckd(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    e, t, weight = rows(x, "student_logits", "teacher_logits", "weight")
    segments = zip(*rows(x, "student_segments", "teacher_segments"), strict=True)
    count = s["avg_factor"] + MACHINE
    worst = weight * (e.sigmoid() - t.sigmoid()).abs().amax(1)
    missed = torch.stack([1 - giou(a, b.detach()) for a, b in segments])
    cls = s["cls_weight"] / count * (weight * score_loss(e, t, s["beta"])).sum()
    loc = s["loc_weight"] / count * (worst.detach() * missed).sum()
    return {"loss": cls + loc, "cls": cls, "loc": loc}


def ld(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    e, t, logits, taught, positive, region = rows(
        x, "student_bins", "teacher_bins", "student_logits", "teacher_logits", "positive", "vlr_weight"
    )
    tau, hot = s["temperature"], s["kd_temperature"]
    edges = tau**2 / e.shape[2] * kl(t / tau, e / tau, 2).sum(1)
    score = logits.sigmoid().amax(1).detach()
    main = s["ld_weight"] / s["avg_factor"] * (score * edges)[positive].sum()
    other = s["ld_vlr_weight"] / s["avg_factor_vlr"] * (region * edges).sum()
    classes = hot**2 / logits.shape[1] * kl(taught / hot, logits / hot, 1)[positive]
    kd = s["kd_weight"] * classes.sum() / max(len(classes), 1)
    return {"loss": main + other + kd, "ld": main, "ld_vlr": other, "kd": kd}


def crosskd(s: Mapping[str, Any], x: Tensors, p: Tensors) -> Outputs:
    def head(f: Tensor, branch: str) -> Tensor:
        f = f.clamp(min=0) if s["reused_teacher_head_idx"] > 0 else f
        return conv(conv(f, p, f"{branch}_conv").clamp(min=0), p, f"{branch}_out")

    outputs: dict[str, tuple[Tensor, Tensor]] = {}
    for branch in ("cls", "reg"):
        student, teacher = valid(x, f"student_{branch}_hold", 2), valid(x, f"teacher_{branch}_hold", 2)
        e, t = torch.cat(student), torch.cat(teacher).detach()
        moved = [(f - e.mean(0)) / (e.std(0) + 1e-6) * t.std(0) + t.mean(0) for f in student]
        sides = (moved, teacher)
        outputs[branch] = tuple(torch.cat([head(f, branch) for f in side]) for side in sides)  # type: ignore[assignment]
    (weight,) = rows(x, "weight")
    count = s["avg_factor"] + MACHINE
    e, t = outputs["cls"]
    cls = s["cls_weight"] / count * (weight * score_loss(e, t, s["beta"])).sum()
    region = t.amax(1).sigmoid() * (weight != 0)
    a, b = ((p["scale"] * y).unflatten(1, (2, s["n_bins"])) / s["temperature"] for y in outputs["reg"])
    edges = s["temperature"] ** 2 * kl(b, a, 2).sum(1)
    reg = s["reg_weight"] / ((2 + MACHINE / 2) * region.sum()) * (region * edges).sum()
    return {"loss": cls + reg, "cls": cls, "reg": reg, "reg_normaliser": region.sum()}


FORMULAS: Mapping[str, Formula] = {
    "at": at,
    "bckd": bckd,
    "crosskd": crosskd,
    "cwd": cwd,
    "dist": dist,
    "dkd": dkd,
    "fgd": fgd,
    "fitnet": fitnet,
    "ld": ld,
    "logit_standardisation": logit_standardisation,
    "mars": mars,
    "mgd": mgd,
    "nst": nst,
    "ofa": ofa,
    "pkd": pkd,
    "pkt": pkt,
    "reviewkd_hcl": reviewkd_hcl,
    "rkd": rkd,
    "sp": sp,
    "vid": vid,
}
