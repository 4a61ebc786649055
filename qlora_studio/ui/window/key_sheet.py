"""F1: the keys of the window on one sheet."""

import re
from collections.abc import Iterable

from PySide6.QtWidgets import QGridLayout, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button
from qlora_studio.ui.window.entries import Entry
from qlora_studio.ui.window.overlay import Overlay

_WIDTH = 600
_PAGE = re.compile(r"Ctrl\+\d")
EVERYWHERE = (
    (say("Next field, the one before"), say("Tab, Shift+Tab")),
    (say("Press a button, tick a box"), say("Space")),
    (say("Press a button by the letter that is underlined in it"), say("Alt+letter")),
    (say("In a plot: read, zoom, show all"), say("Left, Right, +, -, 0")),
    (say("In a plot: choose a curve, hide it, see the numbers"), say("Up, Down, Space, Enter")),
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
        pages = [note for _, note in lines if _PAGE.fullmatch(note)]
        lines = [line for line in lines if line[1] not in pages]
        if pages:
            keys = say("{first} to {last}", first=pages[0], last=pages[-1])
            lines.append((say("Go to a page of the rail, from above"), keys))
        for row, (what, keys) in enumerate((*lines, *EVERYWHERE)):
            self._grid.addWidget(Label(what, wrap=True), row, 0)
            self._grid.addWidget(Label(keys, "muted"), row, 1)
        self.open(self._close)
