"""F1: the keys of the window on one sheet."""

from collections.abc import Iterable

from PySide6.QtWidgets import QGridLayout, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button
from qlora_studio.ui.window.entries import Entry
from qlora_studio.ui.window.overlay import Overlay

_WIDTH = 520
EVERYWHERE = (
    (say("Next field, the one before"), say("Tab, Shift+Tab")),
    (say("Press a button, tick a box"), say("Space")),
    (say("Change a number or a choice"), say("Up, Down")),
    (say("Copy the rows of a table"), "Ctrl+C"),
    (say("Leave this sheet, a menu, a question"), "Esc"),
)


class KeySheet(Overlay):
    """Lists actions with their keys, and the keys that work everywhere."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window, say("Keys"), width=_WIDTH)
        self.card.title_label.setText(say("Keys"))
        self.card.title_label.show()
        self._close = Button(say("Close"), "quiet")
        self._close.clicked.connect(self.close_again)
        self.card.add_header(self._close)
        self._grid = QGridLayout()
        self._grid.setColumnStretch(0, 1)
        self._grid.setVerticalSpacing(6)
        self.card.body.addLayout(self._grid)

    def show_keys(self, entries: Iterable[Entry]) -> None:
        """Come up with these actions."""
        while (item := self._grid.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.deleteLater()
        lines = [(entry.title, entry.note) for entry in entries if entry.note]
        for row, (what, keys) in enumerate((*lines, *EVERYWHERE)):
            self._grid.addWidget(Label(what), row, 0)
            self._grid.addWidget(Label(keys, "muted"), row, 1)
        self.open(self._close)
