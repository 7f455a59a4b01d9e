"""Label assignment against a plain loop over points and segments."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_spec
from torch import Tensor

from tal_bench.data.batches import pack_segments
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.models.targets import TIE, Points, assign, plain_assign, pyramid_points

RANGES = ((0.0, 4.0), (4.0, 8.0), (8.0, 10000.0))
SPEC = detector_spec(get_model("conv"), tiny_spec(), 3).model_copy(
    update={"branch_blocks": 2, "regression_ranges": RANGES}
)


def loop(
    points: Points, segments: Tensor, labels: Tensor, K: int, radius: float | None
) -> tuple[Tensor, Tensor]:
    """Assign classes [P, K] and offsets [P, 2] of one video point by point."""
    classes, offsets = torch.zeros(len(points.position), K), torch.zeros(len(points.position), 2)
    for i, (at, stride) in enumerate(zip(points.position.tolist(), points.stride.tolist(), strict=True)):
        candidates = []
        for (start, end), label in zip(segments.tolist(), labels.tolist(), strict=True):
            low, high = start, end
            if radius is not None:
                centre = 0.5 * (start + end)
                low, high = max(start, centre - radius * stride), min(end, centre + radius * stride)
            far = max(at - start, end - at)
            if low < at < high and points.reach[i, 0] <= far <= points.reach[i, 1]:
                candidates.append((end - start, label, start, end))
        if candidates:
            length, _, start, end = min(candidates, key=lambda c: c[0])
            for other, label, _, _ in candidates:
                if other <= length + TIE:
                    classes[i, label] = 1
            offsets[i] = torch.tensor([at - start, end - at]) / stride
    return classes, offsets


@given(st.integers(0, 2**31), st.integers(0, 6), st.sampled_from([1.5, 0.5, None]))
@settings(max_examples=60, deadline=None)
def test_assignment_agrees_with_a_plain_loop(seed: int, count: int, radius: float | None) -> None:
    g = torch.Generator().manual_seed(seed)
    points = pyramid_points(SPEC, [32, 16, 8])
    start = (torch.rand(count, 1, generator=g) * 24 * 4).round() / 4  # on a grid of quarters: exact in floats
    segments = torch.cat(
        [start, start + (torch.rand(count, 1, generator=g) * 20 * 4).round() / 4 + 0.25], dim=1
    )
    labels = torch.randint(0, 3, (count,), generator=g)
    packed = pack_segments([segments, segments[:0]], [labels, labels[:0]])
    found = assign(points, *packed, 3, radius)
    classes, offsets = loop(points, segments, labels, 3, radius)
    torch.testing.assert_close(found.classes[0], classes)
    positive = classes.sum(dim=1) > 0
    torch.testing.assert_close(found.offsets[0][positive], offsets[positive])
    assert not found.classes[1].any(), "a video without segments has no labels from its neighbour"
    assert bool(found.offsets.isfinite().all())


def test_points_have_no_half_step() -> None:
    points = pyramid_points(SPEC, [4, 2, 1])
    assert points.position.tolist() == [0, 1, 2, 3, 0, 2, 0]
    assert points.stride.tolist() == [1, 1, 1, 1, 2, 2, 4]
    assert points.reach.tolist() == [*[list(RANGES[0])] * 4, *[list(RANGES[1])] * 2, list(RANGES[2])]


@given(
    st.integers(0, 1000),
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
    st.integers(1, 8),
    st.sampled_from([None, 1.5]),
)
@settings(max_examples=40, deadline=None)
def test_the_compiled_assignment_is_that_of_library_calls(
    seed: int, counts: list[int], room: int, radius: float | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = pyramid_points(SPEC, [32, 16, 8])
    starts = [torch.rand(n, 1, generator=generator) * 28 for n in counts]
    segments = [torch.cat([s, s + 12 * torch.rand(len(s), 1, generator=generator)], dim=1) for s in starts]
    labels = [torch.randint(0, 3, (n,), generator=generator) for n in counts]
    packed = pack_segments(segments, labels, room)
    found, expected = (f(points, *packed, 3, radius) for f in (assign, plain_assign))
    assert torch.equal(found.classes, expected.classes)
    alone = [
        assign(points, *pack_segments([s], [x]), 3, radius) for s, x in zip(segments, labels, strict=True)
    ]
    assert torch.equal(found.classes, torch.cat([x.classes for x in alone])), "room changes nothing"
    defined = expected.classes.sum(dim=2) > 0
    assert torch.equal(found.offsets[defined], expected.offsets[defined])


def assigned(
    segments: list[list[float]], labels: list[int], radius: float | None = 1.5
) -> dict[int, list[int]]:
    """Return the assigned classes by point of level 0."""
    points = pyramid_points(SPEC, [16, 0, 0])
    targets = assign(points, torch.tensor([segments]), torch.tensor([labels]), 3, radius)
    return {i: row.nonzero().flatten().tolist() for i, row in enumerate(targets.classes[0]) if row.any()}


def test_an_offset_on_the_border_of_two_ranges_belongs_to_both_levels() -> None:
    points = pyramid_points(SPEC, [16, 8, 4])
    targets = assign(points, torch.tensor([[[2.0, 8.0]]]), torch.tensor([[0]]), 3, None)
    positive = targets.classes[0].any(dim=1)
    at = points.position[positive].tolist()
    assert at == [4, 5, 6, 4, 6]  # at 4 and 6 the larger offset is 4: level 0 ends there, level 1 begins


def test_the_radius_is_strict_and_clipped_to_the_segment() -> None:
    assert assigned([[4.0, 8.0]], [1]) == {5: [1], 6: [1], 7: [1]}  # 4.5 < t < 7.5
    assert assigned([[4.0, 7.0]], [1]) == {5: [1], 6: [1]}  # 4 < t < 7: neither end counts
    assert assigned([[4.5, 5.5]], [1]) == {5: [1]}


def test_the_shortest_segment_wins_and_ties_give_several_labels() -> None:
    assert assigned([[2.0, 10.0], [5.0, 8.0]], [0, 2], None) == {6: [2], 7: [2]}
    assert assigned([[5.0, 8.0], [5.0, 8.0005]], [0, 2], None) == {6: [0, 2], 7: [0, 2], 8: [2]}
    assert assigned([[5.0, 8.0], [5.0, 8.0]], [1, 1], None) == {6: [1], 7: [1]}


def test_levels_and_ranges_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        pyramid_points(SPEC, [16, 8])
