"""DKD: decoupled distillation of target and other classes.

Zhao et al., Decoupled Knowledge Distillation, CVPR 2022, arXiv 2203.08679.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tal_bench.distill.losses.masking import divergence, mean_over, one_hot, valid_rows


def dkd_target(
    student: Tensor, teacher: Tensor, target: Tensor, mask: Tensor, *, temperature: float = 4.0
) -> Tensor:
    """Return tau^2 times the mean over valid positions of KL(teacher || student) of target against the rest.

    Args:
        student: [B, T, K] logits, K >= 2.
        teacher: [B, T, K] logits, detached.
        target: [B, T] int64, class of each position.
        mask: [B, T] bool, positions that count; all have a class.
        temperature: tau of the softmax.
    """
    chosen = _one_hot(target, mask, student.shape[2])
    p, q = (_target_and_rest(x, chosen, mask, temperature) for x in (teacher.detach(), student))
    return temperature**2 * mean_over(divergence(p, q), mask)


def dkd_others(
    student: Tensor, teacher: Tensor, target: Tensor, mask: Tensor, *, temperature: float = 4.0
) -> Tensor:
    """Return tau^2 times the mean over valid positions of KL(teacher || student) among the other classes.

    Arguments are those of `dkd_target`.
    """
    chosen = _one_hot(target, mask, student.shape[2])
    log_p, log_q = (
        (valid_rows(x, mask) / temperature).masked_fill(chosen, -float("inf")).log_softmax(dim=2)
        for x in (teacher.detach(), student)
    )
    ratio = (log_p - log_q).masked_fill(chosen, 0.0)
    return temperature**2 * mean_over((log_p.exp() * ratio).sum(dim=2), mask)


def _one_hot(target: Tensor, mask: Tensor, classes: int) -> Tensor:
    return one_hot(target.masked_fill(~mask, 0), classes)


def _target_and_rest(logits: Tensor, chosen: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return the log-probabilities [B, T, 2] of the target and of all other classes together."""
    log_p = (valid_rows(logits, mask) / temperature).log_softmax(dim=2)
    target = log_p.masked_fill(~chosen, 0.0).sum(dim=2)
    return torch.stack([target, log_p.masked_fill(chosen, -float("inf")).logsumexp(dim=2)], dim=2)
