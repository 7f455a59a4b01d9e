"""Placement of labels in a figure so that they do not cover points, error bars or other labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

PASSES = 2
"""Number of times that every cluster may move."""
STEPS = (0.0, 0.7, -0.7, 1.4, -1.4, 2.5, -2.5)
"""Vertical moves of a cluster in label heights."""
SHIFT_WEIGHT = 0.15
"""Cost of moving a label by its own area, relative to covering a point by this area."""
TEXT_WEIGHT = 4.0
"""Cost of covering another label, relative to covering a point or its error bar."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Return the area of the intersection."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, bounds: Box) -> float:
        """Return the area outside `bounds`."""
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(bounds)


@dataclass(frozen=True)
class Label:
    """A label to place and its point, in pixels.

    Attributes:
        text: Text of the label.
        x: Horizontal centre of the point.
        y: Vertical centre of the point.
        half_height: Half the height of the point with its error bar.
        half_width: Half the width of the point.
        width: Width of the text.
        height: Height of the text.
    """

    text: str
    x: float
    y: float
    half_height: float
    half_width: float
    width: float
    height: float

    @property
    def box(self) -> Box:
        """Bounding box of the point with its error bar."""
        return Box(
            self.x - self.half_width,
            self.y - self.half_height,
            self.x + self.half_width,
            self.y + self.half_height,
        )


@dataclass(frozen=True)
class LabelPosition:
    """Position of the end of a label nearer to its point, and its side of the point (1 right, −1 left)."""

    x: float
    y: float
    side: int


def place_labels(
    labels: Sequence[Label], bounds: Box, gap: float, lines: Sequence[Box] = ()
) -> list[LabelPosition]:
    """Place labels in columns next to clusters of points, in the vertical order of the points.

    Points closer than three gaps horizontally form a cluster. The labels of a cluster are in one column on
    its left or right. All combinations of sides are tried (there are few clusters), and the one that covers
    the smallest area is chosen. Then each cluster in turn may move its column vertically or to the other
    side if this reduces the covered area by more than the cost of moving.

    Args:
        labels: Labels in any order.
        bounds: Rectangle that labels should not leave.
        gap: Distance in pixels between a cluster and its labels.
        lines: Boxes other than the points that labels should not cover.

    Returns:
        One position per label, in the order of `labels`.
    """
    clusters = _clusters(labels, 3 * gap)

    def positions_of(state: Sequence[tuple[int, float]]) -> dict[int, LabelPosition]:
        columns = [
            _column(labels, cluster, side, bounds, gap, shift)
            for cluster, (side, shift) in zip(clusters, state, strict=True)
        ]
        return {k: position for column in columns for k, position in column.items()}

    def cost(state: Sequence[tuple[int, float]]) -> float:
        moved = sum(
            abs(shift) * labels[k].width
            for cluster, (_, shift) in zip(clusters, state, strict=True)
            for k in cluster
        )
        return _covered(labels, positions_of(state), bounds, lines) + SHIFT_WEIGHT * moved

    combinations = product((1, -1), repeat=len(clusters))
    best = min(([(side, 0.0) for side in sides] for sides in combinations), key=cost)
    for index in [*range(len(clusters))] * PASSES:
        height = max(labels[k].height for k in clusters[index])
        moves = [(side, step * height) for step, side in product(STEPS, (best[index][0], -best[index][0]))]
        best = min(([*best[:index], move, *best[index + 1 :]] for move in moves), key=cost)
    positions = positions_of(best)
    return [positions[k] for k in range(len(labels))]


def _clusters(labels: Sequence[Label], distance: float) -> list[list[int]]:
    """Group the indices of labels whose points are close horizontally."""
    order = sorted(range(len(labels)), key=lambda k: labels[k].x)
    clusters: list[list[int]] = []
    for k in order:
        if clusters and labels[k].x - labels[clusters[-1][-1]].x <= distance:
            clusters[-1].append(k)
        else:
            clusters.append([k])
    return clusters


def _column(
    labels: Sequence[Label], cluster: Sequence[int], side: int, bounds: Box, gap: float, shift: float = 0.0
) -> dict[int, LabelPosition]:
    """Place the labels of a cluster in one column, as close to the heights of their points as possible."""
    edge = max(labels[k].box.right for k in cluster) if side > 0 else min(labels[k].box.left for k in cluster)
    order = sorted(cluster, key=lambda k: labels[k].y)
    heights = [labels[k].height for k in order]
    middles = spread([labels[k].y + shift for k in order], heights, bounds.bottom, bounds.top)
    return {k: LabelPosition(edge + side * gap, y, side) for k, y in zip(order, middles, strict=True)}


def spread(targets: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Return centres of disjoint intervals, in order, close to their targets and within the limits.

    The sum of squared distances to the targets is minimised by the pool adjacent violators algorithm. If the
    limits are too narrow, the upper one is exceeded.
    """
    offsets, total = [], 0.0
    for height in heights:
        offsets.append(total + height / 2)
        total += height
    blocks: list[tuple[float, int]] = []
    for target, offset in zip(targets, offsets, strict=True):
        blocks.append((target - offset, 1))
        while len(blocks) > 1 and blocks[-1][0] < blocks[-2][0]:
            (b, n), (a, m) = blocks.pop(), blocks.pop()
            blocks.append(((a * m + b * n) / (m + n), m + n))
    starts = [max(min(value, high - total), low) for value, count in blocks for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def _covered(
    labels: Sequence[Label], positions: dict[int, LabelPosition], bounds: Box, lines: Sequence[Box]
) -> float:
    """Return the weighted area in which labels cover points, lines or labels, or are outside the bounds."""
    boxes = {k: _text_box(labels[k], position) for k, position in positions.items()}
    area = 0.0
    for k, box in boxes.items():
        area += 2 * box.outside(bounds)
        area += sum(box.overlap(other.box) for other in labels)
        area += sum(box.overlap(line) for line in lines)
        area += TEXT_WEIGHT * sum(box.overlap(boxes[j]) for j in boxes if j < k)
    return area


def _text_box(label: Label, position: LabelPosition) -> Box:
    left = position.x if position.side > 0 else position.x - label.width
    return Box(left, position.y - label.height / 2, left + label.width, position.y + label.height / 2)
