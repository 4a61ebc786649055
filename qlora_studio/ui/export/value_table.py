"""A small table to be read: a name on the left, numbers that line up on the right, a word behind a row."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from qlora_studio.ui.export.value_row import ValueRow
from qlora_studio.ui.kit.plain_text import Label

_NAME_WIDTH, _VALUE_WIDTH = 210, 62  # so that tables below each other line up


class ValueTable(QWidget):
    """Shows rows of numbers below their titles."""

    def __init__(self, name: str, titles: Sequence[str]) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(22)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(len(titles) + 1, 1)
        self._grid.setColumnMinimumWidth(0, _NAME_WIDTH)
        for number in range(len(titles)):
            self._grid.setColumnMinimumWidth(number + 1, _VALUE_WIDTH)
        self._rows: tuple[ValueRow, ...] = ()
        self._labels: list[list[Label]] = []
        self._width = len(titles)
        for number, title in enumerate(titles):
            self._grid.addWidget(_number(title, "caption"), 0, number + 1)

    def show_rows(self, rows: Sequence[ValueRow]) -> None:
        """Show these rows."""
        self._rows = tuple(rows)
        while len(self._labels) < len(self._rows):
            self._add_line()
        for index, labels in enumerate(self._labels):
            known = index < len(self._rows)
            row = self._rows[index] if known else ValueRow("", ())
            texts = (row.name, *row.values, *("",) * (self._width - len(row.values)), row.note)
            for label, text in zip(labels, texts, strict=True):
                label.setText(text)
                label.setVisible(known)

    def rows(self) -> tuple[ValueRow, ...]:
        """Return what is shown."""
        return self._rows

    def _add_line(self) -> None:
        note = Label("", "caption")
        note.set_tone("accent")
        labels = [Label("", "muted"), *(_number("", "body") for _ in range(self._width)), note]
        for column, label in enumerate(labels):
            self._grid.addWidget(label, len(self._labels) + 1, column)
        self._labels.append(labels)


def _number(text: str, role: str) -> Label:
    label = Label(text, role, selectable=role == "body")
    label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return label
