"""A page that comes to the front again takes the keyboard with it, but never into what was hidden meanwhile."""

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLineEdit, QScrollArea, QWidget

from qlora_studio.ui.kit.menus import ChoiceButton
from qlora_studio.ui.kit.widgets import Card
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.page import Page


class _First(Page):
    name, title = "chat", "Chat"

    def __init__(self) -> None:
        super().__init__()
        self.card, self.stays = Card(), QLineEdit()
        self.field = QLineEdit()
        self.card.add(self.field)
        self.body.addWidget(self.card)
        self.body.addWidget(self.stays)


class _Second(Page):
    name, title = "runs", "Runs"

    def __init__(self) -> None:
        super().__init__()
        self.field = QLineEdit()
        self.body.addWidget(self.field)


def test_the_focus_goes_to_what_is_seen_where_its_old_place_was_hidden_behind_another_page(qapp: QApplication) -> None:
    window, page, other = MainWindow(QWidget()), _First(), _Second()
    window.add_page(page)
    window.add_page(other)
    window.show_page("chat")
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    page.field.setFocus()
    window.show_page("runs")
    other.field.setFocus()
    page.card.hide()
    window.show_page("chat")
    focused = QApplication.focusWidget()
    assert focused is not None and focused.isVisible()
    window.close_now()


def test_what_asks_for_the_focus_while_it_is_hidden_does_not_keep_it(qapp: QApplication) -> None:
    window, page = MainWindow(QWidget()), _First()
    window.add_page(page)
    window.show_page("chat")
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    page.card.hide()
    page.field.setFocus()
    QTest.qWait(1)
    focused = QApplication.focusWidget()
    assert focused is not None and focused.isVisible()
    window.close_now()


def test_a_menu_that_closes_where_its_button_is_hidden_by_then_does_not_keep_the_focus(qapp: QApplication) -> None:
    window, page = MainWindow(QWidget()), _First()
    button = ChoiceButton(str, {"a": "A", "b": "B"}, tip="")
    page.card.add(button)
    window.add_page(page)
    window.show_page("chat")
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    menu = button.menu()
    for _ in range(2):  # the same menu, again
        page.card.show()
        button.setFocus()

        def leave() -> None:
            assert QApplication.focusWidget() is menu
            page.card.hide()  # as pills take its place in a window that becomes wide
            menu.close()

        QTimer.singleShot(20, leave)
        button.showMenu()
        QTest.qWait(1)
        focused = QApplication.focusWidget()
        assert focused is not None and focused.isVisible()
    window.close_now()


def test_the_focus_goes_back_to_a_button_whose_menu_has_closed(qapp: QApplication) -> None:
    window, page = MainWindow(QWidget()), _First()
    button = ChoiceButton(str, {"a": "A", "b": "B"}, tip="")
    page.card.add(button)
    window.add_page(page)
    window.show_page("chat")
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    for _ in range(2):  # the same menu, again
        button.setFocus()
        QTimer.singleShot(20, button.menu().close)
        button.showMenu()
        QTest.qWait(1)
        window.activateWindow()
        assert QTest.qWaitForWindowActive(window)
        assert QApplication.focusWidget() is button
    window.close_now()


def test_the_rails_focus_goes_along_with_the_page_and_no_other_focus_does(qapp: QApplication) -> None:
    window, page, other = MainWindow(QWidget()), _First(), _Second()
    window.add_page(page)
    window.add_page(other)
    window.show_page("chat")
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    window.rail.findChildren(QAbstractButton)[0].setFocus()
    window.show_page("runs")
    along = QApplication.focusWidget()
    other.field.setFocus()
    window.show_page("runs")
    stays = QApplication.focusWidget()
    window.close_now()

    assert isinstance(along, QAbstractButton) and along.isChecked() and along.accessibleName().startswith("Runs")
    assert stays is other.field


def test_the_page_scrolls_to_the_focus_where_the_keyboard_comes_from_the_rail(qapp: QApplication) -> None:
    window, page = MainWindow(QWidget()), _Second()
    window.add_page(page)
    page.body.addSpacing(3000)
    window.show_page("runs")
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    bar = page.findChildren(QScrollArea)[0].verticalScrollBar()
    QTest.qWait(10)
    bar.setValue(bar.maximum())
    assert page.field.visibleRegion().isEmpty()
    window.rail.button("runs").setFocus()
    while not page.field.hasFocus():
        QTest.keyClick(window.windowHandle(), Qt.Key.Key_Tab)
    assert not page.field.visibleRegion().isEmpty()
    window.close_now()
