"""What of a curve is seen: the points of a range, and the parts of its line within a rectangle. Pure."""

import numpy as np
from numpy.typing import NDArray

from qlora_studio.core.run.metric_history import Floats

Bools = NDArray[np.bool_]


def part_between(x: Floats, y: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Return the points from `low` to `high`, and one more at each side: the line goes on beyond the edge."""
    first = max(0, int(np.searchsorted(x, low, "left")) - 1)
    last = int(np.searchsorted(x, high, "right")) + 1
    return x[first:last], y[first:last]


def inside(points: Floats, left: float, top: float, right: float, bottom: float) -> list[Floats]:
    """Return what of a line through `points`, shape (n, 2), lies within a rectangle, as lines of their own.

    Points that are not finite break the line, and one between two breaks is a line of one point. Done here and not by
    the painter, because a drawing (SVG) knows no such clipping.
    """
    known: Bools = np.isfinite(points.sum(axis=1))
    before, after = np.concatenate([[False], known[:-1]]), np.concatenate([known[1:], [False]])
    alone = points[known & ~before & ~after]
    within: Bools = np.logical_and(alone >= (left, top), alone <= (right, bottom)).all(axis=1)
    return [*(point[None] for point in alone[within]), *_clipped_lines(points, (left, top), (right, bottom))]


def _clipped_lines(points: Floats, low: tuple[float, float], high: tuple[float, float]) -> list[Floats]:
    """Return the parts of the segments within a rectangle, joined where they meet (after Liang and Barsky)."""
    start, way = points[:-1], np.diff(points, axis=0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        one, other = (np.array(low) - start) / way, (np.array(high) - start) / way
    level = way == 0
    beyond = level & ((start < low) | (start > high))
    enter = np.maximum(np.where(level, 0.0, np.minimum(one, other)).max(axis=1, initial=-np.inf), 0.0)
    leave = np.minimum(np.where(level, 1.0, np.maximum(one, other)).min(axis=1, initial=np.inf), 1.0)
    seen = (enter <= leave) & ~beyond.any(axis=1) & np.isfinite(way).all(axis=1)
    lines: list[Floats] = []
    whole = np.flatnonzero(seen)
    if not len(whole):
        return lines
    first = start + enter[:, None] * way
    last = start + leave[:, None] * way
    broken = np.flatnonzero((np.diff(whole) > 1) | (leave[whole[:-1]] < 1) | (enter[whole[1:]] > 0)) + 1
    for piece in np.split(whole, broken):
        lines.append(np.concatenate([first[piece[:1]], last[piece]]))
    return lines
