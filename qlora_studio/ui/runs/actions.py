"""What can be done with the runs that are selected, as actions: in the menu of the right button and under More."""

from collections.abc import Sequence

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMenu, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.runs.view import ALWAYS, COLUMNS
from qlora_studio.ui.state.run_line import RunLine

_NEWEST_FIRST = say("As they were made, the newest first")


class RunActions(QObject):
    """The actions, each allowed where it makes sense. Keys count while `owner` has the focus, or something in it."""

    def __init__(self, owner: QWidget) -> None:
        super().__init__(owner)
        self._owner = owner
        self.open = self._action(say("Open"))
        self.resume = self._action(say("Resume"))
        self.queue = self._action(say("Add to queue"))
        self.chat = self._action(say("Chat"))
        self.export = self._action(say("Export"))
        self.draft = self._action(say("Use its settings"))
        self.sweep = self._action(say("Run again over values …"))
        self.compare = self._action(say("Compare"))
        self.label = self._action(say("Name, tags and note …"), "F2")
        self.folder = self._action(say("Show folder"))
        self.command = self._action(say("Command line …"))
        self.save_file = self._action(say("Save its run.toml …"))
        self.report = self._action(say("Pack a bug report …"))
        self.delete = self._action(say("Move to the trash …"), "Del")
        self._all = (
            (self.open, self.resume, self.queue, self.chat, self.export, self.draft, self.sweep, self.compare),
            (self.label, self.folder),
            (self.command, self.save_file, self.report),
            (self.delete,),
        )

    def allow(self, lines: Sequence[RunLine]) -> None:
        """Allow what can be done with these runs."""
        one = lines[0] if len(lines) == 1 else None
        readable = one is not None and not one.problem
        for action in (self.open, self.draft, self.command, self.save_file, self.report):
            action.setEnabled(readable)
        self.folder.setEnabled(one is not None)
        self.resume.setEnabled(one is not None and one.resumable)
        self.queue.setEnabled(one is not None and bool(one.resumable or one.queued))
        self.queue.setText(say("Take out of the queue") if one is not None and one.queued else say("Add to queue"))
        for action in (self.chat, self.export):
            action.setEnabled(one is not None and one.has_adapter and not one.objection)
        self.sweep.setEnabled(readable and one is not None and not one.objection)
        self.compare.setEnabled(len(lines) > 1 and not any(line.problem for line in lines))
        self.label.setEnabled(bool(lines))
        self.label.setText(say("Name, tags and note …") if len(lines) < 2 else say("Add tags …"))
        self.delete.setEnabled(bool(lines) and not any(line.busy for line in lines))

    def fill(self, menu: QMenu, *, more: bool = False) -> None:
        """Put the actions into a menu; under More without those that have a button of their own."""
        for group in self._all[1:] if more else self._all:
            menu.addActions(group)
            menu.addSeparator()
        if more:
            menu.insertActions(self.label, (self.queue, self.draft, self.sweep, self.compare))

    def _action(self, words: str, keys: str = "") -> QAction:
        action = QAction(words, self._owner)
        if keys:
            action.setShortcut(QKeySequence(keys))
            action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        self._owner.addAction(action)
        return action


class TableActions(QObject):
    """Which columns are shown, and by which the runs stand in order."""

    def __init__(self, owner: QWidget) -> None:
        super().__init__(owner)
        self.columns = {name: QAction(words, owner, checkable=True) for name, words in COLUMNS.items()}
        self.columns[ALWAYS].setEnabled(False)
        self.order = {name: QAction(words, owner, checkable=True) for name, words in COLUMNS.items()}
        self.order[""] = QAction(_NEWEST_FIRST, owner, checkable=True)
        self.usual = QAction(say("The usual columns"), owner)
        self.descending = QAction(say("Largest or last first"), owner, checkable=True)
        self._orders = QActionGroup(owner)
        for action in self.order.values():
            self._orders.addAction(action)

    def fill(self, menu: QMenu) -> None:
        """Put the columns and the orders into a menu."""
        menu.addSection(say("Columns"))
        menu.addActions([*self.columns.values(), self.usual])
        menu.addSeparator()
        orders = menu.addMenu(say("Order by"))
        orders.addActions([self.order[""], *(self.order[name] for name in COLUMNS)])
        orders.addSeparator()
        orders.addAction(self.descending)

    def show_state(self, shown: set[str], order: str, *, descending: bool) -> None:
        """Check what is so."""
        for name, action in self.columns.items():
            action.setChecked(name in shown)
        for name, action in self.order.items():
            action.setChecked(name == order)
        self.descending.setChecked(descending)
        self.descending.setEnabled(bool(order))
