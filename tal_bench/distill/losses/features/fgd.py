"""FGD: focal and global distillation.

Yang et al., Focal and Global Knowledge Distillation for Detectors, CVPR 2022, arXiv 2111.11837.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.distill.losses.masking import full, valid_features


class FocalParts(NamedTuple):
    """Sums over channels and valid steps divided by the batch size."""

    foreground: Tensor
    background: Tensor
    time_attention: Tensor
    channel_attention: Tensor


def focal(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    foreground: Tensor,
    background: Tensor,
    *,
    temperature: float = 0.5,
) -> FocalParts:
    """Return the errors inside and outside the ground truth, and those of the attentions.

    The squared difference is weighted by the teacher's time and channel attention and by a mask; the error
    of an attention is the absolute difference.

    Args:
        student: [B, C, T].
        teacher: [B, C, T], detached.
        mask: [B, T] bool.
        foreground: [B, T] from `region_masks`.
        background: [B, T] from `region_masks`.
        temperature: Temperature of the attentions.
    """
    s, t = valid_features(student, mask), valid_features(teacher.detach(), mask)
    time_s, time_t = (time_attention(x, mask, temperature) for x in (s, t))
    channel_s, channel_t = (channel_attention(x, mask, temperature) for x in (s, t))
    error = torch.einsum("bct,bc->bt", (s - t).square(), channel_t) * time_t
    size = len(mask)
    return FocalParts(
        (foreground * error).sum() / size,
        (background * error).sum() / size,
        (time_s - time_t).abs().sum() / size,
        (channel_s - channel_t).abs().sum() / size,
    )


def time_attention(x: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return n times the softmax over the n valid steps of mean |x| over channels: [B, T]."""
    strength = valid_features(x, mask).abs().mean(dim=1) / temperature
    share = strength.masked_fill(~mask, -float("inf")).softmax(dim=1).masked_fill(~mask, 0.0)
    return mask.sum(dim=1, keepdim=True) * share


def channel_attention(x: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return C times the softmax over the channels of mean |x| over valid steps: [B, C]."""
    strength = valid_features(x, mask).abs().sum(dim=2) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return x.shape[1] * (strength / temperature).softmax(dim=1)


def region_masks(segments: Tensor, present: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights [B, T] of steps inside and outside the ground truth.

    A segment covers the steps floor(start) to ceil(end) of the feature, both included, with the weight
    1 / (ceil(end) + 1 - floor(start)); of several segments the largest weight counts. The other n steps of a
    sample weigh 1 / n.

    Args:
        segments: [B, N, 2], in units in which the valid part of sample b has length lengths[b]; N >= 1.
        present: [B, N] bool, false where there is no segment.
        lengths: [B], lengths of the valid parts.
        mask: [B, T] bool.
    """
    edges = full(segments)
    edges = edges / lengths.to(edges)[:, None, None] * mask.sum(dim=1)[:, None, None]
    first, last = edges[:, :, :1].floor(), edges[:, :, 1:].ceil()
    position = (mask.cumsum(dim=1) - 1)[:, None]
    covered = (position >= first) & (position <= last) & mask[:, None] & present[:, :, None]
    weight = torch.where(covered, 1 / (last + 1 - first), 0.0)  # samples without valid steps have no edges
    foreground = weight.amax(dim=1)
    outside = mask & (foreground == 0)
    return foreground, outside.to(weight) / outside.sum(dim=1, keepdim=True).clamp(min=1)


def global_relation(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over channels and valid steps of (student - teacher)^2, averaged over samples.

    Args:
        student: [B, C, T] after a `GcBlock`.
        teacher: [B, C, T] after another `GcBlock`, whose parameters are trained too; its input is detached.
        mask: [B, T] bool.
    """
    return (valid_features(student, mask) - valid_features(teacher, mask)).square().sum() / len(mask)


class GcBlock(nn.Module):
    """Features plus a transform of their attention-pooled context; the transform starts at 0.

    Args:
        channels: Channels C of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Linear(channels, 1)
        self.reduce = nn.Linear(channels, channels // 2)
        self.norm = nn.LayerNorm(channels // 2)
        self.expand = nn.Linear(channels // 2, channels)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return [B, C, T] for [B, C, T]; the context is pooled over valid steps."""
        x = valid_features(x, mask)
        score = self.attention(x.transpose(1, 2))[:, :, 0].masked_fill(~mask, -float("inf"))
        share = score.softmax(dim=1).masked_fill(~mask, 0.0)
        context = torch.einsum("bct,bt->bc", x, share)
        change: Tensor = self.expand(F.relu(self.norm(self.reduce(context))))
        return x + change[:, :, None]
