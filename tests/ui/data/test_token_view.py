"""The X-ray's view of tokens: each stands somewhere once, is described by id and string, and is never only a colour."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.data.report import TokenPiece
from qlora_studio.ui.data.token_layout import LINE, TokenLayout
from qlora_studio.ui.data.token_view import PieceSample, TokenView, describe
from qlora_studio.ui.kit.theme import DARK, LIGHT, active_theme, apply_theme

WIDTH = 7.0


def measure(text: str) -> float:
    return WIDTH * len(text)


def piece(string: str, **marks: Any) -> TokenPiece:
    return TokenPiece(id=len(string), string=string, **marks)


@given(st.lists(st.text(max_size=60), max_size=40), st.integers(90, 900))
def test_every_token_is_set_once_in_order_and_within_the_width(strings: list[str], width: int) -> None:
    layout = TokenLayout([piece(string) for string in strings], width, measure)
    order = [placed.token for placed in layout.placed]
    assert order == sorted(order)
    assert set(order) == set(range(len(strings)))
    assert all(placed.left + placed.width <= max(width, 80) + 2 * WIDTH for placed in layout.placed)
    places = [(placed.line, placed.left) for placed in layout.placed]
    assert places == sorted(places)


def test_a_line_end_in_a_token_begins_a_new_line() -> None:
    layout = TokenLayout([piece("a"), piece("\n"), piece("b")], 400, measure)
    assert [placed.line for placed in layout.placed] == [0, 0, 1]
    assert layout.lines == 2


def test_a_point_belongs_to_the_token_that_stands_there() -> None:
    layout = TokenLayout([piece("first"), piece("second"), piece("\n"), piece("third")], 400, measure)
    for index in range(4):
        placed = next(item for item in layout.placed if item.token == index)
        assert layout.at(placed.left + 1, placed.line * LINE + 5) == index
    assert layout.at(399, 5) is None


def test_a_token_is_described_by_id_string_and_what_happens_to_it() -> None:
    token = TokenPiece(id=271, string=" late\u200b", token="Ġlate", trained=True)
    assert describe(token, 4) == ("token 5 · id 271, Ġlate in the vocabulary · “ late‹ZWSP›” · trained")
    assert "cut off" in describe(piece("x", cut=True), 0)
    assert "special" in describe(piece("<s>", special=True), 0)
    assert "context" in describe(piece("x"), 0)
    assert "neighbour" in describe(piece("x", packed=True), 0)
    assert "character before" in describe(piece(""), 0)


@pytest.fixture
def view(qapp: QApplication) -> TokenView:
    view = TokenView()
    view.resize(400, 200)
    view.show_tokens([piece("<|im_start|>", special=True), piece("user"), piece(" hello", trained=True)])
    view.show()
    qapp.processEvents()
    return view


def test_the_token_under_the_mouse_is_told(view: TokenView, qapp: QApplication) -> None:
    told: list[str] = []
    view.pointed.connect(told.append)
    QTest.mouseMove(view.viewport(), QPoint(300, 60))
    QTest.mouseMove(view.viewport(), QPoint(12, 12))
    qapp.processEvents()
    assert told[-1].startswith("token 1 · id 12")
    assert view.current() == 0


def test_the_arrow_keys_read_the_tokens_one_by_one(view: TokenView) -> None:
    told: list[str] = []
    view.pointed.connect(told.append)
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_End, Qt.Key.Key_Home, Qt.Key.Key_Left):
        QTest.keyClick(view, key)
    assert [text.split(" · ")[0] for text in told] == ["token 1", "token 2", "token 3", "token 1"]
    assert "2 trained" not in view.accessibleDescription()
    assert "3 tokens, 1 trained" in view.accessibleDescription()


def test_a_row_of_many_tokens_scrolls_and_the_current_one_comes_into_sight(qapp: QApplication) -> None:
    view = TokenView()
    view.resize(300, 200)
    view.show_tokens([piece(f" word{number}") for number in range(2000)])
    view.show()
    qapp.processEvents()
    assert view.height() < 300
    assert view.verticalScrollBar().maximum() > 1000
    QTest.keyClick(view, Qt.Key.Key_End)
    wait_until(qapp, lambda: view.verticalScrollBar().value() > 10_000)
    assert view.verticalScrollBar().value() == view.verticalScrollBar().maximum()


def test_a_row_amid_its_pack_begins_at_the_top_and_each_neighbour_has_its_name(qapp: QApplication) -> None:
    view = TokenView()
    view.resize(300, 200)
    before, own, after = (
        [piece(f" w{number}", packed=packed) for number in range(900)] for packed in (True, False, True)
    )
    view.show_tokens([*before, *own, *after], {0: "row 7", 900: "row 3", 1800: "row 9"}, first=900)
    view.show()
    wait_until(qapp, lambda: view.verticalScrollBar().value() > 1000)
    told: list[str] = []
    view.pointed.connect(told.append)
    for x in (12, 80):  # the name of the row, and its first tokens
        QTest.mouseMove(view.viewport(), QPoint(x, 12))
        qapp.processEvents()
    assert all("of row 3 · " in text for text in told) and told
    QTest.keyClick(view, Qt.Key.Key_Home)
    assert told[-1].startswith("token 1 of row 7 · ")
    assert "neighbour in the same pack" in told[-1]
    assert "900 tokens, 0 trained" in view.accessibleDescription()


def wait_until(qapp: QApplication, condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        qapp.processEvents()
    raise AssertionError("waited in vain")


def test_kinds_of_tokens_differ_without_colour(qapp: QApplication, both_themes: Callable[[], None]) -> None:
    """Turned to grey, no two samples of the legend look alike: their lines differ in form."""
    kinds: tuple[dict[str, bool], ...] = {"trained": True}, {"special": True}, {"cut": True}, {"packed": True}, {}
    lines = [strokes(PieceSample("word" * 6, piece("", **marks))) for marks in kinds]
    assert lines[0] == 1
    assert lines[4] == 0
    assert len(set(lines)) == len(lines)


def strokes(sample: PieceSample) -> int:
    """Return of how many strokes the line under a sample is made, by lightness alone."""
    image = sample.grab().toImage()
    row = [image.pixelColor(x, LINE - 4).lightness() for x in range(3, image.width() - 3)]
    empty = active_theme().color("background").lightness()
    inked = [abs(light - empty) > 40 for light in row]
    return sum(now and not before for before, now in zip([False, *inked], inked, strict=False))


@pytest.fixture(params=[LIGHT, DARK], ids=["light", "dark"])
def both_themes(request: pytest.FixtureRequest, qapp: QApplication) -> Callable[[], None]:
    apply_theme(qapp, request.param)
    request.addfinalizer(lambda: apply_theme(qapp, LIGHT))
    return lambda: None
