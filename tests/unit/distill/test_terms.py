"""Properties of all registered distillation terms, and formulas of the built-in ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tal_bench.config import DetectorSpec, Range
from tal_bench.distill.terms import registry
from tal_bench.distill.terms.logits_binary import bernoulli_kl
from tal_bench.distill.terms.reductions import masked_mean, mean_of_level_means
from tal_bench.distill.terms.registry import Term, TermFunction, terms
from tal_bench.errors import InputError
from tal_bench.types import DetectorOutput, PointLabels

LENGTHS, REAL, K, D, BINS = (8, 4), (8, 5), 3, 5, 4
FIELDS = {
    "hallucination": ("inputs",),
    "stem": ("stem",),
    "offsets": ("offsets",),
    "logits-binary": ("logits",),
    "logits": ("logits",),
}
NOT_ZERO = (
    "fitnet",
    "mgd",
    "vid",
    "ofa",
    "ofa-binary",
    "crosskd-classification",
    "decomposed-branches",
    "decomposed-features",
)
"""Terms that are not 0 for equal outputs: modules with initial weights, cross entropies, and logits of `made`
that its heads did not compute from its features."""


def made(seed: int, *, trident: bool = False, grad: bool = False) -> DetectorOutput:
    """Return a random output for two videos of 8 and 5 steps on two levels, padded steps included."""
    g = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).requires_grad_(grad)

    mask = [torch.arange(T) * (8 // T) < torch.tensor(REAL)[:, None] for T in LENGTHS]
    return Made(
        logits=[noise(2, T, K) for T in LENGTHS],
        offsets=[noise(2, T, K, 2) if trident else noise(2, T, 2) for T in LENGTHS],
        mask=mask,
        inputs=noise(2, 6, 8),
        stem=noise(2, D, 8),
        features={
            name: [noise(*shape_of(name, width, T)) for T in LENGTHS]
            for name, width in architecture(D).feature_widths.items()
            if name not in registry.OUTPUTS
        },
        labels=made_labels(mask),
    )


class Made(DetectorOutput):
    """Output whose heads are one fixed linear layer."""

    def continue_head(self, name: str, features: list[Tensor]) -> list[Tensor]:
        width = K if name.startswith("classifier") else 2 * BINS
        weight = torch.linspace(-1, 1, width * D).reshape(width, D)
        given = [
            torch.where(mask[:, None], x, own)
            for x, own, mask in zip(features, self.features[name], self.mask, strict=True)
        ]
        out = [torch.einsum("bdt,kd->btk", x, weight.to(x.dtype)) for x in given]
        return out if width == K else [x.unflatten(2, (2, BINS)) for x in out]


def architecture(width: int) -> DetectorSpec:
    """Return an architecture that fits the outputs of `made` with this width of stem, neck and heads."""
    return DetectorSpec(
        structure="conv", inputs="decomposed", primary={"rgb": 6}, classes=K, max_length=8, width=width,
        head_width=width, attention_heads=1, branch_blocks=1, regression_ranges=((0, 4), (4, 10000)),
        trident=True, bins=BINS - 1,
    )  # fmt: skip


def shape_of(feature: str, width: int, steps: int) -> tuple[int, ...]:
    if feature == "bins":
        return (2, steps, 2, BINS)
    return (2, steps, width) if feature in ("starts", "ends") else (2, width, steps)


def made_labels(mask: list[Tensor]) -> PointLabels:
    """Return labels of two segments of the first video, one on each level, and one of the second."""
    classes = [torch.zeros(2, T, K) for T in LENGTHS]
    classes[0][0, 1:3, 2] = classes[0][1, 2, 0] = classes[1][0, 2, 1] = 1.0
    return PointLabels(
        classes=classes,
        offsets=[torch.full((2, T, 2), 1.5) for T in LENGTHS],
        positive=[(x.sum(dim=2) > 0) & m for x, m in zip(classes, mask, strict=True)],
        segments=torch.tensor([[[0.5, 3.5], [1.0, 7.0]], [[0.5, 3.5], [0.0, 0.0]]]),
        segment_labels=torch.tensor([[2, 1], [0, -1]]),
        strides=(1, 2),
    )


def built(name: str) -> TermFunction:
    """Return a term, with fixed parameters if it has any."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return terms.get(name).build(architecture(D), architecture(D))


def leaves(output: DetectorOutput) -> list[Tensor]:
    further = [x for levels in output.features.values() for x in levels]
    return [*output.logits, *output.offsets, output.inputs, output.stem, *further]


def with_other_padding(output: DetectorOutput) -> DetectorOutput:
    def levels(values: list[Tensor]) -> list[Tensor]:
        return [
            torch.where(m.reshape(*m.shape, *(1,) * (x.ndim - 2)), x, x + 7.0)
            for x, m in zip(values, output.mask, strict=True)
        ]

    def over_time(values: list[Tensor]) -> list[Tensor]:
        return [torch.where(m[:, None], x, 7.0) for x, m in zip(values, output.mask, strict=True)]

    first = output.mask[0][:, None]
    return replace(
        output,
        logits=levels(output.logits),
        offsets=levels(output.offsets),
        inputs=torch.where(first, output.inputs, 7.0),
        stem=torch.where(first, output.stem, 7.0),
        features={
            name: levels(values) if name in registry.TRIDENT_SCORES else over_time(values)
            for name, values in output.features.items()
        },
    )


@pytest.mark.parametrize("name", terms)
def test_is_a_scalar_that_is_zero_for_equal_outputs_only(name: str) -> None:
    same, other = (built(name)(made(0), made(seed), 2.0).detach() for seed in (0, 1))
    assert same.shape == other.shape == ()
    if name not in NOT_ZERO:
        assert float(same) == pytest.approx(0.0, abs=1e-6 * max(1.0, float(other)))
    assert float(other) > 1e-3


@pytest.mark.parametrize("name", terms)
def test_padding_does_not_count(name: str) -> None:
    student, teacher = made(0), made(1)
    before = built(name)(student, teacher, 2.0)
    torch.testing.assert_close(built(name)(with_other_padding(student), teacher, 2.0), before)
    torch.testing.assert_close(built(name)(student, with_other_padding(teacher), 2.0), before)


@pytest.mark.parametrize("name", terms)
def test_valid_steps_count(name: str) -> None:
    teacher = made(1)
    before, after = (built(name)(made(seed), teacher, 2.0).detach() for seed in (0, 7))
    assert float(after) != pytest.approx(float(before))


@pytest.mark.parametrize("name", terms)
@pytest.mark.parametrize("trident", [False, True])
def test_gradients_flow_to_valid_steps_of_the_student_only(name: str, trident: bool) -> None:
    student, teacher = made(0, grad=True), made(1, trident=trident)
    built(name)(student, teacher, 2.0).backward()
    touched = [x for x in leaves(student) if x.grad is not None and bool(x.grad.any())]
    assert touched
    assert all(bool(x.grad.isfinite().all()) for x in touched if x.grad is not None)
    assert all(not x.requires_grad for x in leaves(teacher))
    padded = [~mask for mask in student.mask]
    by_channel = [levels for name, levels in student.features.items() if name not in registry.TRIDENT_SCORES]
    for levels in ([student.inputs], [student.stem], *by_channel):
        for x, beyond in zip(levels, padded, strict=False):
            if x.grad is not None:
                assert not x.grad.transpose(1, 2)[beyond].any()


@pytest.mark.parametrize("name", FIELDS)
def test_depends_on_its_own_outputs_only(name: str) -> None:
    student, teacher = made(0), made(1)
    fn = built(name)
    others = {
        f: getattr(made(5), f) for f in ("logits", "offsets", "inputs", "stem") if f not in FIELDS[name]
    }
    torch.testing.assert_close(fn(replace(student, **others), teacher, 2.0), fn(student, teacher, 2.0))


@pytest.mark.parametrize("name", ["hallucination", "stem", "offsets", "logits-binary"])
def test_a_repeated_video_does_not_change_the_value(name: str) -> None:
    """The terms are means over valid positions, so weights do not depend on the number of videos."""
    fn = built(name)

    def twice(x: DetectorOutput) -> DetectorOutput:
        level = [[torch.cat([t, t]) for t in values] for values in (x.logits, x.offsets, x.mask)]
        return DetectorOutput(*level, inputs=torch.cat([x.inputs] * 2), stem=torch.cat([x.stem] * 2))

    once = fn(made(0), made(1), 2.0)
    torch.testing.assert_close(fn(twice(made(0)), twice(made(1)), 2.0), once)


def test_hallucination_is_half_of_the_flow_error_where_rgb_agrees() -> None:
    student, teacher = made(0), made(1)
    teacher = replace(teacher, inputs=torch.cat([student.inputs[:, :3], teacher.inputs[:, 3:]], dim=1))
    mask = student.mask[0]
    error = (student.inputs - teacher.inputs)[:, 3:].square().transpose(1, 2)[mask].mean()
    torch.testing.assert_close(terms.get("hallucination").fn(student, teacher, 1.0), 0.5 * error)


@given(st.floats(-30, 30), st.floats(-30, 30))
@settings(max_examples=80, deadline=None)
def test_bernoulli_kl_agrees_with_the_library(p: float, q: float) -> None:
    a, b = torch.tensor([p, q], dtype=torch.float64)
    ours = bernoulli_kl(a, b)
    assert float(ours) >= -1e-9
    expected = torch.distributions.kl_divergence(
        torch.distributions.Bernoulli(logits=a), torch.distributions.Bernoulli(logits=b)
    )
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)


def test_the_gradient_of_bernoulli_kl_is_that_of_automatic_differentiation() -> None:
    p, q = torch.randn(2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    q.requires_grad_()
    bernoulli_kl(p, q).square().sum().backward()
    expected = q.detach().requires_grad_()
    torch.distributions.kl_divergence(
        torch.distributions.Bernoulli(logits=p), torch.distributions.Bernoulli(logits=expected)
    ).square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(q.grad, expected.grad)


def test_bernoulli_kl_of_large_logits_is_finite() -> None:
    student = torch.tensor([-200.0, 200.0, 0.0], requires_grad=True)
    value = bernoulli_kl(torch.tensor([200.0, -200.0, 200.0]), student)
    value.sum().backward()
    assert bool(value.isfinite().all())
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


def test_logits_softmax_is_summed_over_time_and_divided_by_the_batch() -> None:
    student, teacher = made(0), made(1)
    total = 0.0
    for s, t, m in zip(student.logits, teacher.logits, student.mask, strict=True):
        p, log_q = F.softmax(t / 2, dim=2)[m], F.log_softmax(s / 2, dim=2)[m]
        total += float((p * (p.log() - log_q)).sum()) / 2
    assert float(terms.get("logits").fn(student, teacher, 2.0)) == pytest.approx(total / 2, rel=1e-5)


def test_means_of_levels_have_equal_weight_whatever_their_valid_positions() -> None:
    masks = [torch.tensor([[True, True, False]]), torch.tensor([[True]]), torch.tensor([[False]])]
    values = torch.tensor([[1.0, 3.0, 100.0, 7.0, 100.0]])
    assert float(mean_of_level_means(values, masks)) == pytest.approx((2.0 + 7.0 + 0.0) / 3)


def test_masked_mean_without_valid_positions_is_zero() -> None:
    assert float(masked_mean(torch.ones(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))) == 0


def test_every_module_of_the_package_declares_a_term() -> None:
    modules = {file.stem for file in Path(registry.__file__).parent.rglob("*.py")}
    modules -= {"__init__", "registry", "reductions", "weights", "rows", "labels"}
    declared = (terms.get(name) for name in terms)
    assert modules == {(term.fn or term.module).__module__.rpartition(".")[2] for term in declared}


@pytest.mark.parametrize("name", terms)
def test_declaration(name: str) -> None:
    term = terms.get(name)
    assert term.name == name
    assert term.summary and term.formula and term.paper and term.normalizer
    assert term.reads
    assert set(term.reads) <= architecture(D).feature_widths.keys() | {registry.LABELS}
    assert term.search.low <= term.weight <= term.search.high
    assert 0 < term.search.low < term.search.high


def test_a_term_is_either_a_function_or_a_module() -> None:
    for fn, module in ((None, None), (built("stem"), lambda *_: torch.nn.Identity())):
        with pytest.raises(InputError, match="term 'x' needs a function or a module, and not both"):
            Term("x", fn, Range(low=0.1, high=1.0), "nothing", module=module)
