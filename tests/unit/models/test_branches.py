"""Motion and appearance branches: the fusion as published, padding, and what is left after the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import random_batch, tiny_spec
from torch import Tensor

from tal_bench.config import DetectorSpec, DistillSpec, TeacherUse
from tal_bench.distill.losses.localization.decomposed import appearance_loss, motion_loss
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.variants import variants
from tal_bench.models.branches import BRANCHES, LocalAttentiveFusion
from tal_bench.models.detector import Detector
from tal_bench.models.registry import detector_spec, get_model

STUDENT, TEACHER = "conv-dw-decomposed", "actionformer-privileged"


def arch(name: str) -> DetectorSpec:
    spec = detector_spec(get_model(name), tiny_spec(), 3)
    return spec.model_copy(update={"width": 16, "head_width": 16})


def net() -> Detector:
    torch.manual_seed(0)
    made = get_model(STUDENT).build(arch(STUDENT))
    assert isinstance(made, Detector)
    return made.eval()


def array(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def test_fusion_is_the_published_formula() -> None:
    """weight_t = sigmoid((W_q mean of target) * (W_k reference_t)) in numpy, video by video."""
    torch.manual_seed(0)
    fusion, T = LocalAttentiveFusion(4).double(), (6, 4)
    mask = torch.arange(6) < torch.tensor(T)[:, None]
    target, reference = (torch.randn(2, 6, 4).double() * mask[..., None] for _ in range(2))
    found = array(fusion(target, reference, mask[..., None].double()))
    W_q, W_k = array(fusion.query.weight), array(fusion.key.weight)
    for b, steps in enumerate(T):
        f, r = array(target)[b, :steps], array(reference)[b, :steps]
        weight = 1 / (1 + np.exp(-(f.mean(axis=0) @ W_q.T) * (r @ W_k.T)))
        np.testing.assert_allclose(found[b, :steps], weight * f, rtol=1e-6)
        assert not found[b, steps:].any()


def test_branches_differ_and_the_heads_read_both() -> None:
    network, batch = net(), random_batch()
    output = network(batch, (*BRANCHES, "classifier/0"))
    motion, appearance = (output.features[name][0] for name in BRANCHES)
    assert motion.shape == appearance.shape
    assert not torch.equal(motion, appearance)
    padded = ~output.mask[0][:, None]
    assert not (motion * padded).any()
    assert output.features["classifier/0"][0].shape[1] == 2 * motion.shape[1]
    assert network.spec.feature_widths["classifier/0"] == 2 * network.spec.feature_widths["neck"]


def losses(seed: int = 0) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[True] * 5 + [False], [True] * 6])
    logits, other = (torch.randn(2, 6, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    offsets, theirs = (torch.rand(2, 6, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return [logits, offsets, other, theirs], mask


def test_motion_loss_is_zero_only_for_the_teachers_predictions() -> None:
    (logits, offsets, other, theirs), mask = losses()
    count = torch.tensor(2.0)
    assert float(motion_loss(other, theirs, other, theirs, mask, count)) == pytest.approx(0.0, abs=1e-9)
    assert float(motion_loss(logits, offsets, other, theirs, mask, count)) > 0.1


def test_appearance_loss_is_the_detection_loss_in_numpy() -> None:
    (logits, offsets, _, theirs), mask = losses()
    classes = torch.zeros(2, 6, 3, dtype=torch.float64)
    classes[0, 1, 2] = classes[1, 4, 0] = 1
    found = appearance_loss(logits, offsets, classes, theirs, mask, torch.tensor(2.0))
    p, y, valid = 1 / (1 + np.exp(-array(logits))), array(classes), array(mask)[..., None]
    p_true = np.where(y == 1, p, 1 - p)
    expected = (np.where(y == 1, 0.25, 0.75) * -np.log(p_true) * (1 - p_true) ** 2 * valid).sum()
    for b, t in ((0, 1), (1, 4)):
        (left, right), (start, end) = array(offsets)[b, t], array(theirs)[b, t]
        inner, hull = min(left, start) + min(right, end), max(left, start) + max(right, end)
        expected += 1 - inner / (left + right + start + end - inner)
        expected += ((right - left - end + start) / 2 / hull) ** 2
    assert float(found) == pytest.approx(expected / 2, rel=1e-9)


def test_heads_of_the_branches_are_dropped() -> None:
    """They are shared by the branches, belong to the objective, and not to the student."""
    uses = variants.get("kd-decomposed").terms
    spec = DistillSpec(teachers={"both": TeacherUse(run="0", model=TEACHER)}, terms=uses)
    objective = DistillationObjective(spec, arch(STUDENT), {"both": arch(TEACHER)})
    heads = [
        n for n, _ in objective.named_parameters() if n.startswith("learned.decomposed-branches/both.heads")
    ]
    assert len(heads) == len([n for n, _ in net().heads.named_parameters()])
    assert not {id(p) for p in objective.parameters()} & {id(p) for p in net().parameters()}


def test_padding_does_not_change_the_fusion() -> None:
    """More padded steps leave the outputs of valid steps as they are."""
    network, batch = net(), random_batch()
    longer = torch.nn.functional.pad
    features = {name: longer(x, (0, x.shape[2])) for name, x in batch.features.items()}
    mask = longer(batch.mask, (0, batch.mask.shape[1]))
    short, long = network.detect(batch.features, batch.mask), network.detect(features, mask)
    for x, y, m in zip(short.logits, long.logits, short.mask, strict=True):
        torch.testing.assert_close(y[:, : x.shape[1]][m], x[m], rtol=1e-4, atol=1e-5)
