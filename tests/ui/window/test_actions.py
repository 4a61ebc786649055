"""The keyboard: the palette, the sheet of keys, and the keys that work on every page."""

from collections.abc import Callable, Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QListView,
    QMenu,
    QWidget,
)

from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.training.page import TrainingPage
from qlora_studio.ui.window.main_window import MainWindow

CTRL = Qt.KeyboardModifier.ControlModifier
Key = Qt.Key
WaitUntil = Callable[[Callable[[], object]], None]


@pytest.fixture
def app_window(qapp: QApplication, wait_until: WaitUntil) -> Iterator[AppWindow]:
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    app_window.window.activateWindow()
    wait_until(app_window.window.isActiveWindow)
    yield app_window
    app_window.destroy()


def press(window: MainWindow, key: Qt.Key, keys: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
    QTest.keyClick(window, key, keys)


def focused() -> QWidget:
    widget = QApplication.focusWidget()
    assert widget is not None
    return widget


def ask(app_window: AppWindow, query: str) -> None:
    press(app_window.window, Key.Key_K, CTRL)
    QTest.keyClicks(focused(), query)
    QTest.keyClick(focused(), Key.Key_Return)
    QTest.qWait(20)


@pytest.mark.parametrize("keys", [CTRL, Qt.KeyboardModifier.AltModifier])
def test_keys_that_press_a_button_take_what_is_being_typed_and_leave_the_focus_there(
    app_window: AppWindow, keys: Qt.KeyboardModifier
) -> None:
    window, page = app_window.window, app_window.window.pages["training"]
    assert isinstance(page, TrainingPage) and app_window.studio is not None
    draft, rates = app_window.studio.draft, []
    window.show_page("training")
    page.start_requested.connect(lambda: rates.append(draft.config.training.learning_rate))
    field = page.form.line("training.learning_rate").field
    assert isinstance(field, QLineEdit)
    page.focus_on(field)
    field.selectAll()
    QTest.keyClicks(field, "7e-5")
    letter = page.start_button.shortcut().toString().removeprefix("Alt+")
    press(window, Key.Key_Return if keys == CTRL else Key(ord(letter)), keys)
    QTest.qWait(200)  # as long as Qt shows a button pressed
    assert rates == [7e-5]
    assert focused() is field


def test_a_refused_text_goes_with_what_is_undone_so_that_the_form_and_the_draft_say_the_same(
    app_window: AppWindow,
) -> None:
    window, page = app_window.window, app_window.window.pages["training"]
    assert isinstance(page, TrainingPage) and app_window.studio is not None
    draft = app_window.studio.draft
    window.show_page("training")
    line = page.form.line("training.learning_rate")
    assert isinstance(line.field, QLineEdit)
    before = line.field.text()
    draft.set_value("training.epochs", 7)
    line.field.setFocus()
    line.field.selectAll()
    QTest.keyClicks(line.field, "fast")
    page.start_button.setFocus()
    assert draft.refused_values() and line.has_problem()
    press(window, Key.Key_Z, CTRL)
    assert (line.field.text(), line.has_problem(), draft.refused_values()) == (before, False, ())


def test_the_palette_goes_to_settings_and_does_what_buttons_do(app_window: AppWindow) -> None:
    window = app_window.window
    ask(app_window, "lora rank")
    assert window.current_page().name == "training"
    assert focused().accessibleName() == "LoRA rank"
    ask(app_window, "training.max_grad_norm")
    assert focused().isVisible(), "a setting that was folded is unfolded"
    assert focused().accessibleDescription() == "Gradients are clipped to it."
    ask(app_window, "theme")
    assert (window.current_page().name, focused().accessibleName()) == ("settings", "Theme")
    ask(app_window, "go to chat")
    assert window.current_page().name == "chat"


def test_keys_and_clicks_pass_over_the_names_of_places_in_the_palette(app_window: AppWindow) -> None:
    press(app_window.window, Key.Key_K, CTRL)
    palette = app_window.actions.palette

    def chosen() -> object:
        return palette.model.row(palette.table.currentIndex().row())

    rows = palette.model.rows()
    places = [number for number, row in enumerate(rows) if isinstance(row, str)]
    assert places[0] == 0 and len(places) > 3
    last_of_first = places[1] - 1
    for number in range(1, last_of_first + 1):
        assert chosen() is rows[number]
        QTest.keyClick(palette.field, Key.Key_Down)
    assert chosen() is rows[places[1] + 1]
    QTest.keyClick(palette.field, Key.Key_Up)
    assert chosen() is rows[last_of_first]
    palette.table.scrollToTop()
    place = palette.table.visualRect(palette.model.index(0, 0)).center()
    QTest.mouseClick(palette.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert palette.isVisible() and chosen() is rows[last_of_first]
    QTest.keyClick(palette.field, Key.Key_Escape)


def test_escape_leaves_the_palette_and_the_focus_where_it_was(app_window: AppWindow) -> None:
    ask(app_window, "lora rank")
    press(app_window.window, Key.Key_K, CTRL)
    palette = app_window.actions.palette
    assert palette.isVisible() and palette.field.hasFocus()
    QTest.keyClicks(palette.field, "no such thing")
    assert palette.model.rowCount() == 0
    QTest.keyClick(palette.field, Key.Key_Return)
    assert palette.isVisible(), "there is nothing to do"
    QTest.keyClick(palette.field, Key.Key_Escape)
    assert not palette.isVisible()
    assert focused().accessibleName() == "LoRA rank"


def test_the_sheet_of_keys_has_every_action_that_has_keys(app_window: AppWindow) -> None:
    window = app_window.window
    press(window, Key.Key_F1)
    sheet = app_window.actions.key_sheet
    shown = {label.text() for label in sheet.findChildren(QLabel) if label.isVisible()}
    with_keys = {action.shortcut().toString() for action in window.actions()} - {""}
    assert len(with_keys) == len([a for a in window.actions() if a.shortcut().toString()]), "two have the same keys"
    assert with_keys | {"Ctrl+0 to Ctrl+8"} <= shown
    QTest.keyClick(focused(), Key.Key_Escape)
    assert not sheet.isVisible()


def test_the_focus_goes_to_what_is_seen_where_the_page_changed_below_the_sheet(app_window: AppWindow) -> None:
    window = app_window.window
    ask(app_window, "lora rank")  # the focus is on that page now
    press(window, Key.Key_F1)
    window.show_page("data")
    QTest.keyClick(focused(), Key.Key_Escape)
    assert not app_window.actions.key_sheet.isVisible()
    assert focused().isVisible()


def test_the_keys_that_work_everywhere(app_window: AppWindow) -> None:
    window, studio = app_window.window, app_window.studio
    assert studio is not None
    window.show_page("model")
    press(window, Key.Key_F, CTRL)
    assert focused().accessibleName() == "Filter the models"
    window.show_page("chat")
    press(window, Key.Key_F, CTRL)
    assert focused().accessibleName() == "Search actions and settings", "where nothing is listed"
    QTest.keyClick(focused(), Key.Key_Escape)
    studio.draft.set_value("lora.rank", 64)
    window.setFocus()
    press(window, Key.Key_Z, CTRL)
    assert studio.draft.config.lora.rank == 16
    press(window, Key.Key_Z, CTRL | Qt.KeyboardModifier.ShiftModifier)
    assert studio.draft.config.lora.rank == 64
    press(window, Key.Key_F9)
    assert not app_window.panel.isVisible()
    press(window, Key.Key_F9)
    assert app_window.panel.isVisible()
    asked: list[bool] = []
    window.close_requested.connect(lambda: asked.append(True))
    press(window, Key.Key_Q, CTRL)
    QTest.qWait(20)
    assert asked and not window.isVisible(), "nothing is at work: nothing is asked"


def test_everything_that_takes_the_focus_says_what_it_is(app_window: AppWindow) -> None:
    own = (QAbstractSpinBox, QComboBox)  # their inner lines and lists are theirs
    nameless = [
        f"{type(widget).__name__} in {type(widget.parentWidget()).__name__}"
        for widget in app_window.window.findChildren(QWidget)
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        and not isinstance(widget.parentWidget(), own)
        and not isinstance(widget.window(), QMenu)
        and not isinstance(widget, QListView | QMenu)
        and not (widget.accessibleName() or (isinstance(widget, QAbstractButton) and widget.text()))
    ]
    assert nameless == []
