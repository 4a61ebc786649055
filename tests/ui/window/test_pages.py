"""The pages behind the one at the front cost nothing: neither when they come, nor when something of them changes."""

from itertools import pairwise

import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from qlora_studio.ui.kit.theme import DARK, LIGHT, apply_theme
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.page import Page
from qlora_studio.ui.wiring import PAGES

_MOST_AT_ONCE = 36  # of our widgets, which take some milliseconds to make


class _Measured(Page):
    asked = 0
    widths: tuple[int, ...] = ()

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.label = name, QLabel(name)
        self.body.addWidget(self.label)

    def minimumSizeHint(self) -> QSize:
        self.asked += 1
        return super().minimumSizeHint()

    def resizeEvent(self, event: QResizeEvent) -> None:
        self.widths = (*self.widths, event.size().width())
        super().resizeEvent(event)


def test_only_the_page_at_the_front_is_measured(qapp: QApplication) -> None:
    window, front, behind = MainWindow(QWidget()), _Measured("chat"), _Measured("runs")
    window.add_page(front)
    window.show_page("chat")
    window.show()
    qapp.processEvents()
    front.asked = 0
    window.take_in(behind)
    window.add_page(behind)
    behind.label.setText("another text,\nwhich is higher")
    front.label.setText("another text,\nwhich is higher")
    qapp.processEvents()
    assert front.asked and not behind.asked
    window.show_page("runs")
    qapp.processEvents()
    assert behind.asked and behind.isVisible() and window.pages.keys() == {"chat", "runs"}
    window.close_now()


def test_a_page_is_laid_out_once_where_rail_and_panel_change_with_the_width_of_the_window(qapp: QApplication) -> None:
    panel, page = QWidget(), _Measured("chat")
    window = MainWindow(panel)
    window.add_page(page)
    window.show()
    window.resize(1400, 700)
    qapp.processEvents()
    for width, beside in ((1000, 152 + 272), (1300, 184 + 316), (800, 152), (1100, 152 + 272)):
        page.widths = ()
        window.resize(width, 700)
        qapp.processEvents()
        assert list(page.widths) == [width - beside]
    assert panel.isVisible()
    window.close_now()


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_is_made_in_small_pieces_and_is_the_same_as_one_made_at_once(
    kind: type[Page], qapp: QApplication
) -> None:
    window, front = MainWindow(QWidget()), _Measured("start")
    window.add_page(front)
    window.show_page("start")
    window.show()
    page = kind(at_once=False)
    window.take_in(page)
    counts = [len(_ours(page))]
    for step, _ in enumerate(page.steps):
        counts.append(len(_ours(page)))
        window.resize(1000 + step, 700)  # the window is used meanwhile
        apply_theme(qapp, LIGHT if step % 2 else DARK)
        qapp.processEvents()
        assert window.current_page() is front and not page.isVisible()
    apply_theme(qapp, LIGHT)
    counts.append(len(_ours(page)))
    assert max(after - before for before, after in pairwise(counts)) <= _MOST_AT_ONCE
    whole = kind()
    window.take_in(whole)
    assert _looks(page) == _looks(whole)
    window.close_now()


def _ours(page: Page) -> list[QWidget]:
    return [part for part in page.findChildren(QWidget) if type(part).__module__.startswith("qlora_studio")]


def _looks(page: Page) -> list[tuple[object, ...]]:
    """What stands on a page: each of our widgets in its order, by kind, name, words, and whether it would be seen."""
    return [
        (type(part).__name__, part.accessibleName(), getattr(part, "text", str)(), part.isVisibleTo(page))
        for part in _ours(page)
    ]
