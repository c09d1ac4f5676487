"""A line through points of which some are far off."""

from __future__ import annotations

from itertools import combinations
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Points that the line is laid through, at most; each is the median of its part of the x axis.
MAX_GROUPS: Final = 24

Point = tuple[float, float]


class Slope(NamedTuple):
    """How steep a line is, and the range in which the middle half of all pairs of points lie."""

    middle: float
    low: float
    high: float


def slope(points: Sequence[Point]) -> Slope | None:
    """The slope by Theil and Sen: the median of the slopes of all pairs.

    Points are first grouped by x, and a pair of groups has the more weight, the more points the
    smaller one has, by the square root: a long time at one place does not outweigh everything else,
    nor do a few points far away. (P. K. Sen, "Estimates of the regression coefficient based on
    Kendall's tau", 1968.)

    Args:
        points: x and y; in any order.

    Returns:
        None when all points have the same x.
    """
    slopes = sorted(
        ((there.y - here.y) / (there.x - here.x), sqrt(min(here.size, there.size)))
        for here, there in combinations(_groups(points), 2)
    )
    if not slopes:
        return None
    total = sum(weight for _, weight in slopes)
    return Slope(*(_quantile(slopes, share * total) for share in (0.5, 0.25, 0.75)))


class _Group(NamedTuple):
    x: float
    y: float
    size: int


def _groups(points: Sequence[Point]) -> list[_Group]:
    """The medians of the points in equal parts of the x axis; each has an x of its own."""
    if not points:
        return []
    least = min(x for x, _ in points)
    width = (max(x for x, _ in points) - least) / MAX_GROUPS
    if width == 0:
        return []
    groups: dict[int, list[Point]] = {}
    for x, y in points:
        groups.setdefault(min(int((x - least) / width), MAX_GROUPS - 1), []).append((x, y))
    return [
        _Group(median(x for x, _ in group), median(y for _, y in group), len(group))
        for group in groups.values()
    ]


def _quantile(slopes: list[tuple[float, float]], weight: float) -> float:
    below = 0.0
    for value, own in slopes:
        below += own
        if below >= weight:
            return value
    return slopes[-1][0]
