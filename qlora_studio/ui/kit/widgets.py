"""The window's building blocks: buttons, cards, stat tiles, chips, rules, and notices that say what to do."""

from collections.abc import Iterator
from typing import TypeVar

from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QAccessibleEvent, QFont, QGuiApplication, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from qlora_studio.core.words import say
from qlora_studio.ui.kit.fonts import BASE_PIXELS, text_font, wear_text
from qlora_studio.ui.kit.letters import LetterButton
from qlora_studio.ui.kit.text import ElidedLabel, Label, NumberLabel, set_style_property, set_tooltip

GAP = 8
_LIGHT, _SMALL = ("quiet", "pill"), ("small", "quiet", "pill")  # kinds of buttons
L = TypeVar("L", bound=QBoxLayout)


class Button(LetterButton):
    """A button. `kind` is plain, primary, danger, small, quiet (a word that acts), or pill (a filter that stays on)."""

    def __init__(self, text: str, kind: str = "plain", *, tip: str = "", checkable: bool = False) -> None:
        super().__init__(text)
        self.setProperty("kind", kind)
        self._wear(kind)
        self.setCheckable(checkable)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.setAutoDefault(False)
        self.pressed.connect(self._on_pressed)  # before all else that pressing it does
        set_tooltip(self, tip)

    def set_kind(self, kind: str) -> None:
        """Be a button of another kind."""
        if self.testAttribute(Qt.WidgetAttribute.WA_WState_Polished):
            set_style_property(self, "kind", kind)
        else:
            self.setProperty("kind", kind)
        self._wear(kind)

    def _on_pressed(self) -> None:
        """Have the field that is being edited tell what stands there: keys that press a button leave it the focus."""
        field = QApplication.focusWidget()
        if isinstance(field, QLineEdit | QPlainTextEdit | QAbstractSpinBox):
            field.clearFocus()
            field.setFocus(Qt.FocusReason.OtherFocusReason)

    def _wear(self, kind: str) -> None:
        weight = QFont.Weight.Normal if kind in _LIGHT else QFont.Weight.Medium
        wear_text(self, text_font(weight), 12 if kind in _SMALL else BASE_PIXELS)


class PrimaryButton(Button):
    """The one button of a page that goes on with the work."""

    def __init__(self, text: str, *, tip: str = "") -> None:
        super().__init__(text, "primary", tip=tip)


class Card(QFrame):
    """A panel with a title row (`header`) above its content (`body`)."""

    def __init__(self, title: str = "") -> None:
        super().__init__()
        self.setProperty("card", "true")
        outer = column(self, margins=(15, 12, 15, 14), spacing=GAP)
        self.header = QHBoxLayout()
        self.header.setSpacing(GAP)
        self.title_label = Label(title, "title")
        self.header.addWidget(self.title_label)
        self.header.addStretch(1)
        self.body = QVBoxLayout()
        self.body.setSpacing(GAP)
        outer.addLayout(self.header)
        self.title_label.setVisible(bool(title))  # not before it has a parent: it would be a window for a moment
        outer.addLayout(self.body, 1)

    def add_header(self, *widgets: QWidget) -> None:
        """Put widgets at the right end of the title row."""
        for widget in widgets:
            self.header.addWidget(widget)

    def add(self, *widgets: QWidget) -> None:
        """Put widgets below each other into the content."""
        for widget in widgets:
            self.body.addWidget(widget)


class EmptyCard(Card):
    """What a page shows while there is nothing on it: why, and the button that leads on."""

    def __init__(self, title: str, text: str, button: Button) -> None:
        super().__init__(title)
        self.add(Label(text, "muted", wrap=True), button)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)


class StatTile(QFrame):
    """A small card: what, how much, and a word about it."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.setProperty("card", "true")
        self._box: QBoxLayout = column(self, margins=(12, 11, 8, 11), spacing=3)
        self._title = ElidedLabel(title, "caption")
        self._value = NumberLabel("–")
        self._note = _Note()
        for part in (self._title, self._value, self._note):
            self._box.addWidget(part)
        self._box.addStretch(1)  # so that the figures of tiles beside each other line up, however long their words are
        self.show_value("–")

    def set_brief(self, brief: bool) -> None:
        """Be low: the value beside the title, without the word about it."""
        directions, sizes = QBoxLayout.Direction, QSizePolicy.Policy
        self._box.setDirection(directions.LeftToRight if brief else directions.TopToBottom)
        self._box.setContentsMargins(12, *((7, 12, 7) if brief else (11, 8, 11)))
        self._box.setStretch(0, 1 if brief else 0)
        self._box.setStretch(3, 0 if brief else 1)
        self._value.setSizePolicy(sizes.Maximum if brief else sizes.Ignored, sizes.Preferred)
        self._note.setVisible(not brief)

    def show_tile(self, title: str, value: str, note: str = "") -> None:
        """Show another title, value and note."""
        self._title.setText(title)
        self.show_value(value, note)

    def show_value(self, value: str, note: str = "", tone: str = "") -> None:
        """Show a value and the note below it."""
        self._value.setText(value)
        self._value.set_tone(tone)
        self._note.setText(note or " ")
        self.setAccessibleName(f"{self._title.whole_text()}: {value} {note}".strip())


class _Note(Label):
    """A word below a figure, over several lines where it is long. It stays as high as it was, so that nothing jumps."""

    def __init__(self) -> None:
        super().__init__(" ", "caption", wrap=True)
        self._heights: dict[int, int] = {}  # by width, the most that it needed
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setMinimumWidth(24)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)

    def heightForWidth(self, width: int) -> int:
        """Return the height of the longest word that stood here at this width."""
        needed = max(super().heightForWidth(width), self._heights.get(width, 0))
        self._heights[width] = needed
        return needed

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Forget other widths."""
        super().resizeEvent(event)
        self._heights = {width: most for width, most in self._heights.items() if width == event.size().width()}


class Chip(Label):
    """A word in a rounded frame. Tones: ok, warn, bad, accent, plain."""

    def __init__(self, text: str = "", tone: str = "plain") -> None:
        super().__init__(text, "chip")
        self.setProperty("chip", tone)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def show_word(self, text: str, tone: str = "plain") -> None:
        """Show another word in another tone."""
        self.setText(text)
        set_style_property(self, "chip", tone)


class Notice(QFrame):
    """A message in the page: what happened, what to do, and `Details` folded away. Tones: info, warn, bad."""

    def __init__(self, tone: str = "info") -> None:
        super().__init__()
        self.setProperty("notice", tone)
        self.message = Label("", "strong", wrap=True, selectable=True)
        self.advice = Label("", wrap=True, selectable=True)
        self.detail = Label("", "caption", wrap=True, selectable=True)
        self.fold = Button(say("Details"), "quiet", checkable=True)
        self._copy = Button(say("Copy"), "quiet", tip=say("Copy message and details"))
        self._actions = QHBoxLayout()
        box = column(self, margins=(15, 11, 15, 11), spacing=4)
        for part in (self.message, self.advice, self.detail):
            box.addWidget(part)
        box.addLayout(self._actions)
        self._actions.setSpacing(GAP)
        self._actions.addWidget(self.fold)
        self._actions.addWidget(self._copy)
        self._actions.addStretch(1)
        self.fold.toggled.connect(self.detail.setVisible)
        self._copy.clicked.connect(self._on_copy_clicked)
        self.show_message("")

    def show_message(self, message: str, advice: str = "", detail: str = "", tone: str | None = None) -> None:
        """Show a message; an empty one hides the notice."""
        if tone is not None:
            set_style_property(self, "notice", tone)
        self.message.setText(message)
        self.advice.setText(advice)
        self.advice.setVisible(bool(advice))
        self.detail.setText(detail)
        self.fold.setChecked(False)
        self.detail.hide()
        for part in (self.fold, self._copy):
            part.setVisible(bool(detail))
        is_new = bool(message) and message != self.accessibleName()
        self.setAccessibleName(message)
        self.setVisible(bool(message))
        if is_new:
            QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.Alert))

    def add_action(self, button: QPushButton) -> None:
        """Put a button before Details."""
        self._actions.insertWidget(0, button)

    def _on_copy_clicked(self) -> None:
        parts = (self.message.text(), self.advice.text(), self.detail.text())
        QGuiApplication.clipboard().setText("\n".join(part for part in parts if part))


class ErrorNotice(Notice):
    """A notice of something that went wrong."""

    def __init__(self) -> None:
        super().__init__("bad")

    def show_error(self, error: Exception) -> None:
        """Show a StudioError with its advice and details, or any other error by its words."""
        message = str(getattr(error, "message", "") or error or type(error).__name__)
        self.show_message(message, str(getattr(error, "advice", "")), str(getattr(error, "detail", "")), "bad")

    def clear(self) -> None:
        """Hide the notice."""
        self.show_message("")


class Rule(QFrame):
    """A thin line across."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("rule", "true")
        self.setFixedHeight(1)


def begun(steps: Iterator[None], *, at_once: bool) -> Iterator[None]:
    """Return the steps that make a widget; `at_once` takes all of them here, else whoever has it made takes them."""
    if at_once:
        for _ in steps:
            pass
    return steps


def column(
    parent: QWidget | None = None, *, margins: tuple[int, int, int, int] = (0, 0, 0, 0), spacing: int = GAP
) -> QVBoxLayout:
    """Return a vertical layout, installed in `parent`."""
    return _prepared(QVBoxLayout(parent) if parent else QVBoxLayout(), margins, spacing)


def row(
    parent: QWidget | None = None, *, margins: tuple[int, int, int, int] = (0, 0, 0, 0), spacing: int = GAP
) -> QHBoxLayout:
    """Return a horizontal layout, installed in `parent`."""
    return _prepared(QHBoxLayout(parent) if parent else QHBoxLayout(), margins, spacing)


def _prepared(layout: L, margins: tuple[int, int, int, int], spacing: int) -> L:
    layout.setContentsMargins(*margins)
    layout.setSpacing(spacing)
    return layout
