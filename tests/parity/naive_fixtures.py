"""Fixtures of distillation losses with random shapes and settings, in the format of the originals' fixtures.

    PYTHONPATH=tests python -m parity.naive_fixtures FOLDER --seed 3 --cases 8
    pytest tests/parity --parity-dir FOLDER

Numbers come from `naive.py`, in float64 and float32. Tolerances follow the rule of the originals' fixtures:
ten times the largest error of the float32 run, rounded up.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from safetensors.numpy import save_file

from .naive import FORMULAS

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
FLOORS = {"scalars_relative": 5e-6, "tensors_of_largest": 5e-6, "gradients_of_largest": 1e-5}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a case: samples, channels of student and teacher, steps, classes, bins, levels."""

    samples: int
    student: int
    teacher: int
    steps: int
    classes: int
    bins: int
    levels: int

    @classmethod
    def draw(cls, rng: Generator) -> Sizes:
        def one(*choices: int) -> int:
            return int(rng.choice(choices))

        return cls(
            one(1, 2, 3, 5), one(1, 2, 3, 6, 9), one(1, 3, 4, 7, 16), one(2, 3, 5, 7, 8, 13, 21),
            one(1, 2, 3, 5, 20), one(2, 5, 17), one(1, 2, 3),
        )  # fmt: skip


@dataclass
class Made:
    """Settings and arrays of a case, and parameters whose gradient is zero by analysis."""

    settings: dict[str, Any]
    inputs: Arrays
    params: Arrays
    zero: tuple[str, ...] = ()


def normal(rng: Generator, *shape: int, scale: float = 1.0) -> Array:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def features(rng: Generator, z: Sizes, *, equal: bool = False, levels: bool = False) -> Arrays:
    """Return features of student and teacher, of several levels where asked for."""
    inputs: Arrays = {}
    for i in range(z.levels if levels else 1):
        steps = max(1, z.steps // 2**i)
        end = f"_{i}" if levels and z.levels > 1 else ""
        inputs[f"student{end}"] = normal(rng, z.samples, z.teacher if equal else z.student, steps)
        inputs[f"teacher{end}"] = normal(rng, z.samples, z.teacher, steps)
    return inputs


def logits(rng: Generator, z: Sizes, classes: int, end: str = "") -> Arrays:
    shape = (z.samples, z.steps, classes)
    return {f"{side}{end}": normal(rng, *shape, scale=2.0) for side in ("student", "teacher")}


def weights(rng: Generator, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    return {name: normal(rng, *s, scale=1 / math.sqrt(math.prod(s[1:]) or 1)) for name, s in shapes.items()}


def layer(name: str, out: int, into: int, kernel: int = 1) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into, kernel), f"{name}.bias": (out,)}


def share(rng: Generator, z: Sizes, chance: float = 0.4) -> Array:
    return rng.random((z.samples, z.steps)) < chance


def tau(rng: Generator) -> float:
    return float(rng.choice([0.5, 1.0, 2.0, 4.0, 10.0]))


def outer(rng: Generator) -> float:
    return float(rng.choice([0.25, 1.0, 5.0, 100.0]))


def fitnet(rng: Generator, z: Sizes) -> Made:
    projection = str(rng.choice(["conv", "conv+bn", "conv+bn+relu"]))
    bn = "bn" in projection
    params = weights(rng, layer("conv", z.teacher, z.student))
    params |= weights(rng, {"bn.weight": (z.teacher,), "bn.bias": (z.teacher,)}) if bn else {}
    settings = {"projection": projection, "loss_weight": outer(rng)}
    return Made(settings, features(rng, z), params, ("conv.bias",) if bn else ())


def mars(rng: Generator, z: Sizes) -> Made:
    return Made({"alpha": outer(rng)}, features(rng, z, equal=True), {})


def at(rng: Generator, z: Sizes) -> Made:
    settings = {"p": int(rng.choice([1, 2, 3, 4])), "levels": z.levels}
    return Made(settings, features(rng, z, levels=True), {})


def relation(rng: Generator, z: Sizes, rows: str, **more: Any) -> Made:
    return Made({"rows": rows, **more}, features(rng, z), {})


def sp(rng: Generator, z: Sizes) -> Made:
    return relation(rng, z, str(rng.choice(["time", "batch"])))


def pkt(rng: Generator, z: Sizes) -> Made:
    eps = float(rng.choice([1e-7, 1e-5, 1e-3]))
    return relation(rng, z, str(rng.choice(["time", "batch_pooled"])), eps=eps)


def rkd(rng: Generator, z: Sizes) -> Made:
    rows = "time" if z.samples == 1 else str(rng.choice(["time", "batch_pooled"]))
    return relation(
        rng, z, rows, squared=bool(rng.random() < 0.5), eps=float(rng.choice([1e-12, 1e-6])),
        distance_weight=outer(rng), angle_weight=outer(rng), l2_normalised_rows=bool(rng.random() < 0.5),
    )  # fmt: skip


def nst(rng: Generator, z: Sizes) -> Made:
    return Made({}, features(rng, z), {})


def cwd(rng: Generator, z: Sizes) -> Made:
    on = str(rng.choice(["features", "logits"]))
    inputs = features(rng, z, equal=True) if on == "features" else logits(rng, z, z.classes)
    return Made({"on": on, "tau": tau(rng), "loss_weight": outer(rng)}, inputs, {})


def pkd(rng: Generator, z: Sizes) -> Made:
    inputs = features(rng, z, equal=True, levels=True)
    return Made({"loss_weight": outer(rng), "levels": z.levels}, inputs, {})


def reviewkd_hcl(rng: Generator, z: Sizes) -> Made:
    return Made({"levels": z.levels}, features(rng, z, equal=True, levels=True), {})


def vid(rng: Generator, z: Sizes) -> Made:
    settings = {"init_pred_var": float(rng.choice([1.0, 5.0])), "eps": float(rng.choice([1e-5, 1e-2]))}
    noise, start = float(rng.choice([0.0, 0.5])), settings["init_pred_var"] - settings["eps"]
    width, ends = z.teacher, (z.student, z.teacher, z.teacher)
    params = weights(rng, {f"regressor.{2 * i}.weight": (width, c, 1) for i, c in enumerate(ends)})
    params["log_scale"] = np.float32(math.log(math.exp(start) - 1)) + normal(rng, width, scale=noise)
    return Made(settings | {"log_scale_noise": noise}, features(rng, z), params)


def align(z: Sizes) -> dict[str, tuple[int, ...]]:
    return layer("align", z.teacher, z.student) if z.student != z.teacher else {}


def mgd(rng: Generator, z: Sizes) -> Made:
    hidden, random = float(rng.choice([0.0, 0.3, 0.65, 0.9])), rng.random((z.samples, z.steps))
    shapes = align(z)
    for i in (0, 2):
        shapes |= layer(f"generation.{i}", z.teacher, z.teacher, 3)
    random32 = random.astype(np.float32)
    keep = {"rand": random32, "keep": (random32 <= np.float32(1 - hidden)).astype(np.float32)}
    return Made({"alpha": outer(rng), "lambda": hidden}, features(rng, z) | keep, weights(rng, shapes))


def fgd(rng: Generator, z: Sizes) -> Made:
    width, stride, shapes = z.teacher, int(rng.choice([1, 2, 8])), {}
    for side in ("s", "t"):
        name = f"channel_add_conv_{side}"
        shapes |= layer(f"conv_mask_{side}", 1, width) | layer(f"{name}.0", width // 2, width)
        shapes |= {f"{name}.1.{leaf}": (width // 2,) for leaf in ("weight", "bias")}
        shapes |= layer(f"{name}.3", width, width // 2)
    inputs, length = features(rng, z), z.steps * stride
    for b in range(z.samples):
        edges = rng.uniform(0, length * 1.1, (int(rng.choice([0, 1, 4])), 2))
        inputs[f"segments/{b}"] = np.sort(edges, axis=1).astype(np.float32)
    settings = {name: outer(rng) for name in ("alpha", "beta", "gamma", "lambda")}
    settings |= {"temp": tau(rng), "stride": stride, "input_length": [length] * z.samples}
    return Made(settings, inputs, weights(rng, align(z) | shapes), ("conv_mask_s.bias", "conv_mask_t.bias"))


def dist(rng: Generator, z: Sizes) -> Made:
    version = str(rng.choice(["segmentation", "classification"]))
    settings = {"version": version, "beta": outer(rng), "gamma": outer(rng), "tau": tau(rng)}
    return Made(settings, logits(rng, z, max(z.classes, 2)), {})


def dkd(rng: Generator, z: Sizes) -> Made:
    classes = max(z.classes, 2)
    target = {"target": rng.integers(0, classes, (z.samples, z.steps))}
    settings = {"alpha": outer(rng), "beta": outer(rng), "temperature": tau(rng)}
    return Made(settings, logits(rng, z, classes) | target, {})


def logit_standardisation(rng: Generator, z: Sizes) -> Made:
    return Made({"temperature": tau(rng)}, logits(rng, z, max(z.classes, 3)), {})


def ofa(rng: Generator, z: Sizes) -> Made:
    classes = np.eye(z.classes, dtype=np.float32)[rng.integers(0, z.classes, (z.samples, z.steps))]
    target = {"target": classes * share(rng, z, 0.7)[..., None].astype(np.float32)}
    settings = {"eps": float(rng.choice([1.0, 1.1, 1.5, 2.0])), "temperature": tau(rng)}
    return Made(settings, logits(rng, z, z.classes) | target, {})


def bckd(rng: Generator, z: Sizes) -> Made:
    inputs = logits(rng, z, z.classes, "_logits")
    for side in ("student", "teacher"):
        edges = rng.uniform(0, z.steps, (z.samples, z.steps, 2))
        inputs[f"{side}_segments"] = np.sort(edges, axis=2).astype(np.float32)
    weight = share(rng, z, float(rng.choice([0.0, 0.5, 1.0])))
    inputs["weight"] = weight.astype(np.float32)
    settings = {"beta": float(rng.choice([1.0, 2.0])), "cls_weight": outer(rng), "loc_weight": outer(rng)}
    return Made(settings | {"avg_factor": float(max(weight.sum(), 1))}, inputs, {})


def ld(rng: Generator, z: Sizes) -> Made:
    shape, positive = (z.samples, z.steps, 2, z.bins), share(rng, z, float(rng.choice([0.0, 0.5])))
    inputs = logits(rng, z, z.classes, "_logits") | {
        f"{side}_bins": normal(rng, *shape, scale=2.0) for side in ("student", "teacher")
    }
    region = rng.random(positive.shape) * (share(rng, z) & ~positive)
    inputs |= {"positive": positive, "vlr_weight": region.astype(np.float32)}
    names = ("ld_weight", "ld_vlr_weight", "kd_weight", "avg_factor", "avg_factor_vlr")
    settings = {name: outer(rng) for name in names}
    return Made(settings | {"temperature": tau(rng), "kd_temperature": tau(rng)}, inputs, {})


def crosskd(rng: Generator, z: Sizes) -> Made:
    width, shape = z.teacher, (z.samples, z.teacher, z.steps)
    inputs = {
        f"{side}_{b}_hold": normal(rng, *shape) for side in ("student", "teacher") for b in ("cls", "reg")
    }
    weight = share(rng, z, 0.6)
    weight[0, 0] = True
    shapes = layer("cls_conv", width, width, 3) | layer("reg_conv", width, width, 3)
    shapes |= {"cls_out.weight": (z.classes, width, 3), "reg_out.weight": (2 * z.bins, width, 3)}
    settings = {"reused_teacher_head_idx": int(rng.choice([0, 1, 3])), "n_bins": z.bins}
    settings |= {"beta": float(rng.choice([1.0, 2.0])), "cls_weight": outer(rng), "reg_weight": outer(rng)}
    settings |= {"temperature": tau(rng), "avg_factor": float(weight.sum())}
    params = weights(rng, shapes) | {"scale": np.array(rng.uniform(0.5, 2.0), dtype=np.float32)}
    return Made(settings, inputs | {"weight": weight.astype(np.float32)}, params)


MAKERS: Mapping[str, Callable[[Generator, Sizes], Made]] = {
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
TRAINED = ("fitnet", "fgd", "mgd", "vid")
"""Methods whose parameters are trained."""
POOLED = ("at", "bckd", "dist", "dkd", "fitnet", "ld", "logit_standardisation", "ofa", "pkd", "vid")
"""Methods that pool the valid steps of a batch, so that a sample may have none."""
LEAST: Mapping[str, Mapping[str, int]] = {
    "at": {"steps": 8},
    "crosskd": {"teacher": 3, "steps": 5},
    "dist": {"classes": 3},
    "fgd": {"teacher": 6, "steps": 5},
    "fitnet": {"student": 2, "steps": 5},
    "pkd": {"steps": 13},
    "pkt": {"student": 3, "teacher": 3, "steps": 7, "samples": 2},
    "rkd": {"student": 3, "teacher": 3, "steps": 5, "samples": 3},
}
"""Smallest sizes of methods; below them gradients are 0 by analysis and consist of rounding errors."""


def masked(rng: Generator, name: str, z: Sizes, made: Made) -> None:
    """Give a case a mask, whose samples have lengths of their own; what lies beyond is arbitrary."""
    least = min(5 if name in LEAST else 1, z.steps)
    lengths = rng.integers(least, z.steps + 1, z.samples)
    if name in POOLED and z.samples > 1 and rng.random() < 0.5:
        lengths[-1] = 0
    mask = np.arange(z.steps) < lengths[:, None]
    for key, array in made.inputs.items():
        if key.startswith(("student", "teacher")):
            time = 1 if array.shape[1] == z.steps and key.endswith(("logits", "segments", "bins")) else None
            away = ~mask[:, None] if time is None and is_feature(name, made) else ~mask
            np.copyto(array, 1e3, where=np.broadcast_to(expanded(away, array), array.shape))
    made.inputs["mask"] = mask
    if name == "crosskd":
        made.inputs["weight"] *= mask
        made.inputs["weight"][0, 0] = 1
    if made.settings.get("rows") == "batch":
        made.settings["rows"] = "time"
    if "input_length" in made.settings:
        made.settings["input_length"] = [int(n) * made.settings["stride"] for n in lengths]


def is_feature(name: str, made: Made) -> bool:
    logit_methods = ("bckd", "dist", "dkd", "ld", "logit_standardisation", "ofa")
    return name not in logit_methods and made.settings.get("on") != "logits"


def expanded(mask: Array, like: Array) -> Array:
    return mask.reshape(*mask.shape, *(1,) * (like.ndim - mask.ndim))


def run(name: str, made: Made, precision: type[np.floating[Any]]) -> tuple[Arrays, Arrays]:
    """Return the outputs and the gradients of a case."""

    def leaf(array: Array) -> torch.Tensor:
        floating = np.issubdtype(array.dtype, np.floating)
        x = torch.from_numpy(array.astype(precision) if floating else array.copy())
        return x.requires_grad_(floating)

    x, p = ({key: leaf(a) for key, a in arrays.items()} for arrays in (made.inputs, made.params))
    outputs = FORMULAS[name](made.settings, x, p)
    outputs["loss"].backward()
    leaves = {k: t for k, t in x.items() if k.startswith("student")} | (p if name in TRAINED else {})
    gradients = {k: t.grad if t.grad is not None else torch.zeros_like(t) for k, t in leaves.items()}
    return tuple({k: t.detach().numpy() for k, t in one.items()} for one in (outputs, gradients))  # type: ignore[return-value]


def case(rng: Generator, name: str, *, with_mask: bool) -> Made:
    """Return a case of a method with random sizes and settings."""
    z = Sizes.draw(rng)
    z = Sizes(**{size: max(n, LEAST.get(name, {}).get(size, 1)) for size, n in vars(z).items()})
    if with_mask:
        z = Sizes(**(vars(z) | {"levels": 1}))
    made = MAKERS[name](rng, z)
    if with_mask:
        masked(rng, name, z, made)
    return made


def write(folder: Path, name: str, seed: int, cases: int) -> None:
    """Write the fixture of a method; every third case has a mask."""
    rng = np.random.default_rng([seed, sorted(MAKERS).index(name)])
    arrays: Arrays = {}
    facts: dict[str, Any] = {}
    worst = dict.fromkeys(FLOORS, 0.0)
    for i in range(cases):
        label = f"masked{i}" if i % 3 == 2 else f"case{i}"
        made = case(rng, name, with_mask=i % 3 == 2)
        (outputs, gradients), (rounded, rounded_gradients) = (
            run(name, made, precision) for precision in (np.float64, np.float32)
        )
        groups = {"in": made.inputs, "param": made.params, "out64": outputs, "grad64": gradients}
        groups |= {"out": rounded, "grad": rounded_gradients}
        arrays |= {f"{label}/{g}/{key}": a for g, several in groups.items() for key, a in several.items()}
        observe(worst, outputs, rounded, gradients, rounded_gradients, made.zero)
        facts[label] = {
            "settings": made.settings, "gradients_of": list(gradients), "zero_gradients": list(made.zero)
        }  # fmt: skip
    tolerances = {
        "float32_against_out64": {key: max(FLOORS[key], rounded_up(10 * e)) for key, e in worst.items()},
        "float64_against_out64": dict(zip(FLOORS, (1e-10, 1e-10, 1e-9), strict=True)),
        "observed": worst,
    }
    meta = {"name": f"kd_{name}", "method": name, "formula": "see naive.py", "cases": facts}
    (folder / f"kd_{name}.json").write_text(json.dumps(meta | {"tolerances": tolerances}))
    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, folder / f"kd_{name}.safetensors")


def observe(
    worst: dict[str, float],
    exact: Arrays,
    rounded: Arrays,
    grad: Arrays,
    rounded_grad: Arrays,
    zero: tuple[str, ...],
) -> None:
    """Keep the largest errors of the float32 run."""
    for key, theirs in exact.items():
        kind = "scalars_relative" if theirs.size == 1 else "tensors_of_largest"
        keep(worst, kind, rounded[key], theirs, 1e-6 if theirs.size == 1 else 0.0)
    overall = max(float(np.abs(g).max(initial=0.0)) for g in grad.values())
    for key, theirs in grad.items():
        if key not in zero:
            keep(worst, "gradients_of_largest", rounded_grad[key], theirs, 1e-12 * overall)


def keep(worst: dict[str, float], kind: str, ours: Array, theirs: Array, noise: float) -> None:
    largest = float(np.abs(theirs).max(initial=0.0))
    if largest > noise:
        worst[kind] = max(worst[kind], float(np.abs(ours.astype(np.float64) - theirs).max()) / largest)


def rounded_up(x: float) -> float:
    """Return the next number of the series 1, 2, 5."""
    if x == 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(x))
    return power * next(step for step in (1, 2, 5, 10) if step * power >= x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=6)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in MAKERS:
        write(args.folder, name, args.seed, args.cases)


if __name__ == "__main__":
    main()
