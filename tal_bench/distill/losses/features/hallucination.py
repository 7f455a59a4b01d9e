"""Hallucinated features compared after a sigmoid.

Hoffman, Gupta, Darrell, Learning with Side Information through Modality Hallucination, CVPR 2016; used with
generalized distillation by Garcia, Morerio, Murino, Modality Distillation with Multiple Stream Networks for
Action Recognition, ECCV 2018, arXiv 1806.07110.

Generalized distillation (Lopez-Paz et al., ICLR 2016, arXiv 1511.03643) is the weighted sum of the loss on
labels and the one on the teacher's softened predictions; Garcia et al. add this loss to it.
"""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.masking import mean_over, valid_features


def hallucinated(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over channels and valid steps of (sigmoid(student) - sigmoid(teacher))^2.

    The papers sum over all elements; a mean makes the weight independent of channels and length.

    Args:
        student: [B, C, T], features that the student predicts from the primary modality.
        teacher: [B, C, T], features of the privileged modality, detached.
        mask: [B, T] bool.
    """
    s, t = (valid_features(x, mask).sigmoid() for x in (student, teacher.detach()))
    return mean_over((s - t).square().mean(dim=1), mask)
