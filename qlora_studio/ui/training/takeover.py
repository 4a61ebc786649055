"""What a preset or an old run would change, before it is taken; and what it changed, to be undone."""

from collections.abc import Sequence

from PySide6.QtCore import Signal

from qlora_studio.core.words import say, say_count
from qlora_studio.ui.kit.tables import FactGrid
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Card
from qlora_studio.ui.readiness.changes import Change

_MOST = 12  # lines; the others are in the form


class TakeoverCard(Card):
    """A list of settings, `before → after`, with the two things that can be done.

    Signals:
        taken: change them.
        undone: change them back.
        closed: leave everything as it is.
    """

    taken = Signal()
    undone = Signal()
    closed = Signal()

    def __init__(self) -> None:
        super().__init__(" ")
        self._note, self.grid, self._more = Label("", "caption", wrap=True), FactGrid(), Label("", "caption", wrap=True)
        self.take, self.undo, self.close_button = (
            Button(say("Change them")),
            Button(say("Undo")),
            Button(say("Leave as it is"), "quiet"),
        )
        self.title_label.setWordWrap(True)  # a file's name may be long
        self.header.setStretch(0, 1)
        self.header.setStretch(1, 0)
        self.add_header(self.close_button, self.undo, self.take)
        self.add(self._note, self.grid, self._more)
        self.take.clicked.connect(self.taken)
        self.undo.clicked.connect(self.undone)
        self.close_button.clicked.connect(self.closed)
        self.hide()

    def show_offer(self, title: str, changes: Sequence[Change], note: str = "") -> None:
        """Show what would be changed; `note` says what is offered."""
        words = (
            say("would change {settings}", settings=say_count(len(changes), "{count:,} setting", "{count:,} settings"))
            if changes
            else say("would change nothing")
        )
        self._show(f"{title} {words}", changes, note)
        self.take.setVisible(bool(changes))
        self.undo.hide()
        self.close_button.setText(say("Leave as it is") if changes else say("Close"))

    def show_taken(self, title: str, changes: Sequence[Change]) -> None:
        """Show what was changed."""
        self._show(
            say(
                "{title} changed {settings}",
                title=title,
                settings=say_count(len(changes), "{count:,} setting", "{count:,} settings"),
            ),
            changes,
        )
        self.undo.show()
        if self.take.hasFocus():
            self.undo.setFocus()  # else it goes on to a setting of the form
        self.take.hide()
        self.close_button.setText(say("Close"))

    def answer(self) -> Button:
        """Return the button that one would press."""
        return self.close_button if self.take.isHidden() else self.take

    def _show(self, title: str, changes: Sequence[Change], note: str = "") -> None:
        self._note.setText(note)
        self._note.setVisible(bool(note))
        self.title_label.setText(title)
        self.setAccessibleName(title)
        self.grid.show_facts([(change.title, change.words) for change in changes[:_MOST]])
        left = [change.title for change in changes[_MOST:]]
        self._more.setText(say("And: {left}.", left=", ".join(left)) if left else "")
        self._more.setVisible(bool(left))
        self.show()
