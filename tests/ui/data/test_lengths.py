"""The histogram of lengths: its scale, its draggable line, and what a max length cuts off."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.data.report import LengthStatistics
from qlora_studio.ui.data.lengths import (
    LengthHistogram,
    LengthScale,
    LengthsCard,
    beyond,
    cut_text,
    nice_length,
    nice_step,
)
from qlora_studio.ui.data.view import lengths_text

LENGTHS = [40, 90, 130, 250, 400, 410, 700, 990]


def statistics(lengths: list[int] = LENGTHS, max_length: int = 512) -> LengthStatistics:
    edges = tuple(range(0, 1025, 128))
    return LengthStatistics(
        rows=len(lengths),
        max_length=max_length,
        longest=max(lengths),
        shortest=min(lengths),
        total_tokens=sum(lengths),
        trained_tokens=sum(lengths) // 2,
        edges=edges,
        counts=tuple(sum(low <= length < high for length in lengths) for low, high in pairwise(edges)),
        rows_beyond=tuple(sum(length > edge for length in lengths) for edge in edges),
        trained_beyond=tuple(sum(max(0, length - edge) for length in lengths) // 2 for edge in edges),
        quantiles={"50": 250, "95": 990},
        keeps={"95": 400, "99": 800, "100": max(lengths)},
        cut_rows=2,
        lost_tokens=300,
        lost_share=0.2,
        tokens_per_epoch=sum(lengths),
        steps_per_epoch=1,
        padding_share=0.4,
        packed_padding_share=0.1,
        row_tokens=512,
    )


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_a_place_on_the_scale_leads_back_to_its_length(longest: int, share: float) -> None:
    scale = LengthScale(longest, 8, 300)
    tokens = round(longest * share)
    assert abs(scale.tokens(scale.x(tokens)) - tokens) <= 1


@given(st.floats(0.1, 1e6))
def test_a_step_between_ticks_is_round_and_large_enough(size: float) -> None:
    step = nice_step(size)
    assert step >= size
    assert str(step).rstrip("0") in ("1", "2", "5")


def test_a_max_length_chosen_by_hand_is_a_round_one() -> None:
    assert [nice_length(tokens) for tokens in (3, 101, 515, 2000)] == [16, 104, 512, 1984]


def test_what_lies_beyond_a_length_is_exact_at_the_edges_and_falls_between_them() -> None:
    report = statistics()
    assert [beyond(report.edges, report.rows_beyond, edge) for edge in report.edges[:-1]] == list(
        report.rows_beyond[:-1]
    )
    values = [beyond(report.edges, report.rows_beyond, length) for length in range(0, 1100, 10)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == 0


def test_what_is_padding_is_said_in_words() -> None:
    told = statistics()
    assert lengths_text(told).endswith(" · no padding, 40% if rows were padded")
    padded = told.model_copy(update={"padded_because": "it is so"})
    assert lengths_text(padded).endswith(" · 40% padding, 10% with packing")
    packed = padded.model_copy(update={"packing": True})
    assert lengths_text(packed).endswith(" · 10% padding in packs, 40% without")


def test_what_is_cut_off_is_said_in_words() -> None:
    assert cut_text(statistics(), 1024) == "Nothing is cut off: the longest row has 990 tokens."
    assert cut_text(statistics(), 512).startswith("About 2 rows are cut, ")
    assert cut_text(statistics(), 512).endswith("A max length of 400 keeps 95 %, 800 keeps 99 %, 990 keeps all.")


@pytest.fixture
def histogram(qapp: QApplication) -> LengthHistogram:
    histogram = LengthHistogram()
    histogram.resize(420, 168)
    histogram.show_lengths(statistics(), 512)
    histogram.show()
    return histogram


def test_the_line_is_dragged_with_the_mouse_and_asks_once_when_it_is_let_go(histogram: LengthHistogram) -> None:
    asked: list[int] = []
    moved: list[int] = []
    histogram.max_length_requested.connect(asked.append)
    histogram.moved.connect(moved.append)
    start, left = QPoint(round(histogram.line_x()), 80), Qt.MouseButton.LeftButton
    QTest.mousePress(histogram, left, pos=start)
    QTest.mouseMove(histogram, start + QPoint(50, 0))
    QTest.mouseMove(histogram, start + QPoint(100, 0))
    assert asked == []
    QTest.mouseRelease(histogram, left, pos=start + QPoint(100, 0))
    assert len(moved) >= 3
    assert asked == [nice_length(round(512 + 1024 * 100 / 404))]


def test_a_press_beside_the_line_moves_nothing(histogram: LengthHistogram) -> None:
    asked: list[int] = []
    histogram.max_length_requested.connect(asked.append)
    QTest.mouseClick(histogram, Qt.MouseButton.LeftButton, pos=QPoint(20, 80))
    assert asked == []


def test_the_arrow_keys_move_the_line(histogram: LengthHistogram) -> None:
    asked: list[int] = []
    histogram.max_length_requested.connect(asked.append)
    QTest.keyClick(histogram, Qt.Key.Key_Right)
    QTest.keyClick(histogram, Qt.Key.Key_Left)
    assert asked == [576, 504]


def test_a_max_length_far_beyond_the_rows_stands_at_the_right_edge(histogram: LengthHistogram) -> None:
    histogram.show_lengths(statistics(), 8192)
    assert histogram.line_x() == pytest.approx(420 - 8)


def test_a_table_stands_behind_the_picture(qapp: QApplication) -> None:
    card = LengthsCard()
    card.show_lengths(statistics(), 512)
    card.fold.click()
    assert card.table.isVisibleTo(card) and not card.histogram.isVisibleTo(card)
    card.table.copy()
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0] == "From\tto\tRows"
    assert sum(int(line.split("\t")[2]) for line in lines[1:]) == len(LENGTHS)
