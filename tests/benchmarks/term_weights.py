"""Weights of distillation terms at which their gradients are as long as that of `logits-binary`.

`python tests/benchmarks/term_weights.py [REPORTS_DIR]` trains the teachers on `sprites`, or finds them in the
folder, and prints for every term

- the norm of its gradient in the parameters of an untrained student, a mean over batches of three seeds;
- the balanced weight, at which that norm is the one of `logits-binary` with its weight in the variants;
- the declared weight, and how large the norm is with it, relative to that of `logits-binary`.

Terms whose published weight does not carry over take the balanced one (`distill/terms/weights.py`).
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import tal_bench
from tal_bench.config import DistillSpec, RunSpec, TeacherUse, TermUse
from tal_bench.data.batches import collate, training_crops
from tal_bench.data.dataset import open_cached
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.terms.registry import BRANCHES, OFFERED_BY, TRIDENT_SCORES, terms
from tal_bench.distill.variants import variants
from tal_bench.inference.trained_models import load_trained
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.models.targets import assign, point_labels, pyramid_points
from tal_bench.results.folder import StudyFolder
from tal_bench.training.device import Device
from tal_bench.training.teachers import Teachers
from tal_bench.types import Batch

SEEDS, BATCHES, TEMPERATURE = (0, 1, 2), 4, 2.0
PAIRS = {
    (): ("actionformer", "conv-dw-hallucinated"),
    TRIDENT_SCORES: ("tridet", "tridet-hallucinated"),
    BRANCHES: ("actionformer-privileged", "conv-dw-decomposed"),
}
"""Teacher and student, by the features that terms read and only these networks offer."""
REFERENCE = "logits-binary"


def reference_coefficient() -> float:
    """Return the coefficient of the reference term in the variants."""
    (use,) = (use for use in variants.get("both-single").terms if use.name == REFERENCE)
    return float(use.weight * TEMPERATURE**use.temperature_power)


def batches(run: RunSpec, modalities: tuple[str, ...], seed: int) -> Iterator[Batch]:
    """Yield the first training batches of a seed, with the streams of student and teacher."""
    videos = open_cached(run.dataset, modalities, None).videos("train+validation")
    every = training_crops(
        videos,
        spec=run.train,
        max_length=run.detector.max_length,
        generator=np.random.default_rng(seed),
    )
    return (collate(crops, modalities) for crops in itertools.islice(every, BATCHES))


def gradient_norms(names: list[str], teacher: str, student: str, reports: Path) -> dict[str, float]:
    """Return the mean norm of the gradient of each term in the parameters of the student."""
    result = tal_bench.train_one(teacher, "sprites", reports=reports, device="cpu")
    network, run = load_trained(result.hash, StudyFolder(reports / "train-sprites"))
    architecture = detector_spec(get_model(student), run.dataset, run.detector.classes)
    uses = tuple(TermUse(name=name, teacher="teacher", weight=1.0) for name in names)
    spec = DistillSpec(
        teachers={"teacher": TeacherUse(run="0", model=teacher)}, terms=uses, temperature=TEMPERATURE
    )
    points = pyramid_points(architecture, [architecture.max_length // s for s in architecture.level_strides])
    norms: dict[str, list[float]] = {name: [] for name in names}
    for seed in SEEDS:
        torch.manual_seed(seed)
        net = get_model(student).build(architecture).train()
        objective = DistillationObjective(spec, architecture, {"teacher": run.detector}, seed)
        outputs = Teachers({"teacher": network}, Device("cpu"), objective.keep)
        for batch in batches(run, tuple({**architecture.primary, **run.detector.privileged}), seed):
            output = net(batch, objective.keep)
            targets = assign(points, batch.segments, batch.labels, architecture.classes, run.train.radius)
            output = replace(output, labels=point_labels(targets, output.mask, batch))
            for name, value in objective(output, outputs(batch)).parts.items():
                found = torch.autograd.grad(
                    value, list(net.parameters()), retain_graph=True, allow_unused=True
                )
                squares = sum(float(g.square().sum()) for g in found if g is not None)
                norms[name].append(squares**0.5)
    return {name: statistics.mean(values) for name, values in norms.items()}


def main() -> None:
    """Print the table."""
    reports = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("reports")
    print(f"{'term':26} {'gradient':>9} {'balanced weight':>15} {'declared':>9} {'relative':>9}")
    for features, (teacher, student) in PAIRS.items():
        chosen = [n for n in terms if set(terms.get(n).reads) & OFFERED_BY.keys() <= {*features}]
        chosen = [n for n in chosen if not features or set(terms.get(n).reads) & {*features}]
        norms = gradient_norms([*{REFERENCE: None, **dict.fromkeys(chosen)}], teacher, student, reports)
        length = reference_coefficient() * norms[REFERENCE]
        for name in chosen:
            declared = terms.get(name).weight
            share = declared * norms[name] / length
            print(f"{name:26} {norms[name]:9.3g} {length / norms[name]:15.3g} {declared:9.3g} {share:9.3g}")


if __name__ == "__main__":
    main()
