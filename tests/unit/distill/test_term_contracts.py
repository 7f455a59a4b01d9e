"""What holds for every registered term: padding, the teacher, bf16, and the scale that it states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from test_terms import Made, built, leaves, made, with_other_padding
from torch import Tensor

from tal_bench.distill.terms.registry import terms
from tal_bench.types import PointLabels

SAMPLE_DEVIATION = ("pkd",)
"""Terms of a deviation divided by n - 1, which a repetition of few steps changes a little."""
SUMMED = ("logits",)
"""Sums over time, as published."""
WINDOWS = ("reviewkd", "rkd", "mgd")
"""Terms that depend on the order or the number of steps: windows of fixed number, pairs of equal steps,
convolutions."""


def gradients(name: str, student: Made, teacher: Made) -> tuple[Tensor, list[Tensor | None]]:
    value = built(name)(student, teacher, 2.0)
    value.backward()
    return value.detach(), [x.grad for x in leaves(student)]


def mapped(
    output: Made,
    tensor: Callable[[Tensor], Tensor],
    labels: Callable[[PointLabels], PointLabels] = lambda x: x,
) -> Made:
    """Return an output with a function applied to all its tensors and to its labels."""

    def several(levels: list[Tensor]) -> list[Tensor]:
        return [tensor(x).detach().requires_grad_(x.requires_grad) for x in levels]

    return replace(
        output,
        logits=several(output.logits),
        offsets=several(output.offsets),
        mask=[tensor(m) for m in output.mask],
        inputs=several([output.inputs])[0],
        stem=several([output.stem])[0],
        features={name: several(levels) for name, levels in output.features.items()},
        labels=labels(output.labels),
    )


@pytest.mark.parametrize("name", terms)
def test_padding_changes_no_gradient(name: str) -> None:
    teacher = made(1)
    student = made(0, grad=True)
    value, expected = gradients(name, student, teacher)
    other = mapped(with_other_padding(student), lambda x: x.clone())
    changed, ours = gradients(name, other, with_other_padding(teacher))
    torch.testing.assert_close(changed, value)
    for x, y in zip(ours, expected, strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            torch.testing.assert_close(x, y)


@pytest.mark.parametrize("name", terms)
def test_nothing_flows_into_the_teacher(name: str) -> None:
    teacher = made(1, grad=True)
    built(name)(made(0, grad=True), teacher, 2.0).backward()
    assert not any(x.grad is not None and bool(x.grad.any()) for x in leaves(teacher))


@pytest.mark.parametrize("name", terms)
def test_is_finite_and_close_in_bf16(name: str) -> None:
    expected, _ = gradients(name, made(0, grad=True), made(1))

    def half(x: Tensor) -> Tensor:
        return x.to(torch.bfloat16) if x.is_floating_point() else x

    value, found = gradients(name, mapped(made(0, grad=True), half), mapped(made(1), half))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(expected), rel=0.05)
    assert all(bool(x.isfinite().all()) for x in found if x is not None)


@pytest.mark.parametrize("name", terms)
def test_a_video_without_valid_steps_is_harmless(name: str) -> None:
    student = made(0, grad=True)
    mask = [m & torch.tensor([[True], [False]]) for m in student.mask]
    value, found = gradients(name, replace(student, mask=mask), replace(made(1), mask=mask))
    assert bool(value.isfinite())
    assert all(bool(x.isfinite().all()) for x in found if x is not None)


def repeated_labels(labels: PointLabels) -> PointLabels:
    return PointLabels(
        classes=[torch.cat([x, x]) for x in labels.classes],
        offsets=[torch.cat([x, x]) for x in labels.offsets],
        positive=[torch.cat([x, x]) for x in labels.positive],
        segments=torch.cat([labels.segments, labels.segments]),
        segment_labels=torch.cat([labels.segment_labels, labels.segment_labels]),
        strides=labels.strides,
    )


def tolerance(name: str) -> float:
    return 0.15 if name in SAMPLE_DEVIATION else 1e-5


@pytest.mark.parametrize("name", terms)
def test_a_repeated_batch_does_not_change_the_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalisers are means or numbers of positives, so weights do not depend on the number of videos."""
    monkeypatch.setattr("tal_bench.distill.terms.features.mgd.HIDDEN", 0.0)  # at random, else

    def twice(output: Made) -> Made:
        return mapped(output, lambda x: torch.cat([x, x]), repeated_labels)

    once = built(name)(made(0), made(1), 2.0)
    double = built(name)(twice(made(0)), twice(made(1)), 2.0)
    torch.testing.assert_close(double, once, rtol=tolerance(name), atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, term in ((n, terms.get(n)) for n in terms)
        if "labels" not in term.reads and name not in WINDOWS
    ],
)
def test_twice_the_time_changes_sums_only(name: str) -> None:
    """Normalisers count valid steps, so weights do not depend on the length of the videos."""

    def twice(x: Tensor) -> Tensor:
        return torch.cat([x, x], dim=time_axis(x))

    def time_axis(x: Tensor) -> int:
        return 2 if x.ndim == 3 and x.shape[1] in (5, 6, 10) else 1

    once = built(name)(made(0), made(1), 2.0)
    double = built(name)(mapped(made(0), twice), mapped(made(1), twice), 2.0)
    expected = once * 2 if name in SUMMED else once
    torch.testing.assert_close(double, expected, rtol=tolerance(name), atol=1e-6)
