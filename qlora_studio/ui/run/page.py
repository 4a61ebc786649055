"""The Run page: how a training run goes, live or replayed, and what the user can ask of it."""

import time
from collections.abc import Iterator

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QMenu, QWidget

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.events import Recovering, Warned
from qlora_studio.core.run.run_state import RunState, phase_text
from qlora_studio.core.words import say
from qlora_studio.ui.curves.smoothing import last_finite
from qlora_studio.ui.elsewhere.view import ElsewhereView
from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.layouts import TileGrid
from qlora_studio.ui.kit.text import Label, set_tooltip
from qlora_studio.ui.kit.widgets import Button, Card, EmptyCard, Notice, PrimaryButton, StatTile, column, row
from qlora_studio.ui.run.cards import MemoryCard, SampleCard
from qlora_studio.ui.run.findings import findings
from qlora_studio.ui.run.plot_card import PlotCard
from qlora_studio.ui.run.recovery_action import RecoveryAction, recovery_action
from qlora_studio.ui.run.view import subtitle, tiles
from qlora_studio.ui.state.asked import Asked, asked_words
from qlora_studio.ui.state.progress import progress_share, progress_text
from qlora_studio.ui.state.run_store import RunStore
from qlora_studio.ui.window.distrust import DistrustNotice
from qlora_studio.ui.window.page import GUTTER, Page

_TILES = (
    say("Train loss"),
    say("Evaluation loss"),
    say("Perplexity"),
    say("Learning rate"),
    say("Tokens/s"),
    say("Time left"),
)
_CLOCK_MILLISECONDS = 1000
_BRIEF = (640, 640)  # pixels of width and height, below which the figures stand in two low rows


class RunPage(Page):
    """Shows a RunStore.

    Signals:
        pause_requested, resume_requested, checkpoint_requested, evaluation_requested, folder_requested.
        parent_requested: look at the run that this one goes on from.
        stop_requested: with True, what was learned is saved as the final adapter.
        kill_requested: the worker does not answer, and is to be ended.
        recovery_action_requested: go on in the way that the page offers; carries a RecoveryAction.
        page_requested: the name of the page to go to.
        trust_requested: look at what a run from elsewhere would do, and trust it.
        cancel_requested: take the job of a run that is elsewhere away from its scheduler.
        bring_requested: bring an adapter of a run that is elsewhere here: `final`, or `best`.
    """

    name = "run"
    title = say("Run")
    pause_requested = Signal()
    stop_requested = Signal(bool)
    kill_requested = Signal()
    recovery_action_requested = Signal(object)
    resume_requested = Signal()
    checkpoint_requested = Signal()
    evaluation_requested = Signal()
    folder_requested = Signal()
    parent_requested = Signal()
    page_requested = Signal(str)
    trust_requested = Signal()
    cancel_requested = Signal()
    bring_requested = Signal(str)

    def _made(self) -> Iterator[None]:
        self._store: RunStore | None = None
        self._recovery_action: RecoveryAction | None = None
        self._elsewhere: ElsewhereView | None = None
        self._takes_focus = self._is_put_aside = False
        self._build_buttons()
        yield
        self._empty, self._full = self._empty_card(), QWidget()
        self.body.addWidget(self._empty)
        self.body.addWidget(self._full, 1)
        self.body.addStretch(0)
        yield from self._build_body()
        self._clock = QTimer(self)
        self._clock.setInterval(_CLOCK_MILLISECONDS)
        self._clock.timeout.connect(self._on_clock_timeout)
        self.render_nothing()

    def render_nothing(self) -> None:
        """Show that no run is open."""
        self._store = self._recovery_action = self._elsewhere = None
        self.set_heading(say("Run"), say("No run is open"))
        self.clear_error()
        self._full.hide()
        self._empty.show()
        self._render_buttons(RunState())

    def render_run(
        self,
        store: RunStore,
        objection: str = "",
        asked: Asked | None = None,
        elsewhere: ElsewhereView | None = None,
    ) -> None:
        """Show what a store knows of a run, what was asked of it, and why it may give no orders, if it may not.

        `elsewhere` is what is said of one that is on another computer.
        """
        self._elsewhere = elsewhere
        self.distrust.render_objection(objection)
        self._takes_focus |= store is not self._store and store.state.last_event == 0  # it is just being started
        shown, follows = (self._pause.isVisible(), self._stop.isVisible()), self._has_focus_of_run()
        self._store = store
        if store.config is None:
            self.render_nothing()
            return
        state = store.state
        self._empty.hide()
        self._full.show()
        place = [elsewhere.words] if elsewhere is not None else []
        self.set_heading(store.name, " · ".join([*place, subtitle(store.config, state)]))
        self._away.show_message(*((elsewhere.warning, elsewhere.advice) if elsewhere is not None else ("",)))
        self._recovery_action = recovery_action(state) if not objection else None
        self._render_buttons(state, asked)
        self._render_failure(state)
        self._warning.show_message(*_warnings(state))
        self._work.render_state(state, asked, elsewhere.waits if elsewhere is not None else "")
        self.plots.render_history(store.history, store.checkpoints, state, store.name)
        self._render_tiles(store)
        self.samples.render_samples(state.samples)
        self.memory.render_state(state)
        self._says.render_sentences(findings(state, store.history, store.config))
        moved = shown != (self._pause.isVisible(), self._stop.isVisible()) and not _ending(asked, state)
        if follows and (moved or state.phase.is_over):
            self._follow_run()

    def on_shown(self) -> None:
        """Bring clock texts up to date while in front, and have a run that was just started under the fingers."""
        self._clock.start()
        self._on_clock_timeout()
        focused = self.window().focusWidget()
        ended = self._is_put_aside and bool(self._store and self._store.state.phase.is_over)  # behind another page
        if focused is not None and self.isAncestorOf(focused) and (self._takes_focus or ended):
            self._follow_run()
        self._takes_focus = False

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the curves their room in a low and narrow window."""
        super().resizeEvent(event)
        brief = event.size().width() < _BRIEF[0] and event.size().height() < _BRIEF[1]
        for tile in self._tiles:
            tile.set_brief(brief)

    def hideEvent(self, event: object) -> None:
        """Rest while another page is in front."""
        super().hideEvent(event)  # type: ignore[arg-type]
        self._clock.stop()

    def _render_tiles(self, store: RunStore) -> None:
        loss = last_finite(self.plots.smoothed_loss())
        for widget, tile in zip(self._tiles, tiles(store.state, loss, store.config, time.time()), strict=True):
            widget.show_tile(tile.title, tile.value, tile.note)

    def _render_buttons(self, state: RunState, asked: Asked | None = None) -> None:
        phase = state.phase
        running = not phase.is_over
        training = phase in (Phase.TRAINING, Phase.EVALUATING)
        trusted = self._store is not None and not self.distrust.message.text()
        resumable = (phase is Phase.WAITING or (phase.is_over and phase not in (Phase.NEW, Phase.FINISHED))) and trusted
        self._pause.setVisible(training)
        self._stop.setVisible(running)
        ending = _ending(asked, state)
        stopping = ending is not None and not isinstance(ending.command, Pause)
        if ending is not None and self.window().focusWidget() in (self._pause, self._stop):
            self._is_put_aside = True
            self._more.setFocus()  # else it goes on to the next button, and a second Space would stop what was paused
        self._pause.setEnabled(ending is None)
        self._pause.setText(say("Pausing …") if ending and not stopping else say("Pause"))
        self._stop.setEnabled(not stopping)
        self._stop.setText(say("Stopping …") if stopping else say("Stop and save") if training else say("Stop"))
        self._more.setVisible(self._store is not None)
        self._resume.setVisible(resumable)
        advised = self._recovery_action is not None and self._recovery_action.is_advised
        exportable = phase == Phase.STOPPED and bool(state.adapter_path)
        self._resume.set_kind("" if exportable or advised else "primary")
        self._export.setVisible(trusted and (phase == Phase.FINISHED or exportable))
        for action in self._while_training:
            action.setEnabled(training)
        self._evaluate.setEnabled(training and not (state.dataset and not state.dataset.evaluation_rows))
        self._parent.setVisible(bool(state.parent and state.parent.run))
        self._stop_unsaved.setEnabled(running)
        self._end_worker.setEnabled(running)
        self._render_elsewhere(state)

    def _render_elsewhere(self, state: RunState) -> None:
        """Offer what can be done with a run that is elsewhere in the place of what cannot: there is no worker here."""
        away = self._elsewhere
        self._end_worker.setVisible(away is None)
        self._cancel.setVisible(away is not None and away.open)
        self._bring_best.setVisible(away is not None and bool(state.adapter_path))
        missing, busy = away is not None and away.fetchable, away is not None and away.busy
        for asks in (self._resume, self._bring, self._bring_best, self._cancel):
            asks.setEnabled(not busy)
        self._bring.setVisible(missing)
        self._export.setVisible(not missing and not self._export.isHidden())

    def _has_focus_of_run(self) -> bool:
        """Whether the focus is on what a run at work is asked by, or was put beside that when it was asked to end.

        That is the window's focus, which it has when its user comes back from another window, too.
        """
        focused = self.window().focusWidget()
        return focused in (self._pause, self._stop) or (self._is_put_aside and focused is self._more)

    def _follow_run(self) -> None:
        """Put the focus on what is next asked of the run: to pause, and once it is over, to go on."""
        ways = (self._pause, self._stop, self._other_way, self._export, self._bring, self._resume, self._more)
        way = next((way for way in ways if way.isVisible() and way.isEnabled()), None)
        if way is not None:
            way.setFocus(Qt.FocusReason.OtherFocusReason)
        self._is_put_aside = way is self._more

    def _render_failure(self, state: RunState) -> None:
        failure = state.failure
        if self._recovery_action is not None:
            self._other_way.setText(self._recovery_action.label)
            set_tooltip(self._other_way, self._recovery_action.tip)
            self._other_way.set_kind("primary" if self._recovery_action.is_advised else "small")
        self._other_way.setVisible(self._recovery_action is not None)
        if failure is None:
            self.clear_error()
        elif failure.message != self.notice.message.text():
            tone = "info" if state.phase is Phase.CANCELLED else "bad"
            self.notice.show_message(failure.message, failure.advice, failure.detail, tone)

    def _on_clock_timeout(self) -> None:
        if self._store is not None and not self._store.state.phase.is_over:
            self._render_tiles(self._store)

    def _build_buttons(self) -> None:
        self._more = Button(say("More"), tip=say("More to do with this run"))
        menu = QMenu(self._more)
        save = menu.addAction(say("Save a checkpoint now"), self.checkpoint_requested.emit)
        self._evaluate = menu.addAction(say("Evaluate now"), self.evaluation_requested.emit)
        self._while_training = (save, self._evaluate)
        menu.addSeparator()
        menu.addAction(say("Open the run's folder"), self.folder_requested.emit)
        self._parent = menu.addAction(say("Look at the run that it goes on from"), self.parent_requested.emit)
        menu.addSeparator()
        self._stop_unsaved = menu.addAction(say("Stop without saving …"), lambda: self.stop_requested.emit(False))
        self._end_worker = menu.addAction(say("End the worker now …"), self.kill_requested.emit)
        self._bring_best = menu.addAction(
            say("Bring its best checkpoint here"), lambda: self.bring_requested.emit("best")
        )
        self._cancel = menu.addAction(say("Cancel the job …"), self.cancel_requested.emit)
        self._more.setMenu(menu)
        self._more.setProperty("menu", "true")
        self._pause = Button(say("Pause"), tip=say("Make the work safe and free the card; resume later"))
        self._stop = Button(say("Stop and save"), tip=say("End the run and keep what was learned"))
        self._resume = PrimaryButton(say("Resume"), tip=say("Go on from the newest safe checkpoint"))
        self._export = PrimaryButton(say("Continue to Export"))
        self._bring = PrimaryButton(say("Bring it here"), tip=say("Fetch the adapter: then it can be exported here"))
        self._bring.clicked.connect(lambda: self.bring_requested.emit("final"))
        self._pause.clicked.connect(self.pause_requested.emit)
        self._stop.clicked.connect(lambda: self.stop_requested.emit(True))
        self._resume.clicked.connect(self.resume_requested.emit)
        self._export.clicked.connect(lambda: self.page_requested.emit("export"))
        self._other_way = PrimaryButton(say("Go on in another way"))
        self._other_way.clicked.connect(lambda: self.recovery_action_requested.emit(self._recovery_action))
        self._other_way.hide()
        self.notice.add_action(self._other_way)
        for button in (self._more, self._pause, self._stop, self._resume, self._export, self._bring):
            self.add_action(button)

    def _build_body(self) -> Iterator[None]:
        box = column(self._full, spacing=GUTTER)
        self.distrust, self._away, self._warning = DistrustNotice(), Notice("warn"), Notice("warn")
        self.distrust.trust.clicked.connect(self.trust_requested)
        self._work = _Work()
        for part in (self.distrust, self._away, self._warning, self._work):
            box.addWidget(part)
        yield
        self._tiles = tuple(StatTile(title) for title in _TILES)
        box.addWidget(TileGrid(self._tiles, columns=(6, 3, 2), least=112))
        yield
        self.plots = PlotCard(at_once=False)
        self.plots.failed.connect(self.show_error)
        box.addWidget(self.plots, 1)
        yield from self.plots.steps
        yield
        self.samples, self._says = SampleCard(), _Findings()
        below = row(spacing=12)
        below.addWidget(self.samples, 9)
        below.addWidget(self._says, 5)
        box.addLayout(below)
        yield
        self.memory = MemoryCard()
        box.addWidget(self.memory)
        yield

    def _empty_card(self) -> EmptyCard:
        button = PrimaryButton(say("Go to Training"))
        button.clicked.connect(lambda: self.page_requested.emit("training"))
        text = say("Choose a model and a dataset, then start on the Training page. The curves appear here.")
        return EmptyCard(say("Nothing has been trained yet"), text, button)


class _Work(Card):
    """What is done before, between and after the training steps, with its progress."""

    def __init__(self) -> None:
        super().__init__()
        self._words = Label("", "strong")
        self._line = ProgressLine(say("Progress of the phase"), width=10_000)
        self._count = Label("", "caption")
        box = row(spacing=12)
        for part, stretch in ((self._words, 0), (self._line, 1), (self._count, 0)):
            box.addWidget(part, stretch)
        self.body.addLayout(box)
        self.hide()

    def render_state(self, state: RunState, asked: Asked | None = None, waits: str = "") -> None:
        """Show the phase, what it was asked to do, or what it waits for; hide while training alone: curves say more."""
        wish = asked_words(asked, state) or waits
        self._words.setText(wish or phase_text(state))
        self._line.show_share(progress_share(state))
        self._count.setText("" if state.phase == Phase.EVALUATING else progress_text(state))
        self.setVisible(bool(wish) or (not state.phase.is_over and state.phase != Phase.TRAINING))


class _Findings(Card):
    """What the curves say, in sentences."""

    def __init__(self) -> None:
        super().__init__(say("Findings"))
        self._lines = tuple(Label("", "muted", wrap=True, selectable=True) for _ in range(8))
        self.add(*self._lines)
        self.body.addStretch(1)

    def render_sentences(self, sentences: tuple[str, ...]) -> None:
        """Show the sentences, one a paragraph."""
        texts = sentences or (say("The first steps will tell."),)
        for index, line in enumerate(self._lines):
            line.setText(texts[index] if index < len(texts) else "")
            line.setVisible(index < len(texts))


def _ending(asked: Asked | None, state: RunState) -> Asked | None:
    """Return the wish that the session end, where it is not done yet."""
    return asked if asked is not None and asked.ends and asked.stands(state) else None


def _warnings(state: RunState) -> tuple[str, str, str]:
    """Return the newest warning or recovery, how many there are, and all of them for the fold."""
    events: list[Warned | Recovering] = [*state.warnings, *state.recoveries]
    told = sorted(events, key=lambda event: event.time)
    if not told:
        return "", "", ""
    texts = list(dict.fromkeys(event.message for event in told))
    more = say("{texts} more below.", texts=len(texts) - 1) if len(texts) > 1 else ""
    return texts[-1], more, "\n".join(texts) if len(texts) > 1 else ""
