"""Curves are cut and broken for the painter: what lies inside stays, and every gap."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.run.metric_history import Floats
from qlora_studio.ui.curves.clipping import inside, part_between


def test_a_part_has_a_neighbour_on_each_side_so_that_lines_reach_the_edge() -> None:
    x = np.arange(10.0)
    assert part_between(x, x, 3.5, 5.5)[0].tolist() == [3, 4, 5, 6]
    assert part_between(x, x, -5, 0.5)[0].tolist() == [0, 1]
    assert part_between(x, x, 20, 30)[0].tolist() == [9]


def _lines(*points: tuple[float, float]) -> list[list[list[float]]]:
    return [line.tolist() for line in inside(np.array(points, dtype=float).reshape(-1, 2), 0, 0, 10, 10)]


def test_a_line_is_cut_at_the_edges_and_goes_on_where_it_comes_back() -> None:
    assert _lines((0, 5), (4, 5), (4, 15), (6, 15), (6, 5), (20, 5)) == [
        [[0, 5], [4, 5], [4, 10]],
        [[6, 10], [6, 5], [10, 5]],
    ]
    assert _lines((-5, 5), (15, 5)) == [[[0, 5], [10, 5]]]
    assert _lines((-5, -5), (-5, 15)) == []
    assert _lines((2, 12), (8, 12)) == []


def test_gaps_break_a_line_and_a_point_between_gaps_stays() -> None:
    nan = float("nan")
    assert _lines((1, 1), (2, nan), (3, 3), (4, nan), (5, 5), (6, 6)) == [[[1, 1]], [[3, 3]], [[5, 5], [6, 6]]]
    assert _lines((1, 1)) == [[[1, 1]]]
    assert _lines() == []


@given(st.lists(st.tuples(st.floats(-30, 40), st.floats(-30, 40)), min_size=2, max_size=30))
def test_what_is_cut_lies_inside_and_on_the_line(points: list[tuple[float, float]]) -> None:
    whole = np.array(points)
    for line in inside(whole, 0, 0, 10, 10):
        assert (line >= -1e-6).all() and (line <= 10 + 1e-6).all()
        for point in line:
            assert min(_distance(point, a, b) for a, b in pairwise(whole)) < 1e-5


def _distance(point: Floats, start: Floats, end: Floats) -> float:
    way = end - start
    share = float(np.clip(np.dot(point - start, way) / max(float(np.dot(way, way)), 1e-300), 0, 1))
    return float(np.linalg.norm(point - start - share * way))
