"""Logit standardisation: KL of z-scored logits.

Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024, arXiv 2403.01427.
"""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.masking import divergence, mean_over, root, valid_rows


def standardised_kl(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Return tau^2 times the mean over valid positions of KL(P_teacher || P_student), P = softmax(z / tau).

    Args:
        student: [B, T, K] logits, K >= 3 (for two classes z is constant); mean and deviation carry gradient.
        teacher: [B, T, K] logits, detached.
        mask: [B, T] bool, positions that count.
        temperature: tau.
    """
    log_p, log_q = ((z_scores(x, mask) / temperature).log_softmax(dim=2) for x in (teacher.detach(), student))
    return temperature**2 * mean_over(divergence(log_p, log_q), mask)


def z_scores(logits: Tensor, mask: Tensor) -> Tensor:
    """Return (x - mean) / (deviation + 1e-7) over the classes of each position: [B, T, K]."""
    x = valid_rows(logits, mask)
    x = x - x.mean(dim=2, keepdim=True)
    deviation = root(x.square().sum(dim=2, keepdim=True) / max(x.shape[2] - 1, 1))
    return x / (deviation + 1e-7)
