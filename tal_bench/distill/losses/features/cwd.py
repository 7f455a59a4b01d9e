"""CWD: channel-wise distributions over time.

Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021, arXiv 2011.13256.
"""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.masking import full


def cwd(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return tau^2 times the mean over samples and channels of KL(P_teacher || P_student).

    P is the softmax over the valid steps of x / tau, one distribution per sample and channel, so the loss
    is a sum over time.

    Args:
        student: [B, C, T] features, or logits as [B, K, T].
        teacher: Like student, detached.
        mask: [B, T] bool.
        temperature: tau.
    """
    invalid = ~mask[:, None]
    log_t, log_s = (
        (full(x) / temperature).masked_fill(invalid, -float("inf")).log_softmax(dim=2)
        for x in (teacher.detach(), student)
    )
    ratio = (log_t - log_s).masked_fill(invalid, 0.0)
    return temperature**2 * (log_t.exp().masked_fill(invalid, 0.0) * ratio).sum(dim=2).mean()
