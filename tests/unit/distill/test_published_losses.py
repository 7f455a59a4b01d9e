"""Losses on batches of different lengths, which the fixtures of the originals do not contain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tal_bench.distill.losses.features.fgd import GcBlock, focal, global_relation, region_masks
from tal_bench.distill.losses.features.fitnet import Projection
from tal_bench.distill.losses.features.hallucination import hallucinated
from tal_bench.distill.losses.features.mars import mars
from tal_bench.distill.losses.features.mgd import Generation, kept, mgd
from tal_bench.distill.losses.features.reviewkd import hierarchical_context, windows
from tal_bench.distill.losses.localization.crosskd import aligned
from tal_bench.distill.losses.masking import channel_moments
from tal_bench.distill.losses.relations.nst import nst
from tal_bench.distill.losses.relations.pkt import pkt
from tal_bench.distill.losses.relations.rkd import rkd_angle, rkd_distance
from tal_bench.distill.losses.relations.rows import time_rows
from tal_bench.distill.losses.relations.sp import sp

LENGTHS, C, T = (9, 3, 16), 6, 16
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def features(seed: int) -> Tensor:
    return torch.randn(len(LENGTHS), C, T, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask() -> Tensor:
    return torch.arange(T) < torch.tensor(LENGTHS)[:, None]


def of_rows(loss: Loss) -> Loss:
    """Return a loss of rows as a loss of features, averaged over samples."""
    return lambda s, t, m: loss(time_rows(s, m)[0], *time_rows(t, m)).mean()


def focal_foreground(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    segments, present = torch.tensor([[[0.5, 2.0]]] * len(valid)), torch.ones(len(valid), 1).bool()
    parts = focal(student, teacher, valid, *region_masks(segments, present, valid.sum(dim=1), valid))
    return parts.foreground + parts.background + parts.time_attention + parts.channel_attention


def context(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    torch.manual_seed(0)
    block = GcBlock(C).double()
    torch.nn.init.normal_(block.expand.weight)
    return global_relation(block(student, valid), teacher, valid)


def generated(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    torch.manual_seed(0)
    visible = torch.arange(valid.shape[1]).expand_as(valid) % 2 == 0
    return mgd(Generation(C, C).double()(student, visible, valid), teacher, valid)


PER_SAMPLE: dict[str, Loss] = {
    "mars": mars,
    "reviewkd": hierarchical_context,
    "nst": nst,
    "sp": of_rows(sp),
    "pkt": of_rows(pkt),
    "rkd distance": of_rows(rkd_distance),
    "rkd angle": of_rows(rkd_angle),
    "fgd": focal_foreground,
    "fgd context": context,
    "mgd": generated,
}


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_a_padded_batch_has_the_mean_of_its_samples(name: str) -> None:
    loss, s, t = PER_SAMPLE[name], features(0), features(1)
    alone = [
        loss(s[i : i + 1, :, :n], t[i : i + 1, :, :n], torch.ones(1, n, dtype=torch.bool))
        for i, n in enumerate(LENGTHS)
    ]
    torch.testing.assert_close(loss(s, t, mask()), torch.stack(alone).mean())


@pytest.mark.parametrize("steps", [3, 4, 7, 10, 16])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_windows_are_those_of_adaptive_pooling(steps: int, length: int) -> None:
    x = features(0)[:1]
    valid = torch.arange(T)[None] < steps
    ours = x @ windows(valid, length, x.dtype)
    torch.testing.assert_close(ours, F.adaptive_avg_pool1d(x[:, :, :steps], length))


def test_normalisation_counts_valid_steps_only() -> None:
    x = features(0)
    rows = x.transpose(1, 2)[mask()]
    torch.manual_seed(0)
    projection = Projection(C, 4, relu=False).double()
    y = projection.conv(rows.T[None])[0].T
    expected = F.batch_norm(y, None, None, training=True)
    torch.testing.assert_close(projection(x, mask()).transpose(1, 2)[mask()], expected)


def test_aligned_features_have_the_moments_of_the_teacher() -> None:
    ours = aligned(features(0), 3 * features(1) + 5, mask())
    for x, y in zip(
        channel_moments(ours, mask(), correction=1),
        channel_moments(3 * features(1) + 5, mask(), correction=1),
        strict=True,
    ):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def test_hallucination_compares_after_a_sigmoid() -> None:
    s, t = features(0), features(1)
    rows = (s.sigmoid() - t.sigmoid()).square().transpose(1, 2)[mask()]
    torch.testing.assert_close(hallucinated(s, t, mask()), rows.mean())


def test_the_share_of_hidden_steps() -> None:
    visible = kept(torch.rand(100_000, generator=torch.Generator().manual_seed(0)), 0.65)
    assert float(visible.float().mean()) == pytest.approx(0.35, abs=0.01)


def test_a_batch_without_segments_is_all_background() -> None:
    foreground, background = region_masks(
        torch.ones(3, 2, 2), torch.zeros(3, 2).bool(), mask().sum(dim=1), mask()
    )
    assert not foreground.any()
    torch.testing.assert_close(background.sum(dim=1), torch.ones(3))
    assert not background[~mask()].any()
