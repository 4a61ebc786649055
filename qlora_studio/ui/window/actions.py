"""The window's own actions with their keys. They are the window's QActions and stand in no other list: the palette and
the sheet of keys show what is there.
"""

from collections.abc import Callable, Iterable, Iterator

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QAbstractButton, QFileDialog, QPushButton

from qlora_studio.core.words import say
from qlora_studio.ui.kit.fields import PathField
from qlora_studio.ui.state.draft import DraftStore
from qlora_studio.ui.state.draft_history import DraftHistory
from qlora_studio.ui.window.entries import Entry
from qlora_studio.ui.window.key_sheet import KeySheet
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.palette import Palette
from qlora_studio.ui.window.reachable import PLACE, action_entries, page_entries
from qlora_studio.ui.window.toast import Toast

_PALETTE = say("Search actions and settings")


class WindowActions(QObject):
    """Adds the actions to the window. `settings` gives what of the run config can be gone to."""

    def __init__(self, window: MainWindow, draft: DraftStore, settings: Callable[[], Iterable[Entry]]) -> None:
        super().__init__(window)
        self._window, self._settings = window, settings
        self._history = DraftHistory(draft)
        self.toast, self.key_sheet = Toast(window), KeySheet(window)
        self.palette = Palette(window, self._entries)
        self._add(_PALETTE, "Ctrl+K", self.palette.open_anew)
        self._add(say("Keys of the window"), "F1", self._show_keys)
        self._add(say("Filter what the page lists"), "Ctrl+F", self._find)
        self._add(say("Open a file or folder"), "Ctrl+O", self._browse)
        self._add(say("Press the page's main button"), "Ctrl+Return", self._go_on)
        self._add(say("Undo a change of settings"), "Ctrl+Z", self._undo)
        self._add(say("Do it again"), "Ctrl+Shift+Z", self._redo)
        self._add(say("Hide or show the card's panel"), "F9", window.toggle_panel)
        self._add(say("Close QLoRA Studio"), "Ctrl+Q", window.close)
        for name in window.rail.names():
            button = window.rail.button(name)
            going = self._add(say("Go to {text}", text=button.text()), "", button.click)
            going.setProperty("keys", button.keys)  # which the rail listens to
            going.setProperty(PLACE, say("Pages"))

    def _add(self, text: str, keys: str, run: Callable[[], object]) -> QAction:
        action = QAction(text, self._window)
        action.setShortcut(QKeySequence(keys))
        action.triggered.connect(lambda _checked=False: run())
        self._window.addAction(action)
        return action

    def _entries(self) -> Iterator[Entry]:
        """Everything, the window's actions first, then what the open page can do."""
        yield from (entry for entry in action_entries(self._window) if entry.title != _PALETTE)
        yield from self._settings()
        yield from page_entries(self._window)

    def _show_keys(self) -> None:
        self.key_sheet.show_keys(action_entries(self._window))

    def _find(self) -> None:
        """Go to the page's filter; a page that lists nothing is searched by the palette."""
        field = self._window.current_page().search_field()
        if field is None:
            self.palette.open_anew()
        else:
            self._window.current_page().focus_on(field)
            field.selectAll()

    def _browse(self) -> None:
        """Ask for what the page's own field asks for; elsewhere, for anything that can be dropped on the window."""
        page = self._window.current_page()
        fields = (field for field in page.findChildren(PathField) if field.isVisibleTo(page) and field.isEnabled())
        field = next(fields, None)
        if field is not None:
            field.button.click()
            return
        chosen, _ = QFileDialog.getOpenFileName(self._window, say("Open a dataset, a model or a run.toml"))
        if chosen:
            self._window.drops.arrived.emit([chosen])

    def _go_on(self) -> None:
        button = next(iter(self._main_buttons()), None)
        if button is not None:
            button.click()

    def _main_buttons(self) -> list[QAbstractButton]:
        page = self._window.current_page()
        buttons = page.findChildren(QPushButton)
        return [b for b in buttons if b.property("kind") == "primary" and b.isVisibleTo(page) and b.isEnabled()]

    def _undo(self) -> None:
        words = self._history.undo()
        self.toast.tell(say("Undone: {words}", words=words) if words else say("There is nothing to undo."))

    def _redo(self) -> None:
        words = self._history.redo()
        self.toast.tell(say("Done again: {words}", words=words) if words else say("There is nothing to do again."))
