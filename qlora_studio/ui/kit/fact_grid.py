"""Facts in two columns: what, and its value, lined up."""

from collections.abc import Sequence

from PySide6.QtWidgets import QGridLayout, QWidget

from qlora_studio.ui.kit.plain_text import Label


class FactGrid(QWidget):
    """Shows pairs of a word and a value. All texts are plain."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(18)
        self._grid.setVerticalSpacing(7)
        self._grid.setColumnStretch(1, 1)
        self._facts: tuple[tuple[str, str], ...] = ()
        self._labels: list[tuple[Label, Label]] = []

    def show_facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show these pairs; a pair without a value is left out."""
        self._facts = tuple((word, value) for word, value in facts if value)
        while len(self._labels) < len(self._facts):
            self._add_line()
        for index, (word, value) in enumerate(self._labels):
            known = index < len(self._facts)
            word.setVisible(known)
            value.setVisible(known)
            if known:
                word.setText(self._facts[index][0])
                value.setText(self._facts[index][1])

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return what is shown."""
        return self._facts

    def _add_line(self) -> None:
        word, value = Label("", "muted"), Label("", wrap=True, selectable=True)
        line = len(self._labels)
        self._grid.addWidget(word, line, 0)
        self._grid.addWidget(value, line, 1)
        self._labels.append((word, value))
