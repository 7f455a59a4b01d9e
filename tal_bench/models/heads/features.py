"""What distillation can read of a detector; `DetectorSpec.feature_widths` says which detector offers what.

The outputs themselves:

    inputs                 [B, C, T]            input after modality selection, hallucination and fusion
    stem                   [B, D, T]            features before the first stride
    logits                 [B, T_l, K]          class logits per level
    offsets                [B, T_l, 2]          offsets per level, or [B, T_l, K, 2] (trident heads)

Entries of `DetectorOutput.features`, lists of one tensor per level, in full precision:

    neck                   [B, D, T_l]          output of the neck, which the heads or the branches read
    motion, appearance     [B, D, T_l]          branches of a student with decomposed inputs, before they are
                                                fused
    classifier/<layer>     [B, D, T_l]          input of a layer of the classifier, before the activation;
                                                layer 0 reads the neck's features or the fused branches,
                                                layer 1 the first hidden layer's, and so on
    regressor/<layer>      [B, D, T_l]          the same of the head of offsets or bins
    bins                   [B, T_l, 2, bins+1]  trident heads: scores of the distances to start and end
    starts, ends           [B, T_l, K]          trident heads: scores of a step being a start or an end

And `labels` of the batch at the points (`PointLabels`), as `DetectorOutput.labels` of the student.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from tal_bench.errors import InputError
from tal_bench.models.heads.point import HeadOutputs

SCORES = ("bins", "starts", "ends")
"""Features of trident heads, channels last as logits are."""


class Features(dict[str, list[Tensor]]):
    """Features that were kept; the error about one that was not says what to do."""

    def __missing__(self, name: str) -> list[Tensor]:
        raise InputError(f"a term reads '{name}' and does not declare it", hint=f"add '{name}' to its reads")


def kept_features(
    keep: Collection[str], levels: list[Tensor], heads: HeadOutputs
) -> Mapping[str, list[Tensor]]:
    """Return the named features that the detector has, in full precision.

    Args:
        keep: Names.
        levels: Output of the neck [B, T_l, D] per level.
        heads: Outputs of the heads.
    """
    available = {"neck": levels, **heads.features}
    return Features({name: _readable(name, available[name]) for name in keep if name in available})


def _readable(name: str, levels: list[Tensor]) -> list[Tensor]:
    full = [x.float() if x.itemsize < 4 else x for x in levels]
    return full if name in SCORES else [x.transpose(1, 2) for x in full]
