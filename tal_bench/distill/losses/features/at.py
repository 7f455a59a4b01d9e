"""AT: attention transfer.

Zagoruyko, Komodakis, Paying More Attention to Attention, ICLR 2017, arXiv 1612.03928.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tal_bench.distill.losses.masking import mean_over, valid_features


def at(student: Tensor, teacher: Tensor, mask: Tensor, *, power: int = 2) -> Tensor:
    """Return the mean over all valid steps of the squared difference of the attention maps.

    Args:
        student: [B, C_s, T].
        teacher: [B, C_t, T], detached; the numbers of channels may differ.
        mask: [B, T] bool.
        power: Exponent p of the maps.
    """
    difference = attention_map(student, mask, power) - attention_map(teacher.detach(), mask, power)
    return mean_over(difference.square(), mask)


def attention_map(x: Tensor, mask: Tensor, power: int) -> Tensor:
    """Return the channel mean of x^p, scaled to a unit vector over the valid steps of each sample: [B, T].

    The power keeps the sign of x where p is odd.
    """
    return F.normalize(valid_features(x, mask).pow(power).mean(dim=1), dim=1)
