"""Ctrl+K: every action and setting by a few letters of its name, below the name of the place where it is."""

from collections.abc import Callable, Iterable

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, Qt, QTimer
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QLineEdit, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.tables import ROW_HEIGHT, Column, Table, TableModel
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import column
from qlora_studio.ui.window.entries import Entry, grouped, matching, without_twins
from qlora_studio.ui.window.overlay import Overlay

_WIDTH, _ROWS = 640, 12
_MOVES = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
_COLUMNS = (  # a row is an entry, or the name of the place of those below it
    Column(
        say("what"),
        lambda row: row.title if isinstance(row, Entry) else row,
        stretch=True,
        tone=lambda row: "" if isinstance(row, Entry) else "muted",
    ),
    Column(
        say("keys"),
        lambda row: row.note if isinstance(row, Entry) else "",
        right=True,
        share=0.34,
        tone=lambda _row: "muted",
    ),
)


class Palette(Overlay):
    """Asks `source` for what there is each time it opens, so that nothing in it is stale."""

    def __init__(self, window: QWidget, source: Callable[[], Iterable[Entry]]) -> None:
        super().__init__(window, say("Actions and settings"), width=_WIDTH)
        self._source = source
        self._entries: tuple[Entry, ...] = ()
        self.field = _Field(self)
        self.model = _Rows(_COLUMNS)
        self.table = Table(self.model, name=say("Actions and settings found"))
        self._nothing = Label("", "muted")
        self._build()

    def open_anew(self) -> None:
        """Come up with everything there is, and nothing asked yet."""
        self._entries = without_twins(self._source())
        self.field.clear()
        self._show_found("")
        self.open(self.field)

    def choose(self) -> None:
        """Do what is selected, once the palette is gone."""
        self._choose(self.table.currentIndex())

    def _choose(self, index: QModelIndex) -> None:
        entry = self.model.row(index.row()) if index.isValid() else None
        if isinstance(entry, Entry):
            self.close_again()
            QTimer.singleShot(0, self, entry.run)

    def move_in_list(self, event: QKeyEvent) -> None:
        """Let the keys that move in a list move in the list."""
        self.table.keyPressEvent(event)

    def _build(self) -> None:
        self.field.setPlaceholderText(say("Search actions and settings"))
        self.field.setAccessibleName(say("Search actions and settings"))
        self.table.horizontalHeader().hide()
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the field keeps it
        self.table.setSelectionMode(Table.SelectionMode.SingleSelection)
        self.table.setFixedHeight(_ROWS * ROW_HEIGHT + 2)
        self.card.add(self.field, self.table)
        column(self.table.viewport(), margins=(12, 12, 12, 12)).addWidget(
            self._nothing, 0, Qt.AlignmentFlag.AlignTop
        )  # where the list would be, so that nothing jumps
        self.field.textChanged.connect(self._show_found)
        self.field.returnPressed.connect(self.choose)
        self.table.clicked.connect(self._choose)

    def _show_found(self, query: str) -> None:
        found = matching(self._entries, query)
        self.model.set_rows(())
        self.model.set_rows([row for where, entries in grouped(found) for row in (where, *entries)])
        self._nothing.setText("" if found else say("Nothing has a name like this."))
        self.table.setCurrentIndex(self.model.index(1, 0) if found else QModelIndex())
        self.table.scrollToTop()
        if found:
            self.field.setAccessibleDescription(
                say("{title}, {where}, first of {found}", title=found[0].title, where=found[0].where, found=len(found))
            )


class _Rows(TableModel):
    """Entries below the names of their places, which cannot be chosen: keys pass over them."""

    def flags(self, index: QModelIndex | QPersistentModelIndex) -> Qt.ItemFlag:
        return super().flags(index) if isinstance(self.row(index.row()), Entry) else Qt.ItemFlag.NoItemFlags


class _Field(QLineEdit):
    """Hands keys that move up and down to the list."""

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in _MOVES:
            self._palette.move_in_list(event)
        elif event.key() == Qt.Key.Key_Escape:
            self._palette.close_again()
        else:
            super().keyPressEvent(event)
