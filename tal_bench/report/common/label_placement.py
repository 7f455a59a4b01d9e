"""Where labels go in a figure so that none covers a point, a spread or another label; plain geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

PASSES = 2
"""Times that every cluster may move."""
STEPS = (0.0, 0.7, -0.7, 1.4, -1.4, 2.5, -2.5)
"""How far up or down, in heights of a label."""
MOVING = 0.15
"""Price of moving a label by its own area, in areas that are covered."""
TEXTS = 4.0
"""Price of covering a text, in those of covering a point or its spread."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Area of the intersection, 0 when they do not meet."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, bounds: Box) -> float:
        """Area that lies beyond ``bounds``."""
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(bounds)


@dataclass(frozen=True)
class Label:
    """A text to place and the point it belongs to, in pixels.

    Attributes:
        text: of the label.
        x, y: the point's middle.
        reach: half the height of the point with its spread.
        radius: half its width.
        width, height: of the text.
    """

    text: str
    x: float
    y: float
    reach: float
    radius: float
    width: float
    height: float

    @property
    def box(self) -> Box:
        """The point with its spread."""
        return Box(self.x - self.radius, self.y - self.reach, self.x + self.radius, self.y + self.reach)


@dataclass(frozen=True)
class Place:
    """Where a label goes: its inner end, and the side of its points (1 right, −1 left)."""

    x: float
    y: float
    side: int


def place(labels: Sequence[Label], bounds: Box, gap: float, lines: Sequence[Box] = ()) -> list[Place]:
    """Place every label beside the cluster of its point, in the order of the points' heights.

    Points whose columns are nearer than three gaps make a cluster; each cluster has its labels in one
    column on its left or right. All choices of sides are tried (there are few clusters); the one that
    covers least wins, the right side when equal. Then clusters in turn may move their column up or down,
    or to the other side, where that uncovers more than it moves.

    Args:
        labels: in any order.
        bounds: rectangle to stay in.
        gap: pixels between a cluster and its labels.
        lines: drawn things besides the points that should not be covered.

    Returns:
        One place per label, in the order of ``labels``.
    """
    clusters = _clusters(labels, 3 * gap)

    def placed(state: Sequence[tuple[int, float]]) -> dict[int, Place]:
        columns = [
            _column(labels, cluster, side, bounds, gap, shift)
            for cluster, (side, shift) in zip(clusters, state, strict=True)
        ]
        return {k: at for column in columns for k, at in column.items()}

    def badness(state: Sequence[tuple[int, float]]) -> float:
        moved = sum(
            abs(shift) * labels[k].width
            for cluster, (_, shift) in zip(clusters, state, strict=True)
            for k in cluster
        )
        return _covered(labels, placed(state), bounds, lines) + MOVING * moved

    sides = product((1, -1), repeat=len(clusters))
    best = min(([(side, 0.0) for side in one] for one in sides), key=badness)
    for which in [*range(len(clusters))] * PASSES:
        height = max(labels[k].height for k in clusters[which])
        moves = [(side, step * height) for step, side in product(STEPS, (best[which][0], -best[which][0]))]
        best = min(([*best[:which], move, *best[which + 1 :]] for move in moves), key=badness)
    places = placed(best)
    return [places[k] for k in range(len(labels))]


def _clusters(labels: Sequence[Label], distance: float) -> list[list[int]]:
    """Indices of labels whose points stand together horizontally."""
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
) -> dict[int, Place]:
    """Labels of a cluster in one column, as near to their points' heights as their own heights allow."""
    edge = max(labels[k].box.right for k in cluster) if side > 0 else min(labels[k].box.left for k in cluster)
    order = sorted(cluster, key=lambda k: labels[k].y)
    heights = [labels[k].height for k in order]
    middles = spread([labels[k].y + shift for k in order], heights, bounds.bottom, bounds.top)
    return {k: Place(edge + side * gap, y, side) for k, y in zip(order, middles, strict=True)}


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Middles of intervals of given heights, in order, disjoint, near the wanted ones and inside the limits.

    Least squares by pooling neighbours that collide (pool adjacent violators). When the limits are too
    narrow for all, the upper one gives way.
    """
    offsets, total = [], 0.0
    for height in heights:
        offsets.append(total + height / 2)
        total += height
    blocks: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        blocks.append((want - offset, 1))
        while len(blocks) > 1 and blocks[-1][0] < blocks[-2][0]:
            (b, n), (a, m) = blocks.pop(), blocks.pop()
            blocks.append(((a * m + b * n) / (m + n), m + n))
    starts = [max(min(value, high - total), low) for value, count in blocks for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def _covered(labels: Sequence[Label], places: dict[int, Place], bounds: Box, lines: Sequence[Box]) -> float:
    """Area that labels take from points, from each other and from beyond the bounds."""
    boxes = {k: _text_box(labels[k], at) for k, at in places.items()}
    area = 0.0
    for k, box in boxes.items():
        area += 2 * box.outside(bounds)
        area += sum(box.overlap(other.box) for other in labels)
        area += sum(box.overlap(line) for line in lines)
        area += TEXTS * sum(box.overlap(boxes[j]) for j in boxes if j < k)
    return area


def _text_box(label: Label, at: Place) -> Box:
    left = at.x if at.side > 0 else at.x - label.width
    return Box(left, at.y - label.height / 2, left + label.width, at.y + label.height / 2)
