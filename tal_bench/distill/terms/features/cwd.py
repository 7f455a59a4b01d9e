"""Terms `cwd` and `cwd-logits`: distributions over time, one per channel."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.features.cwd import cwd
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs

SOURCE = "open-mmlab/mmrazor 90c7af1, mmrazor/models/losses/cwd.py, Apache-2.0"
PAPER = "Shu et al., Channel-wise Distillation, ICCV 2021"


def cwd_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return KL(teacher || student) over time of neck features: mean over videos, channels and levels."""
    levels = zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True)
    return level_mean(cwd(s, t, m) for s, t, m in levels)


def cwd_logits_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return KL(teacher || student) over time of the logits: mean over videos, classes and levels.

    The softmax runs over time, so the loss compares where a class is seen and not how probable it is.
    """
    levels = zip(student.logits, teacher.logits, student.mask, strict=True)
    return level_mean(cwd(s.transpose(1, 2), t.transpose(1, 2), m) for s, t, m in levels)


terms.add(
    "cwd",
    Term(
        "cwd",
        cwd_term,
        search=around(10.0),
        weight=10.0,
        summary="neck features as distributions over time",
        formula="mean over levels, videos and channels of KL(softmax over time of neck_teacher || "
        "neck_student)",
        paper=PAPER,
        reads={"neck": "project"},
        normalizer="videos x channels, levels",
        source=SOURCE,
        differences="mean over levels in place of the sum; tau 1",
    ),
)
terms.add(
    "cwd-logits",
    Term(
        "cwd-logits",
        cwd_logits_term,
        search=around(5.0),
        weight=5.0,
        summary="logits as distributions over time",
        formula="mean over levels, videos and classes of KL(softmax over time of logits_teacher || "
        "logits_student)",
        paper=PAPER,
        reads={"logits": "equal"},
        normalizer="videos x classes, levels",
        source=SOURCE,
        differences="mean over levels; tau 1",
    ),
)
