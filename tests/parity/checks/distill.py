"""Published distillation variants: every term, the total and the student's gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from tal_bench.config import DistillSpec, TeacherUse, TrainSpec
from tal_bench.converters.original_config import train_spec
from tal_bench.data.batches import pack_segments
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.terms.registry import terms
from tal_bench.distill.variants import Variant, variants
from tal_bench.models.losses import DetectionLoss, detection_loss
from tal_bench.models.targets import assign, pyramid_points
from tal_bench.types import DetectorOutput

from ..fixtures import Fixture
from . import Compared, Kind, has
from .arrays import Arrays, default_device, equal, near_levels, relative, scaled
from .networks import LOSS, OUTPUT, Network, gradients, losses, network

VARIANTS = {"rgb": "c2ms-modal", "sim": "c2ms-structure", "multi": "c2ms-both"}
"""Mode of the original's training loop to our variant."""
ROLES = {"modal_teacher": "modal", "structure_teacher": "structure"}
TERMS = {"hallucination": "i3d", "stem": "stem", "logits": "logits", "offsets": "bound"}


def check(fixture: Fixture) -> Iterator[Compared]:
    """Run student and teachers on the batch, with weights, shares and temperature of the variant."""
    arrays, meta = Arrays(fixture), fixture.meta
    assert meta["mode"] in VARIANTS, f"{fixture.id}: mode {meta['mode']!r} is none of {', '.join(VARIANTS)}"
    variant = variants.get(VARIANTS[meta["mode"]])
    nets = {name: network(kwargs, arrays.tree(name)) for name, kwargs in meta["models"].items()}
    yield from _declared(variant, meta["constants"])
    feats = arrays.several("batch/feats")
    outputs = {}
    for name, net in nets.items():
        net.detector.requires_grad_(name == "student").train()
        outputs[name] = net.run(feats, net.spec.max_length)
        yield from _outputs(name, outputs[name], arrays)
    student = nets["student"]
    teachers = {_role(name, variant): output for name, output in outputs.items() if name != "student"}
    hard = _labels(student, outputs["student"], arrays, meta)
    yield from losses("hard", hard.classification, hard.regression, hard.total, _hard(meta["terms"]))
    for name in nets:
        yield relative(f"normaliser/{name}", hard.normalizer, meta["loss_normalizer"][name][1], LOSS)
    yield from _distilled(variant, student, outputs["student"], teachers, hard, meta)
    yield from gradients(student.detector, arrays.tree("grad"), meta)
    arrays.finish()


def _role(name: str, variant: Variant) -> str:
    """Return the role of the only teacher, or of one of two."""
    return ROLES.get(name) or next(iter(variant.teachers))


def _declared(variant: Variant, constants: dict[str, Any]) -> Iterator[Compared]:
    yield equal("lambda", variant.soft_weight, constants["lambda_"])
    yield equal("temperature", variant.temperature, constants["T"])
    shares = {role: ref.weight for role, ref in variant.teachers.items()}
    for role, name in (("modal", "big_modal"), ("structure", "small_structure")):
        if name in constants:
            yield equal(f"share of {role}", shares[role], constants[name])


def _outputs(name: str, output: DetectorOutput, arrays: Arrays) -> Iterator[Compared]:
    case = f"out/{name}"
    yield from near_levels(f"{case}/logits", output.logits, arrays.several(f"{case}/logits"), OUTPUT)
    yield from near_levels(f"{case}/offsets", output.offsets, arrays.several(f"{case}/offsets"), OUTPUT)
    for leaf, ours in (("batched_inputs", output.inputs), ("stem_out", output.stem)):
        yield from scaled(f"{case}/{leaf}", [ours], [arrays.tensor(f"{case}/{leaf}")], OUTPUT)


def _labels(net: Network, output: DetectorOutput, arrays: Arrays, meta: dict[str, Any]) -> DetectionLoss:
    settings: TrainSpec = train_spec(net.settings["train_cfg"])
    targets = assign(
        pyramid_points(net.spec, [x.shape[1] for x in output.logits], default_device()),
        *pack_segments(arrays.several("batch/segments"), arrays.several("batch/labels")),
        net.spec.classes,
        settings.radius,
    )
    before = torch.tensor(float(meta["loss_normalizer"]["student"][0]))
    return detection_loss(output, targets, before, settings)


def _hard(theirs: dict[str, float]) -> dict[str, float]:
    return {
        "cls_loss": theirs["cls_loss"],
        "reg_loss": theirs["reg_loss"],
        "final_loss": theirs["hard"],
    }


def _distilled(
    variant: Variant,
    net: Network,
    student: DetectorOutput,
    teachers: dict[str, DetectorOutput],
    hard: DetectionLoss,
    meta: dict[str, Any],
) -> Iterator[Compared]:
    """Compare the terms with the variant's weights, which the original's terms include; then backward."""
    spec = DistillSpec(
        teachers={r: TeacherUse(run="", model="", weight=t.weight) for r, t in variant.teachers.items()},
        terms=variant.terms,
        soft_weight=variant.soft_weight,
        temperature=variant.temperature,
        count_padding=True,
    )
    objective = DistillationObjective(spec, net.spec, dict.fromkeys(teachers, net.spec))
    soft = objective(student, teachers)
    theirs = meta["terms"]
    weights = {use.name: use.weight for use in variant.terms}
    for name, original in TERMS.items():
        if name in soft.parts:
            yield relative(f"term {name}", weights[name] * soft.parts[name], theirs[original], LOSS)
        else:
            yield equal(f"term {name} is not used", 0.0, theirs[original])
    yield from _raw(student, teachers, spec.temperature, meta, variant)
    total = (1 - spec.soft_weight) * hard.total + spec.soft_weight * soft.total
    yield relative("total", total, theirs["total"], LOSS)
    scale = spec.temperature**2 if meta["mode"] == "multi" else 1.0
    yield relative("soft", soft.total / scale, theirs["soft"], LOSS)
    total.backward()


def _raw(
    student: DetectorOutput,
    teachers: dict[str, DetectorOutput],
    temperature: float,
    meta: dict[str, Any],
    variant: Variant,
) -> Iterator[Compared]:
    """Compare the terms for each teacher without weights, those of the heads level by level."""
    student = replace(student, mask=[torch.ones_like(m) for m in student.mask])
    single = {"hallucination": meta["raw"]["i3d_mse"], "stem": meta["raw"]["stem_mse"]}
    levels = {"logits": meta["per_level"]["kl"], "offsets": meta["per_level"]["offset_mse"]}
    for teacher in meta["raw"]["i3d_mse"]:
        theirs = teachers[_role(teacher, variant)]
        for name, numbers in single.items():
            value = terms.get(name).fn(student, theirs, temperature)
            yield relative(f"{name} of {teacher}", value, numbers[teacher], LOSS)
        for name, numbers in levels.items():
            for level, number in enumerate(numbers[teacher]):
                value = terms.get(name).fn(_level(student, level), _level(theirs, level), temperature)
                yield relative(f"{name} of {teacher}, level {level}", value, number, LOSS)


def _level(output: DetectorOutput, level: int) -> DetectorOutput:
    """Return an output with only one level."""
    return replace(
        output,
        logits=[output.logits[level]],
        offsets=[output.offsets[level]],
        mask=[output.mask[level]],
    )


KIND: Kind = Kind("distill", has("mode", "terms", "models"), check)
