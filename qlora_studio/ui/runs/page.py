"""The page of all runs: what they were, how far they came, and what can be done with them."""

from collections.abc import Iterator, Sequence

from PySide6.QtCore import QPoint, Signal
from PySide6.QtGui import QAction, QResizeEvent
from PySide6.QtWidgets import QLineEdit, QMenu, QSizePolicy

from qlora_studio.core.words import say
from qlora_studio.ui.kit.layouts import FlowRow
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Card, EmptyCard, Notice, PrimaryButton, row
from qlora_studio.ui.runs.actions import RunActions, TableActions
from qlora_studio.ui.runs.run_table import RunTable
from qlora_studio.ui.runs.view import (
    NARROW,
    SPARE,
    below_text,
    heading,
    matching,
    recovery_advice,
    recovery_text,
    shown_columns,
)
from qlora_studio.ui.state.run_line import RunLine
from qlora_studio.ui.window.distrust import DistrustNotice
from qlora_studio.ui.window.page import Page


class RunsPage(Page):
    """Lists runs.

    Signals:
        open_requested: show a run; its folder.
        resume_requested: go on with it.
        queue_requested: put it into the queue, or take it out.
        export_requested: export it.
        chat_requested: talk to it.
        draft_requested: make its settings the draft.
        sweep_requested: run it again over a few values.
        folder_requested: open its folder on the desktop.
        refresh_requested: look again.
        training_requested: go and start one.
        trust_requested: look at what a run from elsewhere would do, and trust it.
        discard_requested: put a run that broke off away, or leave it as it is.
        compare_requested: lay runs beside each other; their folders, two at least.
        label_requested: change what runs are called, their tags and notes; their folders.
        delete_requested: put runs into the trash; their folders.
        command_requested: show the command line that would start the same run.
        save_requested: save a run's settings as a file.
        import_requested: take a run from elsewhere in: True where it is packed, False where it is a folder.
        taking_requested: take in the run at a path, a folder or a zip.
        taking_stop_requested: do not go on with that.
        report_requested: pack a run for a bug report.
        file_requested: open a `run.toml` as the draft.
        view_changed: other columns are chosen, or another order: the columns, and by which, `-` before where it falls.
    """

    name = "runs"
    title = say("Runs")

    open_requested = Signal(str)
    resume_requested = Signal(str)
    queue_requested = Signal(str)
    export_requested = Signal(str)
    chat_requested = Signal(str)
    draft_requested = Signal(str)
    sweep_requested = Signal(str)
    folder_requested = Signal(str)
    refresh_requested = Signal()
    training_requested = Signal()
    trust_requested = Signal(str)
    discard_requested = Signal(str)
    compare_requested = Signal(list)
    label_requested = Signal(list)
    delete_requested = Signal(list)
    command_requested = Signal(str)
    save_requested = Signal(str)
    import_requested = Signal(bool)
    taking_requested = Signal(str)
    taking_stop_requested = Signal()
    report_requested = Signal(str)
    file_requested = Signal()
    view_changed = Signal(tuple, str)

    def _made(self) -> Iterator[None]:
        self._lines: tuple[RunLine, ...] = ()
        self.open_button = PrimaryButton(say("Open"))
        self.resume_button, self.chat_button, self.export_button, self.compare_button = (
            Button(say("Resume")),
            Button(say("Chat")),
            Button(say("Export")),
            Button(say("Compare"), tip=say("Lay the runs that are selected beside each other")),
        )
        self.more_button = Button(say("More"), tip=say("More to do with the runs that are selected"))
        self.view_button = Button(say("View"), tip=say("Columns, and the order of the runs"))
        self.import_button = Button(say("Import"), tip=say("Take in a run from elsewhere, or open a run.toml"))
        self.add_action(self.import_button)
        self.add_action(self.open_button)
        self.search = QLineEdit()
        self.search.setProperty("searches", True)
        self.search.setPlaceholderText(say("Name, tag, model …"))
        self.search.setAccessibleName(say("Find runs by name, tag, model or note"))
        self.search.setMinimumWidth(96)
        self.search.setMaximumWidth(150)
        self.search.setClearButtonEnabled(True)
        yield
        self.table = RunTable()
        self.model = self.table.rows
        self.actions_of_runs = RunActions(self.table)
        self.view_actions = TableActions(self.table)
        self._columns: tuple[str, ...] = ()
        self._order, self._descending = "", False
        yield
        self.recovery = Notice("warn")
        self.recover = Button(say("Resume it"), "small")
        self.inspect = Button(say("Look at it"), "small", tip=say("Its curves and its last words; nothing is started"))
        self.discard = Button(say("Discard …"), "small", tip=say("Put it away, or leave it as it is"))
        self.distrust = DistrustNotice()
        self.summary = Notice("info")
        self.taking = Notice("info")
        self.stop_taking = Button(say("Stop"), "small", tip=say("Nothing of what was copied stays"))
        self.remark = Label("", "muted", wrap=True)
        self._summary_seen = Button(say("Close"), "small")
        self._broken = ""
        yield
        yield from self._build()
        yield
        self._connect()
        self.render_runs(())

    def render_runs(self, lines: Sequence[RunLine], place: str = "") -> None:
        """Show the runs under a folder."""
        self._lines = tuple(lines)
        self.set_heading(say("Runs"), heading(lines, place))
        self._empty.setVisible(not lines)
        self._card.setVisible(bool(lines))
        self._show_recovery()
        self._show_lines()
        self._show_columns()

    def render_view(self, columns: Sequence[str], order: str) -> None:
        """Show the runs by an order (`-` before it: falling), with these columns; the usual ones without any."""
        self._columns = tuple(columns)
        self._order, self._descending = order.removeprefix("-"), order.startswith("-")
        if self._order not in self.view_actions.order:
            self._order = ""
        self.table.show_order(self._order, descending=self._descending)
        self._show_lines()
        self._show_columns()

    def selected(self) -> RunLine | None:
        """Return the run that is selected, where it is one alone."""
        lines = self.table.selected()
        return lines[0] if len(lines) == 1 else None

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave columns out where the window is narrow: the tooltip of the name tells the rest."""
        super().resizeEvent(event)
        self.compare_button.setVisible(self.width() >= NARROW)  # it is under More, too
        self._show_columns()

    def on_shown(self) -> None:
        """Look again whenever the page comes to the front."""
        self.refresh_requested.emit()

    def _show_lines(self) -> None:
        found = matching(self._lines, self.search.text())
        self.table.show_runs(found)
        if self._lines and not found:
            self.remark.setText(say("No run has this in its name, model, state, tags, note or folder."))
            self.remark.show()

    def _show_columns(self) -> None:
        wanted = shown_columns(self._columns, self._lines, order=self._order, narrow=self.width() < NARROW)
        shown = self.table.show_columns(wanted, () if self._columns else [n for n in SPARE if n != self._order])
        self.view_actions.show_state(shown, self._order, descending=self._descending)

    def render_summary(self, text: str) -> None:
        """Show what became of the queue; an empty text hides it."""
        self.summary.show_message(text)

    def render_taking(self, text: str) -> None:
        """Show how far a run from elsewhere is copied; an empty text hides it."""
        self.taking.show_message(text)

    def _show_recovery(self) -> None:
        broken = [line for line in self._lines if line.broken]
        self._broken = broken[0].path if broken else ""
        text, advice = (recovery_text(broken[0]), recovery_advice(len(broken))) if broken else ("", "")
        self.recovery.show_message(text, advice)
        self.recover.setEnabled(bool(broken) and not broken[0].objection)

    def _on_selection_changed(self) -> None:
        lines, line, allowed = self.table.selected(), self.selected(), self.actions_of_runs
        allowed.allow(lines)
        self.distrust.render_objection(line.objection if line else "")
        self.remark.setText(below_text(lines))
        self.remark.setVisible(bool(self.remark.text()))
        for button, action in self._buttons():
            button.setEnabled(action.isEnabled())

    def _buttons(self) -> tuple[tuple[Button, QAction], ...]:
        allowed = self.actions_of_runs
        return (
            (self.open_button, allowed.open),
            (self.resume_button, allowed.resume),
            (self.chat_button, allowed.chat),
            (self.export_button, allowed.export),
            (self.compare_button, allowed.compare),
        )

    def _build(self) -> Iterator[None]:
        self.go_training = PrimaryButton(say("Go to Training"))
        text = say("Every run is a folder with its settings, events and checkpoints. The first one appears here.")
        self._empty = EmptyCard(say("No runs yet"), text, self.go_training)
        for button in (self.discard, self.inspect, self.recover):
            self.recovery.add_action(button)
        self.summary.add_action(self._summary_seen)
        self.taking.add_action(self.stop_taking)
        for part in (self.recovery, self.distrust, self.taking, self.summary, self._empty):
            self.body.addWidget(part)
        yield
        self._card = Card()
        tools = row(spacing=8)
        of_runs = (self.resume_button, self.chat_button, self.export_button, self.compare_button, self.more_button)
        for button in (*of_runs, self.view_button):
            button.set_kind("small")
        tools.addWidget(FlowRow(*of_runs))
        self.search.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # what the buttons leave
        tools.addWidget(self.search, 1)
        tools.addWidget(self.view_button)
        self._card.body.addLayout(tools)
        yield
        self._fill_menus()
        yield
        self.table.setMinimumHeight(240)
        self._card.body.addWidget(self.table, 1)
        self._card.add(self.remark)
        self.body.addWidget(self._card, 1)
        self.body.addStretch(0)

    def _fill_menus(self) -> None:
        more, self._view_menu = QMenu(self.more_button), QMenu(self.view_button)
        taking = QMenu(self.import_button)
        taking.addAction(say("A run's folder …"), lambda: self.import_requested.emit(False))
        taking.addAction(say("A packed run (zip) …"), lambda: self.import_requested.emit(True))
        taking.addSeparator()
        taking.addAction(say("Open a run.toml …"), self.file_requested.emit)
        self.actions_of_runs.fill(more, more=True)
        self.view_actions.fill(self._view_menu)
        self.run_menu = QMenu(self.table)
        self.actions_of_runs.fill(self.run_menu)
        menus = (self.more_button, more), (self.view_button, self._view_menu), (self.import_button, taking)
        for button, menu in menus:
            button.setMenu(menu)
            button.setProperty("menu", "true")

    def _connect(self) -> None:
        actions = self.actions_of_runs
        for action, signal in (
            (actions.open, self.open_requested),
            (actions.resume, self.resume_requested),
            (actions.queue, self.queue_requested),
            (actions.chat, self.chat_requested),
            (actions.export, self.export_requested),
            (actions.draft, self.draft_requested),
            (actions.sweep, self.sweep_requested),
            (actions.folder, self.folder_requested),
            (actions.command, self.command_requested),
            (actions.save_file, self.save_requested),
            (actions.report, self.report_requested),
        ):
            action.triggered.connect(lambda _checked=False, signal=signal: self._ask(signal))
        for action, signal in (
            (actions.compare, self.compare_requested),
            (actions.label, self.label_requested),
            (actions.delete, self.delete_requested),
        ):
            action.triggered.connect(lambda _checked=False, signal=signal: self._ask_all(signal))
        for button, action in self._buttons():
            button.clicked.connect(action.trigger)
        self.distrust.trust.clicked.connect(lambda: self._ask(self.trust_requested))
        self.recover.clicked.connect(lambda: self.resume_requested.emit(self._broken))
        self.inspect.clicked.connect(lambda: self.open_requested.emit(self._broken))
        self.discard.clicked.connect(lambda: self.discard_requested.emit(self._broken))
        self._summary_seen.clicked.connect(lambda: self.render_summary(""))
        self.stop_taking.clicked.connect(self.taking_stop_requested)
        self.go_training.clicked.connect(self.training_requested)
        self.search.textChanged.connect(self._show_lines)
        self.table.chosen.connect(self._on_selection_changed)
        self.table.activated.connect(lambda _index: self._ask(self.open_requested))
        self.table.customContextMenuRequested.connect(self._on_menu_requested)
        self._connect_view()

    def _connect_view(self) -> None:
        header, view = self.table.horizontalHeader(), self.view_actions
        self.table.order_requested.connect(self._on_order_requested)
        header.customContextMenuRequested.connect(lambda at: self._view_menu.popup(header.mapToGlobal(at)))
        for name, action in view.columns.items():
            action.triggered.connect(lambda shown, name=name: self._on_column_chosen(name, shown))
        for name, action in view.order.items():
            action.triggered.connect(lambda _checked, name=name: self._change_view(self._columns, name))
        view.usual.triggered.connect(lambda: self._change_view((), self._order, falls=self._descending))
        view.descending.triggered.connect(lambda falls: self._change_view(self._columns, self._order, falls=falls))

    def _on_menu_requested(self, place: QPoint) -> None:
        if self.table.selected():
            self.run_menu.popup(self.table.viewport().mapToGlobal(place))

    def _on_order_requested(self, column: str) -> None:
        """Order by a column; the same one again, the other way round."""
        self._change_view(self._columns, column, falls=column == self._order and not self._descending)

    def _on_column_chosen(self, name: str, shown: bool) -> None:
        before = self._columns or shown_columns((), self._lines, order="", narrow=False)
        chosen = {*before, name} if shown else {*before} - {name}
        columns = [column for column in self.view_actions.columns if column in chosen]
        self._change_view(columns, self._order, falls=self._descending)

    def _change_view(self, columns: Sequence[str], order: str, *, falls: bool = False) -> None:
        text = f"-{order}" if order and falls else order
        self.render_view(columns, text)
        self.view_changed.emit(tuple(columns), text)

    def _ask(self, signal: object) -> None:
        line = self.selected()
        if line is not None:
            signal.emit(line.path)  # type: ignore[attr-defined]

    def _ask_all(self, signal: object) -> None:
        if lines := self.table.selected():
            signal.emit([line.path for line in lines])  # type: ignore[attr-defined]
