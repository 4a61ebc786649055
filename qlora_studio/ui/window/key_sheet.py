"""F1: the keys of the window on one sheet."""

import re
from collections.abc import Iterable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.layouts import SideBySide, dismiss
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button
from qlora_studio.ui.window.entries import Entry
from qlora_studio.ui.window.overlay import Overlay

_WIDTH = 800
_ABREAST = 560  # pixels, from which on the two columns stand beside each other
_PAGE = re.compile(r"Ctrl\+\d")
Keys = tuple[str, str]  # what they do, and which they are
_EVERYWHERE: dict[str, tuple[Keys, ...]] = {
    say("Fields and buttons"): (
        (say("Next field, the one before"), say("Tab, Shift+Tab")),
        (say("Press a button, tick a box"), say("Space")),
        (say("Press a button by its letter, underlined while Alt is down"), say("Alt+letter")),
        (say("Change a number or a choice"), say("Up, Down")),
        (say("Leave this sheet, a menu, a question"), "Esc"),
    ),
    say("Plots"): (
        (say("Read, zoom, show all"), say("Left, Right, +, -, 0")),
        (say("Choose a curve, hide it, see the numbers"), say("Up, Down, Space, Enter")),
    ),
    say("Tables"): ((say("Copy the rows"), "Ctrl+C"),),
}


class KeySheet(Overlay):
    """Lists actions with their keys, and beside them the keys that work everywhere."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window, say("Keys"), width=_WIDTH)
        self.card.title_label.setText(say("Keys"))
        self.card.title_label.show()
        self._close = Button(say("Close"), "quiet")
        self._close.clicked.connect(self.close_again)
        self.card.add_header(self._close)
        own, everywhere = QWidget(), QWidget()
        self._own, rest = _grid(own), _grid(everywhere)
        for title, keys in _EVERYWHERE.items():
            _add_group(rest, title, keys)
        self.card.add(SideBySide(own, everywhere, breakpoint=_ABREAST, spacing=32))

    def show_keys(self, entries: Iterable[Entry]) -> None:
        """Come up with these actions."""
        while (item := self._own.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                dismiss(old)
        _add_group(self._own, say("Window"), _brief((entry.title, entry.note) for entry in entries if entry.note))
        self.open(self._close)


def _brief(lines: Iterable[Keys]) -> tuple[Keys, ...]:
    """Return the lines with those of the pages as one."""
    known = tuple(lines)
    pages = [keys for _, keys in known if _PAGE.fullmatch(keys)]
    rest = tuple(line for line in known if line[1] not in pages)
    if not pages:
        return rest
    keys = say("{first} to {last}", first=pages[0], last=pages[-1])
    return (*rest, (say("Go to a page of the rail, from above"), keys))


def _grid(place: QWidget) -> QGridLayout:
    grid = QGridLayout(place)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setColumnStretch(0, 1)
    grid.setVerticalSpacing(6)
    grid.setHorizontalSpacing(16)
    grid.setAlignment(Qt.AlignmentFlag.AlignTop)
    return grid


def _add_group(grid: QGridLayout, title: str, lines: Iterable[Keys]) -> None:
    row = grid.rowCount()
    heading = Label(title, "caption")
    heading.setContentsMargins(0, 8 if row > 1 else 0, 0, 0)
    grid.addWidget(heading, row, 0, 1, 2)
    for number, (what, keys) in enumerate(lines, row + 1):
        grid.addWidget(Label(what, wrap=True), number, 0)
        grid.addWidget(Label(keys, "muted"), number, 1, Qt.AlignmentFlag.AlignTop)
