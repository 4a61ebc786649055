"""The page to begin from: three doors, and what was used last."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFileDialog, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.fonts import scaled
from qlora_studio.ui.kit.layouts import SideBySide, TileGrid
from qlora_studio.ui.kit.text import Label, set_tooltip
from qlora_studio.ui.kit.widgets import Button, Card, PrimaryButton, column
from qlora_studio.ui.start.recent import RecentList
from qlora_studio.ui.start.view import USUAL, WAY, Recent, StarterButton
from qlora_studio.ui.window.page import Page

_WIDE = 4000  # pixels: as wide as the card
_ABREAST = 500  # pixels, from which on the doors stand beside each other
_HIGH = 820  # pixels, from which on there is room below what was used last
_LINE = 42  # pixels of one of these, at the usual text


class StartPage(Page):
    """Three doors. It is painted first, before anything stands behind it: what is asked until then waits.

    Signals:
        starter_requested: train the starter project.
        starter_draft_requested: look at its settings.
        path_requested: take a file or folder to where it belongs.
        page_requested: go to a page, by its name.
        model_requested: take a model.
        dataset_requested: take a dataset.
        run_requested: show a run; its folder.
    """

    name = "start"
    title = say("Start")

    starter_requested = Signal()
    starter_draft_requested = Signal()
    path_requested = Signal(str)
    page_requested = Signal(str)
    model_requested = Signal(str)
    dataset_requested = Signal(str)
    run_requested = Signal(str)

    def _made(self) -> Iterator[None]:
        self._begun = self._is_known = False
        self._waiting: Callable[[], object] | None = None
        self.set_heading(
            say("Begin here"), say("Three ways. You can also drop a dataset, a model or a run anywhere in this window.")
        )
        self.body.addWidget(SideBySide(self._starter(), self._data(), self._run(), breakpoint=_ABREAST))
        self.models = RecentList(say("Recent models"))
        self.datasets = RecentList(say("Recent datasets"))
        self.runs = RecentList(say("Recent runs"))
        self._recents = SideBySide(self.models, self.datasets, self.runs, breakpoint=_ABREAST)
        self._recents.hide()
        self.body.addWidget(self._recents)
        self._way = _way()
        self._way.hide()  # until it is known that nothing was used yet
        self.body.addWidget(self._way)
        self.body.addStretch(1)
        self._connect()
        yield

    def render_recents(self, models: Sequence[Recent], datasets: Sequence[Recent], runs: Sequence[Recent]) -> None:
        """Show what was used last; where there is nothing, how a run goes."""
        for card, recents in ((self.models, models), (self.datasets, datasets), (self.runs, runs)):
            card.render_recents(recents)
        self._recents.setVisible(bool(models or datasets or runs))
        self._is_known = True
        self._show_way()

    def render_starter(self, button: StarterButton) -> None:
        """Say on the first door's button what a click does."""
        self.starter.setText(button.text)
        set_tooltip(self.starter, button.tip)
        self.coming.setText(button.note)
        self._line.show_share(button.share)
        for widget in (self.coming, self._line):
            widget.setVisible(bool(button.note))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Show how a run goes, and more of what was used last, wherever there is room."""
        super().resizeEvent(event)
        more = max(0, self.height() - _HIGH) // scaled(_LINE) if self.width() >= _ABREAST else 0
        for recents in (self.models, self.datasets, self.runs):
            recents.show_most(USUAL + more)
        self._show_way()

    def _show_way(self) -> None:
        self._way.setVisible(self._is_known and (self._recents.isHidden() or self.height() >= _HIGH))

    def begin(self) -> None:
        """Answer from now on, and do what was asked for until now."""
        self._begun = True
        if self._waiting is not None:
            self._waiting()

    def _starter(self) -> Card:
        card = Card(say("Try the starter"))
        text = say(
            "A small model learns to answer as a ship's log, from 200 chats that come "
            "with the program. Any computer will do, in a few minutes."
        )
        self.starter = PrimaryButton(say("Start training"))
        self.settings = Button(
            say("Its settings"), "quiet", tip=say("Look at them on the Training page before anything starts")
        )
        self.coming, self._line = Label("", "caption", wrap=True), ProgressLine(say("Starter model"), _WIDE)
        door = _door(card, text, self.starter, self.settings, before=(self.coming, self._line))
        self.render_starter(StarterButton(say("Start training")))
        return door

    def _data(self) -> Card:
        card = Card(say("My data"))
        text = say(
            "Chats, questions with answers, or plain text: JSON Lines, CSV, Parquet and others. "
            "A file stays where it is and is never changed."
        )
        self.file = Button(say("Choose a file…"))
        self.more_data = Button(
            say("Other ways"), "quiet", tip=say("A folder, or a dataset on the hub: on the Data page")
        )
        return _door(card, text, self.file, self.more_data)

    def _run(self) -> Card:
        card = Card(say("Open a run"))
        text = say("Look at its curves, go on with it, talk to the trained model, or export it.")
        self.all_runs = Button(say("All runs"))
        self.folder = Button(say("Folder…"), "quiet", tip=say("A run's folder that lies elsewhere"))
        return _door(card, text, self.all_runs, self.folder)

    def _connect(self) -> None:
        self.starter.clicked.connect(lambda: self._ask(self.starter_requested.emit))
        self.settings.clicked.connect(lambda: self._ask(self.starter_draft_requested.emit))
        self.file.clicked.connect(self._on_file_clicked)
        self.folder.clicked.connect(self._on_folder_clicked)
        for button, name in ((self.more_data, "data"), (self.all_runs, "runs")):
            button.clicked.connect(lambda _checked=False, name=name: self._ask(partial(self.page_requested.emit, name)))
        self.models.chosen.connect(self.model_requested)
        self.datasets.chosen.connect(self.dataset_requested)
        self.runs.chosen.connect(self.run_requested)

    def _on_file_clicked(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, say("Choose a dataset"))
        if path:
            self._ask(partial(self.path_requested.emit, path))

    def _on_folder_clicked(self) -> None:
        path = QFileDialog.getExistingDirectory(self, say("Choose a run's folder"))
        if path:
            self._ask(partial(self.path_requested.emit, path))

    def _ask(self, ask: Callable[[], object]) -> None:
        if self._begun:
            ask()
        else:
            self._waiting = ask


def _way() -> Card:
    card = Card(say("How a run goes"))
    steps = []
    for number, (title, words) in enumerate(WAY, 1):
        step = QWidget()
        box = column(step, spacing=4)
        box.addWidget(Label(say("{number}  {step}", number=number, step=title), "strong"))
        box.addWidget(Label(words, "muted", wrap=True))
        box.addStretch(1)
        steps.append(step)
    card.add(TileGrid(steps, columns=(5, 3), least=112, spacing=18))
    return card


def _door(card: Card, text: str, *buttons: Button, before: Sequence[QWidget] = ()) -> Card:
    """The buttons stand below each other in every door, so that those of all doors line up at any width."""
    card.add(Label(text, "muted", wrap=True))
    card.body.addStretch(1)
    for widget in before:
        card.add(widget)
    card.body.addSpacing(8)
    card.add(*buttons)
    return card
