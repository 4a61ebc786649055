"""The page of all runs: what they were, how far they came, and what can be done with them."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QLineEdit

from qlora_studio.ui.kit.layouts import FlowRow
from qlora_studio.ui.kit.tables import Column, Table, TableModel
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Card, Notice, PrimaryButton, row
from qlora_studio.ui.runs.view import recovery_advice, recovery_text, when_text
from qlora_studio.ui.state.run_line import RunLine
from qlora_studio.ui.window.distrust import DistrustNotice
from qlora_studio.ui.window.page import Page

_COLUMNS = (
    Column(
        "Name",
        lambda line: line.name,
        stretch=True,
        tip=lambda line: "\n".join(filter(None, (line.model, line.parent, line.path))),
    ),
    Column("Model", lambda line: line.model),
    Column(
        "State",
        lambda line: line.words,
        tone=lambda line: line.tone,
        tip=lambda line: line.remark or line.state,
    ),
    Column("Steps", lambda line: line.steps, right=True),
    Column("Eval loss", lambda line: line.loss, right=True),
    Column("When", lambda line: when_text(line.when)),
)
_NARROW = 700


class RunsPage(Page):
    """Lists runs.

    Signals:
        open_requested: show a run; its folder.
        resume_requested: go on with it.
        queue_requested: put it into the queue, or take it out.
        export_requested: export it.
        chat_requested: talk to it.
        draft_requested: make its settings the draft.
        folder_requested: open its folder on the desktop.
        refresh_requested: look again.
        training_requested: go and start one.
        trust_requested: look at what a run from elsewhere would do, and trust it.
        discard_requested: put a run that broke off away, or leave it as it is.
    """

    name = "runs"
    title = "Runs"

    open_requested = Signal(str)
    resume_requested = Signal(str)
    queue_requested = Signal(str)
    export_requested = Signal(str)
    chat_requested = Signal(str)
    draft_requested = Signal(str)
    folder_requested = Signal(str)
    refresh_requested = Signal()
    training_requested = Signal()
    trust_requested = Signal(str)
    discard_requested = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._lines: tuple[RunLine, ...] = ()
        self.open_button = PrimaryButton("Open")
        self.resume_button, self.chat_button, self.export_button = Button("Resume"), Button("Chat"), Button("Export")
        self.queue_button = Button("Add to queue", tip="It goes on by itself when its turn has come")
        self.draft_button = Button("Use its settings", tip="Take model, data and settings of the run for a new one")
        self.folder_button = Button("Show folder")
        self.add_action(self.open_button)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Filter")
        self.search.setAccessibleName("Filter the runs")
        self.search.setMinimumWidth(72)
        self.search.setMaximumWidth(150)
        self.model = TableModel(_COLUMNS)
        self.table = Table(self.model, name="Runs")
        self.recovery = Notice("warn")
        self.recover = Button("Resume it", "small")
        self.inspect = Button("Look at it", "small", tip="Its curves and its last words; nothing is started")
        self.discard = Button("Discard …", "small", tip="Put it away, or leave it as it is")
        self.distrust = DistrustNotice()
        self.summary = Notice("info")
        self.remark = Label("", "muted", wrap=True)
        self._summary_seen = Button("Close", "small")
        self._broken = ""
        self._build()
        self._connect()
        self.render_runs(())

    def render_runs(self, lines: Sequence[RunLine], place: str = "") -> None:
        """Show the runs under a folder."""
        chosen = self.selected()
        self._lines = tuple(lines)
        at_work = sum(line.busy for line in lines)
        count = f"{len(lines):,} run{'' if len(lines) == 1 else 's'}"
        words = [count, f"{at_work} at work"] if at_work else [count]
        self.set_heading("Runs", " · ".join([*words, place] if place else words))
        self._empty.setVisible(not lines)
        self._card.setVisible(bool(lines))
        self._show_recovery()
        self._show_lines()
        self._select(chosen.path if chosen else (lines[0].path if lines else ""))
        self._on_selection_changed()

    def selected(self) -> RunLine | None:
        """Return the run that is selected."""
        rows = self.table.selectionModel().selectedRows()
        line: RunLine | None = self.model.row(rows[0].row()) if rows else None
        return line

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the model out where the window is narrow: the name is beside it, and the tooltip tells the rest."""
        super().resizeEvent(event)
        self.table.setColumnHidden(1, event.size().width() < _NARROW)

    def on_shown(self) -> None:
        """Look again whenever the page comes to the front."""
        self.refresh_requested.emit()

    def _show_lines(self) -> None:
        words = self.search.text().lower().split()
        texts = ((line, f"{line.name} {line.model} {line.words}".lower()) for line in self._lines)
        self.model.set_rows(tuple(line for line, text in texts if all(word in text for word in words)))

    def render_summary(self, text: str) -> None:
        """Show what became of the queue; an empty text hides it."""
        self.summary.show_message(text)

    def _show_recovery(self) -> None:
        broken = [line for line in self._lines if line.broken]
        self._broken = broken[0].path if broken else ""
        text, advice = (recovery_text(broken[0]), recovery_advice(len(broken))) if broken else ("", "")
        self.recovery.show_message(text, advice)
        self.recover.setEnabled(bool(broken) and not broken[0].objection)

    def _select(self, path: str) -> None:
        for index in range(self.model.rowCount()):
            if self.model.row(index).path == path:
                self.table.selectRow(index)

    def _on_selection_changed(self) -> None:
        line = self.selected()
        readable = line is not None and not line.problem
        for button in (self.open_button, self.draft_button):
            button.setEnabled(readable)
        self.folder_button.setEnabled(line is not None)
        self.distrust.render_objection(line.objection if line else "")
        self.remark.setText(line.remark if line else "")
        self.remark.setVisible(bool(self.remark.text()))
        self.resume_button.setEnabled(bool(line and line.resumable))
        self.queue_button.setEnabled(bool(line and (line.resumable or line.queued)))
        self.queue_button.setText("Take out of the queue" if line and line.queued else "Add to queue")
        for button in (self.chat_button, self.export_button):
            button.setEnabled(bool(line and line.has_adapter and not line.objection))

    def _build(self) -> None:
        self._empty = Card("No runs yet")
        self.go_training = Button("Go to Training")
        text = "Every run is a folder with its settings, events and checkpoints. The first one appears here."
        self._empty.add(Label(text, "muted", wrap=True), self.go_training)
        for button in (self.discard, self.inspect, self.recover):
            self.recovery.add_action(button)
        self.summary.add_action(self._summary_seen)
        self._card = Card()
        tools = row(spacing=8)
        going = (self.resume_button, self.queue_button)
        buttons = (*going, self.chat_button, self.export_button, self.draft_button, self.folder_button)
        for button in buttons:
            button.setProperty("kind", "small")
        tools.addWidget(FlowRow(*buttons), 1)
        tools.addWidget(self.search)
        self._card.body.addLayout(tools)
        self.table.setMinimumHeight(240)
        self._card.body.addWidget(self.table, 1)
        self._card.add(self.remark)
        self.body.addWidget(self.recovery)
        self.body.addWidget(self.distrust)
        self.body.addWidget(self.summary)
        self.body.addWidget(self._empty)
        self.body.addWidget(self._card, 1)
        self.body.addStretch(0)

    def _connect(self) -> None:
        for button, signal in (
            (self.open_button, self.open_requested),
            (self.resume_button, self.resume_requested),
            (self.queue_button, self.queue_requested),
            (self.chat_button, self.chat_requested),
            (self.export_button, self.export_requested),
            (self.draft_button, self.draft_requested),
            (self.folder_button, self.folder_requested),
            (self.distrust.trust, self.trust_requested),
        ):
            button.clicked.connect(lambda _checked=False, signal=signal: self._ask(signal))
        self.recover.clicked.connect(lambda: self.resume_requested.emit(self._broken))
        self.inspect.clicked.connect(lambda: self.open_requested.emit(self._broken))
        self.discard.clicked.connect(lambda: self.discard_requested.emit(self._broken))
        self._summary_seen.clicked.connect(lambda: self.render_summary(""))
        self.go_training.clicked.connect(self.training_requested)
        self.search.textChanged.connect(self._show_lines)
        self.table.selectionModel().selectionChanged.connect(self._on_selection_changed)
        self.model.modelReset.connect(self._on_selection_changed)
        self.table.activated.connect(lambda _index: self._ask(self.open_requested))

    def _ask(self, signal: object) -> None:
        line = self.selected()
        if line is not None:
            signal.emit(line.path)  # type: ignore[attr-defined]
