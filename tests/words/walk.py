"""Reads every word that a window shows: of its widgets, their tips and names, menus, tables, and what is painted."""

import html
import re
import sys
from collections.abc import Iterator
from typing import Any

from PySide6.QtCore import QAbstractItemModel, QModelIndex, Qt
from PySide6.QtGui import QAction, QPainter
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QSpinBox,
    QWidget,
)

from qlora_studio.ui.kit.text import ElidedLabel

_ROWS = 40  # of a table


def words_of(window: QWidget) -> Iterator[tuple[str, str]]:
    """Return each text of a window, with where it stands."""
    for widget in (window, *window.findChildren(QWidget)):
        where = f"{type(widget).__name__} {widget.accessibleName()}".strip()
        for text in _texts(widget):
            if text.strip():
                yield where, _plain(text)
        for action in widget.actions():
            yield from ((f"{where}'s action", _plain(text)) for text in _of_action(action) if text)


def note_painted(seen: set[tuple[str, str]]) -> None:
    """Put all that Python paints from now on among what was seen."""
    paint = QPainter.drawText

    def note(painter: QPainter, *arguments: Any) -> Any:
        if not sys._getframe(1).f_code.co_filename.endswith("token_view.py"):  # a row's own tokens
            seen.update(("painted", argument) for argument in arguments if isinstance(argument, str))
        return paint(painter, *arguments)

    QPainter.drawText = note  # type: ignore[method-assign,assignment]


def _texts(widget: QWidget) -> Iterator[str]:
    yield from (widget.toolTip(), widget.accessibleName(), widget.accessibleDescription())
    if widget.isWindow():
        yield widget.windowTitle()
    match widget:
        case ElidedLabel():
            yield widget.whole_text()
        case QLabel() | QAbstractButton():
            yield widget.text()
        case QLineEdit() if isinstance(widget.parent(), QAbstractSpinBox | QComboBox):
            pass
        case QLineEdit() | QPlainTextEdit():
            yield widget.placeholderText()
        case QSpinBox() | QDoubleSpinBox():
            yield from (widget.prefix(), widget.suffix(), widget.specialValueText())
        case QComboBox():
            yield from (widget.itemText(index) for index in range(widget.count()))
        case QMenu():
            yield widget.title()
        case QAbstractItemView():
            yield from _of_model(widget.model())


def _of_model(model: QAbstractItemModel | None) -> Iterator[str]:
    if model is None:
        return
    for column in range(model.columnCount(QModelIndex())):
        yield str(model.headerData(column, Qt.Orientation.Horizontal) or "")
        for row in range(min(_ROWS, model.rowCount(QModelIndex()))):
            index = model.index(row, column)
            yield str(model.data(index, Qt.ItemDataRole.DisplayRole) or "")
            yield str(model.data(index, Qt.ItemDataRole.ToolTipRole) or "")


def _of_action(action: QAction) -> Iterator[str]:
    own_tip = action.text().replace("&", "").rstrip("…. ")
    yield action.text()
    if action.toolTip().rstrip("…. ") != own_tip:
        yield action.toolTip()


def _plain(text: str) -> str:
    """Return a text without the marks of rich text and of mnemonics."""
    whole = html.unescape(re.sub(r"<[^>]*>", "", text)) if text.startswith("<") else text
    return whole.replace("&", "")
