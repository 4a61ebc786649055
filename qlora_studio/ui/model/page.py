"""The page where the base model is chosen and looked at."""

from collections.abc import Iterator, Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QLineEdit, QPlainTextEdit, QWidget

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.run.titles import STARTER, model_title
from qlora_studio.core.words import say
from qlora_studio.storage.models.catalogue import CatalogueModel, find_in_catalogue
from qlora_studio.storage.models.location import ModelFacts, ModelLocation
from qlora_studio.ui.kit.fonts import wear_text
from qlora_studio.ui.kit.layouts import SideBySide
from qlora_studio.ui.kit.tables import ROW_HEIGHT, Column, FactGrid, Table, TableModel
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import mono_font
from qlora_studio.ui.kit.widgets import Button, Card, PrimaryButton, column
from qlora_studio.ui.model.local import LocalModels
from qlora_studio.ui.model.source import ModelSource
from qlora_studio.ui.model.view import (
    CatalogueLine,
    MethodLine,
    advice_text,
    follows_advice,
    four_bit_text,
    in_order,
    matches,
    model_fact_pairs,
    model_summary,
    needed_pairs,
    template_text,
)
from qlora_studio.ui.window.page import Page

_MEMORY = say("Graphics memory of a run with these settings")
_COLUMNS = (
    Column(say("Model"), lambda line: line.title, stretch=True, least=150, tip=lambda line: line.id),
    Column(say("Parameters"), lambda line: line.size, right=True),
    Column(say("Memory"), lambda line: line.needs, right=True, tip=lambda _line: _MEMORY),
    Column(say("This card"), lambda line: line.fit, tone=lambda line: line.tone),
    Column(say("Since"), lambda line: line.date),
    Column(say("Licence"), lambda line: _licence(line), share=0.17, tip=lambda line: _licence(line)),
    Column(say("On disk"), lambda line: say("yes") if line.here else ""),
)

_TRAINED = say("What is trained, with its gradients and the optimizer's state")
_METHODS = (
    Column(say("Method"), lambda line: line.label, stretch=True),
    Column(say("Weights"), lambda line: bytes_text(line.weights_bytes), right=True),
    Column(say("Trained"), lambda line: bytes_text(line.trained_bytes), right=True, tip=lambda _line: _TRAINED),
    Column(say("Activations"), lambda line: bytes_text(line.activations_bytes), right=True),
    Column(say("In total"), lambda line: bytes_text(line.total_bytes), right=True),
    Column(say("This card"), lambda line: line.fit, tone=lambda line: line.tone),
)
_NARROW, _MIDDLE = 700, 860  # pixels, below which columns are left out, so that none is out of sight


class ModelPage(Page):
    """Choose a model; see what it is and whether it fits. Which model, and to download it, is asked by `source`.

    Signals:
        advice_requested: take rank and learning rate as recommended for the size.
        continue_requested: on to the data.
    """

    name = "model"
    title = say("Model")

    advice_requested = Signal()
    continue_requested = Signal()

    def _made(self) -> Iterator[None]:
        self._facts: ModelFacts | None = None
        self._unloaded: CatalogueModel | None = None  # the chosen one, where only the catalogue knows it
        self._lines: tuple[CatalogueLine, ...] = ()
        self._config = RunConfig()
        self._needed: bool | None = True
        self._download: RunState | None = None
        self._downloaded = ""
        self.continue_button = PrimaryButton(say("Continue to Data"))
        self.add_action(self.continue_button)
        self.source = ModelSource()
        self.body.addWidget(self.source)
        yield
        self.local = LocalModels()
        self.body.addWidget(self.local)
        yield
        self.body.addWidget(SideBySide(self._about(), self._fitness()))
        yield
        self.body.addWidget(self._comparison())
        yield
        self.body.addWidget(self._catalogue(), 1)
        yield
        self._connect()
        self.render_config(self._config)

    def render_config(self, config: RunConfig) -> None:
        """Show which model the draft names."""
        self._config = config
        self._render_facts()

    def render_model(self, location: ModelLocation | None, facts: ModelFacts | None, problem: str = "") -> None:
        """Show what the files say of the model, or why they say nothing."""
        self._facts = facts
        self._needed = location.kind == "hub" and location.path is None if location is not None else None
        self._unloaded = find_in_catalogue(location.source) if location is not None and self._needed else None
        if location is not None:
            kind = "starter" if location.source == STARTER else location.kind
            self.source.show_source(location.source, location.revision, kind)
            self.grid.show_facts(model_fact_pairs(location, facts) if facts else ())
        elif wanted := self._config.model.source:  # the field shows no other model than the one that this is said of
            self.source.show_wanted(wanted, self._config.model.revision)
        self._show_download()
        self._empty.setText(problem or say("Choose a model above, or one of the list below."))
        self._empty.setVisible(facts is None and self._unloaded is None)
        self.grid.setVisible(facts is not None or self._unloaded is not None)
        self._render_facts()

    def render_download(self, state: RunState | None, *, source: str = "") -> None:
        """Show how far the download of a model is, and why it failed, as every other error."""
        failure = state.failure if state is not None else None
        if failure is not None and (self._download is None or failure != self._download.failure):
            self.notice.show_message(failure.message, failure.advice, failure.detail)
        self._download, self._downloaded = state, source
        self._show_download()

    def _show_download(self) -> None:
        self.source.show_download(self._download, needed=self._needed, source=self._downloaded)

    def render_catalogue(self, lines: Sequence[CatalogueLine], card: str) -> None:
        """Show the catalogue, judged for a card; `card` is its name, empty where there is none."""
        self._lines = tuple(in_order(lines))
        self._show_lines()
        on = (
            say("What fits {card} with the settings of this run.", card=card)
            if card
            else say("Choose a card in Settings to see which of them fit.")
        )
        self._card.setText(on)
        if self._unloaded is not None:
            self._render_facts()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave parts of the totals out where the window is narrow: which way is which matters more."""
        super().resizeEvent(event)
        narrow = event.size().width() < _NARROW
        for index in (2, 3):
            self._method_table.setColumnHidden(index, narrow)
        self.table.setColumnHidden(1, narrow)
        self.table.setColumnHidden(4, event.size().width() < _MIDDLE)
        self.table.share_width()

    def render_methods(self, lines: Sequence[MethodLine]) -> None:
        """Show the ways to train the chosen model; none hides them."""
        self.methods.set_rows(tuple(lines))
        self._methods.setVisible(bool(lines))

    def _render_facts(self) -> None:
        facts, config = self._facts, self._config
        before = self._unloaded is not None
        self._about_card.title_label.setText(say("Before you download it") if before else say("About this model"))
        if self._unloaded is not None:
            judged = next((line for line in self._lines if line.id == self._unloaded.id), None)
            self.grid.show_facts(needed_pairs(self._unloaded, config, judged))
        self.set_heading(model_title(config.model.source), model_summary(facts) if facts else self._subtitle_without())
        self.continue_button.setEnabled(facts is not None)
        self.template_text.setText(template_text(facts) if facts else "")
        self.template_button.setVisible(bool(facts and facts.chat_template))
        self.template.setPlainText((facts.chat_template or "") if facts else "")
        self._known.setVisible(facts is not None)
        self._unknown.setVisible(facts is None)
        self.four_bit.setText(four_bit_text(facts) if facts else "")
        known = facts is not None and facts.parameters > 0
        self.advice.setText(advice_text(facts.parameters) if facts and known else "")
        self.take_advice.setVisible(bool(facts and known and not follows_advice(config, facts.parameters)))

    def _subtitle_without(self) -> str:
        if not self._config.model.source:
            return say("What should learn? Start here.")
        return say("not on this computer yet") if self._needed else say("nothing is known of it")

    def _about(self) -> Card:
        card = self._about_card = Card(say("About this model"))
        self.grid = FactGrid()
        self._empty = Label(say("Choose a model above, or one of the list below."), "muted", wrap=True)
        card.add(self.grid, self._empty)
        card.body.addStretch(1)
        return card

    def _fitness(self) -> Card:
        card = Card(say("How it will be trained"))
        self.four_bit, self.advice = Label("", wrap=True), Label("", wrap=True)
        self.take_advice = Button(say("Use these"), "small")
        self.template_text = Label("", wrap=True)
        self.template_button = Button(say("Show the template"), "quiet", checkable=True)
        self.template = QPlainTextEdit()
        self.template.setReadOnly(True)
        wear_text(self.template, mono_font(), 12)
        self.template.setFixedHeight(180)
        self.template.setAccessibleName(say("Chat template"))
        self.template.hide()
        parts = {
            say("4-bit weights"): (self.four_bit,),
            say("Rank and learning rate"): (self.advice, self.take_advice),
            say("Chat template"): (self.template_text, self.template_button, self.template),
        }
        self._unknown, self._known = Label(say("Known once the model is here."), "muted", wrap=True), QWidget()
        box = column(self._known)
        for title, about in parts.items():
            if box.count():
                box.addSpacing(4)
            for part in (Label(title, "muted"), *about):
                box.addWidget(part)
        card.add(self._unknown, self._known)
        card.body.addStretch(1)
        return card

    def _comparison(self) -> Card:
        self._methods = Card(say("Memory by training method"))
        text = say("Graphics memory with this run's settings; computed for this model.")
        self.methods = TableModel(_METHODS)
        table = self._method_table = Table(self.methods, name=say("Ways to train the model"))
        table.setFixedHeight(4 * ROW_HEIGHT + 2)
        self._methods.add(Label(text, "caption", wrap=True), table)
        self._methods.hide()
        return self._methods

    def _catalogue(self) -> Card:
        card = Card(say("Models that people start from"))
        self.catalogue = TableModel(_COLUMNS)
        self._card = Label("", "caption", wrap=True)
        self.search = QLineEdit()
        self.search.setProperty("searches", True)
        self.search.setPlaceholderText(say("Filter"))
        self.search.setAccessibleName(say("Filter the models"))
        self.search.setMinimumWidth(72)
        self.search.setMaximumWidth(150)
        card.add_header(self.search)
        self.use_selected = Button(say("Use it"), "small", tip=say("Choose the selected model"))
        self.use_selected.setAccessibleName(say("Use the selected model"))
        self.use_selected.setEnabled(False)
        card.add_header(self.use_selected)
        self.table = Table(self.catalogue, name=say("Models"))
        self.table.setMinimumHeight(260)
        card.add(self._card, self.table)
        return card

    def _connect(self) -> None:
        self.local.source_requested.connect(lambda source: self.source.source_requested.emit(source, ""))
        self.take_advice.clicked.connect(self.advice_requested)
        self.template_button.toggled.connect(self.template.setVisible)
        self.continue_button.clicked.connect(self.continue_requested)
        self.search.textChanged.connect(self._show_lines)
        self.table.activated.connect(self._use_selected)
        self.table.selectionModel().selectionChanged.connect(self._on_selection_changed)
        self.catalogue.modelReset.connect(self._on_selection_changed)
        self.use_selected.clicked.connect(self._use_selected)

    def _show_lines(self) -> None:
        self.catalogue.set_rows(tuple(line for line in self._lines if matches(line, self.search.text())))

    def _on_selection_changed(self) -> None:
        self.use_selected.setEnabled(bool(self.table.selectionModel().selectedRows()))

    def _use_selected(self) -> None:
        for index in self.table.selectionModel().selectedRows()[:1]:
            self.source.source_requested.emit(self.catalogue.row(index.row()).id, "")


def _licence(line: CatalogueLine) -> str:
    return say("{licence}, ask first", licence=line.licence) if line.gated else line.licence
