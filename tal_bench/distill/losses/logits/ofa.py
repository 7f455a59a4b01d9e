"""OFA: cross-structure loss with adaptive target enhancement.

Hao et al., One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation,
NeurIPS 2023, arXiv 2310.19444.
"""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.masking import mean_over, valid_rows


def ofa(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    eps: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """Return the mean over valid positions of -sum over classes of ((P_teacher + y)^eps - y) log P_student.

    With eps = 1 this is the cross entropy to P_teacher, so its minimum is not 0.

    Args:
        student: [B, T, K] logits, in the paper of an exit branch.
        teacher: [B, T, K] logits, detached.
        target: [B, T, K] y, one-hot or all zero.
        mask: [B, T] bool, positions that count.
        eps: Enhancement of the target class.
        temperature: tau of both softmaxes; no factor tau^2.
    """
    s, t = (valid_rows(x, mask) / temperature for x in (student, teacher.detach()))
    y = valid_rows(target, mask)
    aim = (t.softmax(dim=2) + y).pow(eps) - y
    return mean_over(-(aim * s.log_softmax(dim=2)).sum(dim=2), mask)
