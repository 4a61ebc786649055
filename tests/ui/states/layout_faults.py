"""What is wrong with how the open page is laid out, found without eyes: cut figures, squeezed buttons, lost lines."""

from collections.abc import Iterator

from PySide6.QtCore import QPoint, QRect
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QLabel,
    QPushButton,
    QScrollArea,
    QStyle,
    QStyleOptionComboBox,
    QWidget,
)

from qlora_studio.ui.kit.letters import plain
from qlora_studio.ui.kit.text import ElidedLabel, FactsLabel, NumberLabel
from qlora_studio.ui.window.main_window import MainWindow

_SLACK = 2  # pixels


def layout_faults(window: MainWindow) -> Iterator[str]:
    """Return a sentence for each."""
    for part in (window.current_page(), window.gpu_panel, window.rail, window.status_line):
        if part.isVisible():
            yield from faults_of(part)
    yield from _sideways(window.current_page())


def faults_of(part: QWidget) -> Iterator[str]:
    """Return a sentence for each fault in a part of the window."""
    for widget in part.findChildren(QWidget):
        if not widget.isVisible() or not widget.width() or not widget.height():
            continue
        if isinstance(widget, ElidedLabel):
            whole = not isinstance(widget, FactsLabel)  # of facts the last may be left out, and none is cut
            is_cut = widget.text() != widget.whole_text() if whole else widget.text().endswith("…")
            if is_cut and any(letter.isdigit() for letter in widget.whole_text()):
                yield f"a figure is cut: {widget.text()!r} of {widget.whole_text()!r}"
        elif isinstance(widget, NumberLabel):
            if widget.fontMetrics().horizontalAdvance(widget.text()) > widget.width() + _SLACK:
                yield f"a figure is painted smaller: {widget.text()!r}"
        elif isinstance(widget, QLabel):
            yield from _label_faults(widget)
        elif isinstance(widget, QComboBox):
            if widget.fontMetrics().horizontalAdvance(widget.currentText()) > _room_of(widget) + _SLACK:
                yield f"a choice is cut: {widget.currentText()!r}"
        elif isinstance(widget, QPushButton) and widget.width() < widget.sizeHint().width() - _SLACK:
            yield f"a button is squeezed: {plain(widget.text())!r}"
    yield from _overlaps(part)


def _room_of(combo: QComboBox) -> int:
    """Return the width that a choice's words have beside the arrow."""
    option = QStyleOptionComboBox()
    combo.initStyleOption(option)
    words = QStyle.SubControl.SC_ComboBoxEditField
    return combo.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, words, combo).width()


def _label_faults(label: QLabel) -> Iterator[str]:
    if not label.text():
        return
    needed = label.heightForWidth(label.width()) if label.wordWrap() else label.sizeHint().height()
    if needed > label.height() + _SLACK:
        yield f"lines are lost: {label.text()[:60]!r}"
    if not label.wordWrap() and label.sizeHint().width() > label.width() + _SLACK:
        yield f"words are cut off: {label.text()[:60]!r}"


def _overlaps(part: QWidget) -> Iterator[str]:
    """Labels and buttons that lie over each other."""
    shown = [
        (widget, QRect(widget.mapTo(part, QPoint()), widget.size()).adjusted(_SLACK, _SLACK, -_SLACK, -_SLACK))
        for widget in part.findChildren(QWidget)
        if isinstance(widget, QLabel | QAbstractButton) and widget.isVisible() and not widget.visibleRegion().isEmpty()
    ]
    for index, (one, place) in enumerate(shown):
        for other, its_place in shown[index + 1 :]:
            if one.isAncestorOf(other) or other.isAncestorOf(one) or not place.intersects(its_place):
                continue
            if _window_of(one) is _window_of(other):
                yield f"{_words(one)!r} lies over {_words(other)!r}"


def _window_of(widget: QWidget) -> QWidget | None:
    """The scrolled content that something is part of."""
    while widget is not None and not isinstance(widget.parentWidget(), QScrollArea):
        parent = widget.parentWidget()
        if parent is None:
            return None
        widget = parent
    return widget


def _words(widget: QWidget) -> str:
    text = widget.text() if isinstance(widget, QLabel | QAbstractButton) else ""
    return (text or widget.accessibleName())[:40]


def _sideways(page: QWidget) -> Iterator[str]:
    for area in page.findChildren(QScrollArea):
        if area.isVisible() and area.horizontalScrollBar().maximum() > 0:
            yield f"{area.accessibleName() or 'the page'} scrolls sideways by {area.horizontalScrollBar().maximum()}"
