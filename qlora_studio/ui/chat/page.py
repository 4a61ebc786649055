"""The page where a trained model is talked to, beside its base and what was exported: one prompt, one seed."""

from collections.abc import Iterator, Mapping, Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget

from qlora_studio.core.export.formats import EXPORT_VARIANTS
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.commands import Ask
from qlora_studio.core.run.events import Event, TextGenerated
from qlora_studio.core.run.job import CHAT_VARIANTS
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.ui.chat.transcript import ChatTurn, PromptField
from qlora_studio.ui.kit.fields import CheckBox, ComboBox, NumberBox, SpinBox
from qlora_studio.ui.kit.layouts import ScrolledContent, SideBySide, dismiss
from qlora_studio.ui.kit.text import Label, set_tooltip
from qlora_studio.ui.kit.widgets import Button, Card, EmptyCard, PrimaryButton, column, row
from qlora_studio.ui.state.run_choice import RunChoice
from qlora_studio.ui.window.page import Page

_CHECKPOINTS = {"best": say("Best checkpoint"), "final": say("Final adapter"), "last": say("Last checkpoint")}
_ABREAST = 600  # pixels, from which on all choices stand in one row
_HINT = say(
    "Tuned and base come from one set of weights, with the adapter and without. Merged and GGUF "
    "are read from what was exported. Same prompt, same seed."
)


class ChatPage(Page):
    """Ask a run's model.

    Signals:
        ask_requested: the run's folder, the checkpoint, and the Ask commands, one for each model.
        stop_requested: let go of the model.
        end_requested: no more of the answers that are being given.
        run_requested: another run was chosen; its folder.
        training_requested: go and train something first.
    """

    name = "chat"
    title = say("Chat")

    ask_requested = Signal(str, str, list)
    stop_requested = Signal()
    end_requested = Signal()
    run_requested = Signal(str)
    training_requested = Signal()

    def _made(self) -> Iterator[None]:
        self._runs: dict[str, RunChoice] = {}
        self._turns: list[ChatTurn] = []
        self._waiting: dict[tuple[int, str], ChatTurn] = {}
        self._request = 0
        self.again, self.stop = (
            Button(say("New conversation")),
            Button(say("Free the memory"), tip=say("Let go of the model")),
        )
        self.add_action(self.stop)
        self.add_action(self.again)
        self._empty = self._make_empty()
        self.body.addWidget(self._empty)
        yield
        self._options = self._make_options()
        self.body.addWidget(self._options)
        yield
        self._talk = self._make_talk()
        self.body.addWidget(self._talk, 1)
        self.body.addStretch(0)
        yield
        self._connect()
        self.render_runs((), "")
        self.render_job(None)

    def render_runs(self, runs: Sequence[RunChoice], chosen: str, *, reading: bool = False) -> None:
        """Show the runs that have an adapter, and the one that is chosen; while they are read there may be others."""
        self._runs = {run.path: run for run in runs}
        before = self.run.value()
        self.run.set_choices({run.path: run.name for run in runs})
        self.run.set_value(chosen if chosen in self._runs else next(iter(self._runs), ""))
        for part in (self._options, self._talk):
            part.setVisible(bool(runs))
        self._empty.setVisible(not runs and not reading)
        for button in (self.again, self.stop):
            button.setVisible(bool(runs))
        self._name_run(say("Looking for runs …") if reading else say("Nothing to talk to yet"))
        if before not in ("", self.run.value()):  # whoever chose it, or removed the one before
            self._leave_run()

    def render_job(self, state: RunState | None, *, stopping: bool = False) -> None:
        """Show whether the model is loaded, is being let go of, or why it is not loaded."""
        at_work = state is not None and state.last_event > 0 and not state.phase.is_over
        self.stop.setEnabled(at_work and not stopping)
        words = say("Letting go of the model …") if stopping and at_work else _state_text(state)
        self._state.setText(words if at_work or (state and state.failure) else "")
        if state is not None and state.failure is not None:
            self.notice.show_message(state.failure.message, state.failure.advice, state.failure.detail)
        if stopping or (state is not None and state.phase.is_over and state.last_event > 0):
            self._give_up()
        self._show_send()

    def render_events(self, events: Sequence[Event]) -> None:
        """Write the pieces of answers where they belong."""
        for event in events:
            if isinstance(event, TextGenerated):
                self._write(event)

    def submit(self) -> None:
        """Ask what stands in the field."""
        run, text = self._runs.get(self.run.value()), self.prompt.text()
        chosen = tuple(name for name, box in self.variants.items() if box.isChecked() and box.isEnabled())
        if run is None or not text or not chosen or self._waiting:
            return
        self.clear_error()
        turn = ChatTurn(text, chosen)
        asks = [self._ask(variant, turn) for variant in chosen]
        self._turns.append(turn)
        self._transcript.insertWidget(self._transcript.count() - 1, turn)
        self._hint.hide()
        self.prompt.clear()
        self._show_send()
        QTimer.singleShot(0, self._scroll_down)
        self.ask_requested.emit(run.path, self.checkpoint.value() or "best", asks)

    def turns(self) -> tuple[ChatTurn, ...]:
        """Return the conversation."""
        return tuple(self._turns)

    def _ask(self, variant: str, turn: ChatTurn) -> Ask:
        self._request += 1
        self._waiting[self._request, variant] = turn
        before = [message for turn in self._turns for message in turn.messages(variant)]
        return Ask(
            request=self._request,
            messages=[*before, {"role": "user", "content": turn.prompt}],
            variants=[variant],
            max_new_tokens=self.longest.value(),
            temperature=self.temperature.value(),
            seed=self.seed.value(),
        )

    def _write(self, event: TextGenerated) -> None:
        turn = self._waiting.get((event.request, event.variant))
        if turn is None:
            return
        answer = turn.answers[event.variant]
        answer.append(event.text)
        if event.done:
            answer.finish(event.tokens, event.seconds, event.way)
            del self._waiting[event.request, event.variant]
            self._show_send()
        QTimer.singleShot(0, self._scroll_down)

    def end_answers(self) -> None:
        """End the answers where they are, at once; what still comes of them is not shown."""
        if self._waiting:
            self._give_up()
            self.end_requested.emit()
            self.prompt.setFocus()

    def _give_up(self) -> None:
        for (_request, variant), turn in self._waiting.items():
            turn.answers[variant].give_up()
        self._waiting.clear()
        self._show_send()

    def _show_send(self) -> None:
        self.send.setEnabled(not self._waiting)
        self.send.setVisible(not self._waiting)
        self.end.setVisible(bool(self._waiting))

    def _begin_again(self) -> None:
        self.end_answers()
        self._forget_turns()
        self.prompt.setFocus()

    def _forget_turns(self) -> None:
        for turn in self._turns:
            dismiss(turn)
        self._turns, self._waiting = [], {}
        self._hint.show()
        self._show_send()

    def _leave_run(self) -> None:
        """Nothing that was said by another run, or of it, is shown below the one that is chosen now."""
        self.clear_error()
        self._forget_turns()
        self.run_requested.emit(self.run.value())

    def _scroll_down(self) -> None:
        bar = self._area.verticalScrollBar()
        bar.setValue(bar.maximum())

    def _name_run(self, instead: str = "") -> None:
        run = self._runs.get(self.run.value())
        self.set_heading(say("Chat"), f"{run.name} · {run.base}" if run else instead)
        self._offer_exports(run)

    def _offer_exports(self, run: RunChoice | None) -> None:
        """What was not exported cannot be asked, and says so."""
        there = {variant for variant, _ in run.answering} if run else set()
        for name, words in EXPORT_VARIANTS.items():
            box = self.variants[name]
            box.setEnabled(name in there)
            box.setChecked(box.isChecked() and name in there)
            set_tooltip(box, "" if name in there else say("Export a {words} of this run first.", words=words))

    def _make_empty(self) -> EmptyCard:
        self.go_training = PrimaryButton(say("Go to Training"))
        text = say("When a run has ended, its model can be asked here, with the base model's answer beside it.")
        return EmptyCard(say("No trained run yet"), text, self.go_training)

    def _make_options(self) -> Card:
        card = Card()
        self.run, self.checkpoint = ComboBox(), ComboBox(_CHECKPOINTS)
        self.temperature, self.seed, self.longest = (
            NumberBox(0.0, 2.0),
            SpinBox(0),
            SpinBox(1, 4096, unit=say("tokens")),
        )
        self.temperature.setValue(0.0)
        self.seed.setValue(42)
        self.longest.setValue(256)
        model = {say("Run"): self.run, say("Checkpoint"): self.checkpoint}
        answers = {say("Temperature"): self.temperature, say("Seed"): self.seed, say("At most"): self.longest}
        card.add(SideBySide(_fields(model), _fields(answers), shares=(7, 6), breakpoint=_ABREAST, spacing=12))
        return card

    def _make_talk(self) -> Card:
        card = Card()
        self._area = QScrollArea()
        self._area.setAccessibleName(say("Conversation"))
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        content = ScrolledContent()
        self._transcript = column(content, margins=(0, 0, 6, 0), spacing=10)
        self._hint = Label(_HINT, "muted", wrap=True)
        self._transcript.addWidget(self._hint)
        self._transcript.addStretch(1)
        self._area.setWidget(content)
        self._area.setMinimumHeight(160)
        card.body.addWidget(self._area, 1)
        self.prompt = PromptField(say("Say something. Enter sends, Shift+Enter begins a line."))
        card.add(self.prompt)
        foot = row(spacing=14)
        self._state = Label("", "caption")
        self.send = PrimaryButton(say("Send"))
        self.end = Button(say("Stop"), tip=say("End the answers here; the model stays loaded (Esc)"))
        self.variants = {name: CheckBox(words) for name, words in CHAT_VARIANTS.items()}
        for name, box in self.variants.items():
            box.setChecked(name in ("tuned", "base"))
            foot.addWidget(box)
        foot.addWidget(self._state, 1)
        foot.addWidget(self.send)
        foot.addWidget(self.end)
        card.body.addLayout(foot)
        return card

    def _connect(self) -> None:
        self.send.clicked.connect(self.submit)
        self.prompt.submitted.connect(self.submit)
        self.end.clicked.connect(self.end_answers)
        escape = QShortcut(QKeySequence(Qt.Key.Key_Escape), self, self.end_answers)
        escape.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        self.again.clicked.connect(self._begin_again)
        self.stop.clicked.connect(self.stop_requested)
        self.go_training.clicked.connect(self.training_requested)
        self.run.chosen.connect(self._on_run_chosen)

    def _on_run_chosen(self) -> None:
        self._leave_run()
        self._name_run()
        self.prompt.setFocus()


def _fields(titles: Mapping[str, QWidget]) -> QWidget:
    """Return fields beside each other, each below its title."""
    whole = QWidget()
    line = row(whole, spacing=12)
    for title, field in titles.items():
        box = column(spacing=3)
        label = Label(title, "caption")
        label.setBuddy(field)
        field.setAccessibleName(title)
        field.setMinimumWidth(72)
        box.addWidget(label)
        box.addWidget(field)
        line.addLayout(box, 1)
    return whole


def _state_text(state: RunState | None) -> str:
    if state is None:
        return ""
    if state.failure is not None:
        return say("No model is loaded.")
    return (
        say("The model is loaded.")
        if state.activity == Activity.READY
        else say("Loading the model; the first answer takes longer …")
    )
