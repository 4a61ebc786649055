"""The page of a comparison: curves over each other, a table of what differs and what came of it, the answers."""

from collections.abc import Iterator, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeyEvent
from PySide6.QtWidgets import QMenu

from qlora_studio.core.comparison.comparison import compare
from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.words import say
from qlora_studio.ui.comparison.answers import AnswersCard
from qlora_studio.ui.comparison.curves import CurvesCard
from qlora_studio.ui.comparison.table import ComparisonTable
from qlora_studio.ui.comparison.view import heading, short_names, table_lines
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Card
from qlora_studio.ui.window.page import Page


class ComparisonPage(Page):
    """Shows runs side by side, in the order in which they were chosen; the first one is what the others differ from.

    Signals:
        back_requested: go back to the list of runs.
        choice_requested: compare these runs; their folders.
        shown: the page came to the front.
    """

    name = "comparison"
    title = say("Compare")
    entry = "runs"

    back_requested = Signal()
    choice_requested = Signal(tuple)
    shown = Signal()

    def _made(self) -> Iterator[None]:
        self._comparison = compare(())
        self._choice: tuple[str, ...] = ()
        self._offered: tuple[tuple[str, str], ...] = ()
        self.choose_button = Button(say("Runs …"), tip=say("Choose which runs are compared"))
        self.copy_button = Button(say("copy"), "quiet", tip=say("Copy the table as it is shown, for a spreadsheet"))
        self.back_button = Button(say("Back to runs"), tip=say("Esc"))
        for button in (self.choose_button, self.back_button):
            self.add_action(button)
        self.menu = QMenu(self)
        self.choose_button.setMenu(self.menu)
        self.choose_button.setProperty("menu", "true")
        yield
        self.curves = CurvesCard()
        self.body.addWidget(self.curves)
        yield
        self.table = ComparisonTable()
        self.everything = Button(say("also what is the same"), "pill", checkable=True)
        self._caution = Label("", "muted", wrap=True, selectable=True)
        self._card = Card(say("Side by side"))
        self._card.add_header(self.everything, self.copy_button)
        self._card.add(self._caution, self.table)
        self.answers = AnswersCard()
        for part in (self._card, self.answers):
            self.body.addWidget(part)
        self.body.addStretch(1)
        yield
        self._connect()
        self.render_records((), 0)

    def render_choices(self, runs: Sequence[tuple[str, str]], chosen: Sequence[str]) -> None:
        """Offer runs, each by its folder and its words; `chosen` are those that are compared.

        The same ones again leave the menu as it is: it may be open.
        """
        if (tuple(runs), tuple(chosen)) == (self._offered, self._choice):
            return
        self._offered, self._choice = tuple(runs), tuple(chosen)
        self.menu.clear()
        for path, words in runs:
            action = self.menu.addAction(words.replace("&", "&&"))
            action.setCheckable(True)
            action.setChecked(path in chosen)
            action.triggered.connect(lambda on, path=path: self._on_run_toggled(path, on))

    def render_records(self, records: Sequence[RunRecord], waiting: int) -> None:
        """Show runs; so many more are still being read."""
        comparison = self._comparison = compare(records)
        self.set_heading(*heading(comparison, waiting))
        names = short_names(comparison.names)
        self.curves.show_records(names, records)
        self._render_table()
        self._caution.setText(comparison.caution)
        self._caution.setVisible(bool(comparison.caution))
        self.answers.show_answers(names, comparison.answers)
        for part in (self.curves, self._card, self.answers):
            part.setVisible(bool(records))

    def on_shown(self) -> None:
        """Tell whoever reads the runs, and have the keys move in the table."""
        self.table.setFocus(Qt.FocusReason.OtherFocusReason)
        self.shown.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go back on Escape."""
        if event.key() == Qt.Key.Key_Escape:
            self.back_requested.emit()
        else:
            super().keyPressEvent(event)

    def _render_table(self) -> None:
        names = self._comparison.names
        lines = table_lines(self._comparison, everything=self.everything.isChecked())
        self.table.show_lines(short_names(names), names, lines)

    def _on_run_toggled(self, path: str, on: bool) -> None:
        kept = tuple(item for item in self._choice if item != path)
        self.choice_requested.emit((*kept, path) if on else kept)

    def _connect(self) -> None:
        self.everything.toggled.connect(lambda _on: self._render_table())
        self.copy_button.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.table.lines.text()))
        self.back_button.clicked.connect(self.back_requested)
