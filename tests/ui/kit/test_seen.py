"""What is not seen is not drawn, and is drawn once when it is seen again."""

from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.kit.seen import WhenSeen
from qlora_studio.ui.kit.widgets import column


def test_a_hidden_part_is_drawn_once_when_it_is_shown_however_often_it_was_asked_for(qapp: QApplication) -> None:
    window, part = QWidget(), QWidget()
    column(window).addWidget(part)
    drawn: list[int] = []
    seen = WhenSeen(part, lambda: drawn.append(1))
    seen.ask()
    seen.ask()
    assert not drawn
    window.show()
    assert len(drawn) == 1
    seen.ask()
    assert len(drawn) == 2
    part.hide()
    seen.ask()
    assert len(drawn) == 2
    part.show()
    assert len(drawn) == 3


def test_nothing_is_drawn_in_a_minimised_window_until_it_comes_back(qapp: QApplication) -> None:
    window, part = QWidget(), QWidget()
    column(window).addWidget(part)
    drawn: list[int] = []
    window.show()
    seen = WhenSeen(part, lambda: drawn.append(1))
    window.showMinimized()
    seen.ask()
    seen.ask()
    assert not drawn
    window.showNormal()
    assert len(drawn) == 1
