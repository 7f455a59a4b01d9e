"""PKT: probabilistic knowledge transfer.

Passalis, Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018, arXiv
1803.10837.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tal_bench.distill.losses.relations.rows import mean_of_pairs


def pkt(student: Tensor, teacher: Tensor, valid: Tensor, *, eps: float = 1e-7) -> Tensor:
    """Return, for each set, the mean over pairs of rows of P_teacher log(P_teacher / P_student): [G].

    Args:
        student: [G, R, C_s], zero where not valid.
        teacher: [G, R, C_t], detached.
        valid: [G, R] bool.
        eps: Added to norms and probabilities.
    """
    p, q = (probabilities(x, valid, eps) for x in (teacher.detach(), student))
    return mean_of_pairs(p * ((p + eps) / (q + eps)).log(), valid)


def probabilities(rows: Tensor, valid: Tensor, eps: float) -> Tensor:
    """Return (cosine + 1) / 2 of all pairs of rows, divided by its sum over valid rows: [G, R, R]."""
    unit = rows / (torch.linalg.vector_norm(rows, dim=2, keepdim=True) + eps)
    similar = ((unit @ unit.transpose(1, 2) + 1) / 2).masked_fill(~valid[:, None], 0.0)
    total = similar.sum(dim=2, keepdim=True)
    probability: Tensor = similar / total.masked_fill(total == 0, 1.0)
    return probability
