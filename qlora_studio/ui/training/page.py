"""The page of the settings: a form out of the run config's own fields, what follows from them, and Start."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QMenu, QWidget

from qlora_studio.core.config.run_config import DatasetSource, RunConfig, all_settings
from qlora_studio.core.data.report import DataReport
from qlora_studio.core.errors import InvalidRunConfig, Problem
from qlora_studio.core.memory.step_rate import StepRate
from qlora_studio.core.run.titles import datasets_title, model_title
from qlora_studio.core.words import say
from qlora_studio.storage.drive_space import DriveSpace
from qlora_studio.ui.kit.disk_lines import DiskLines
from qlora_studio.ui.kit.fields import ComboBox, LineEdit
from qlora_studio.ui.kit.layouts import SideBySide, TileGrid
from qlora_studio.ui.kit.text import Label, set_tooltip
from qlora_studio.ui.kit.widgets import Button, Card, PrimaryButton, StatTile, column, row
from qlora_studio.ui.readiness.changes import changes
from qlora_studio.ui.readiness.steps import Step
from qlora_studio.ui.state.draft import Offer, Taken
from qlora_studio.ui.training.form import SettingsForm
from qlora_studio.ui.training.takeover import TakeoverCard
from qlora_studio.ui.training.view import tiles
from qlora_studio.ui.window.page import GUTTER, Page

_ON_DATA_PAGE = (*DatasetSource.model_fields, "more", "duplicates", "exclude", "bad_rows")
# On other pages, and the panel.
_ELSEWHERE = (*(f"data.{name}" for name in _ON_DATA_PAGE), "export.formats", "hardware.gpus")
_SETTINGS = tuple(info for info in all_settings() if info.path not in _ELSEWHERE)
_LEFT = {
    "lora": say("What is learned"),
    "quantization": say("How the base model is loaded"),
    "data": say("Template, and what is held out"),
    "hardware": say("Several graphics cards"),
}
_RIGHT = {
    "training": say("How it is learned"),
    "evaluation": say("Measuring on the way"),
    "checkpoint": say("Keeping the work safe"),
    "export": say("At the end"),
}


@dataclass(frozen=True)
class PresetLine:
    """A preset as a button."""

    name: str
    title: str
    description: str


class TrainingPage(Page):
    """Shows the draft as a form, whose `changed` says which setting the user wants how.

    Signals:
        preset_requested: take a preset by its name.
        start_requested: start the draft as a run.
        queue_requested: put it into the queue.
        elsewhere_requested: have it trained on another computer.
    """

    name = "training"
    title = say("Training")

    preset_requested = Signal(str)
    start_requested = Signal()
    queue_requested = Signal()
    elsewhere_requested = Signal()

    def _made(self) -> Iterator[None]:
        self._config = RunConfig()
        self._report: DataReport | None = None
        self._reading = False
        self._told: tuple[Problem, ...] = ()  # on top
        self._are_refused = False  # the texts of fields
        self._rate: StepRate | None = None
        self.more_button = Button(say("More"), tip=say("More ways to train"))
        menu = QMenu(self.more_button)
        menu.addAction(say("Run elsewhere …"), self._on_elsewhere_triggered)
        self.more_button.setMenu(menu)
        self.more_button.setProperty("menu", "true")
        self.add_action(self.more_button)
        self.queue_button = Button(
            say("Add to queue"), tip=say("It starts by itself when the runs before it have ended")
        )
        self.add_action(self.queue_button)
        self.start_button = PrimaryButton(say("Start training"))
        self.add_action(self.start_button)
        self.form = SettingsForm()
        self.run_name = LineEdit()
        self.run_name.setAccessibleName(say("Name of the run"))
        self.run_name.setMaxLength(80)
        self.run_name.setMinimumWidth(100)
        self.run_name.setMaximumWidth(240)
        self.presets = ComboBox()
        self.presets.setAccessibleName(say("Preset"))
        self.presets.setSizeAdjustPolicy(ComboBox.SizeAdjustPolicy.AdjustToContents)
        self.presets.setMaximumWidth(260)
        self._preset_words: dict[str, str] = {}
        yield
        self.body.addWidget(self._make_name_card())
        self.takeover = TakeoverCard()
        self.body.addWidget(self.takeover)
        yield
        self._tiles = tuple(StatTile(tile.title) for tile in tiles(self._config, None))
        self.body.addWidget(TileGrid(self._tiles, columns=(6, 3), least=172))
        self.disk = DiskLines()
        self.body.addWidget(self.disk)
        yield
        yield from self._build_form()
        self._connect()
        self.render_config(self._config)

    def _connect(self) -> None:
        self.presets.chosen.connect(self._on_preset_chosen)
        self.run_name.told.connect(self._on_name_edited)
        self.start_button.clicked.connect(self._on_start_clicked)
        self.queue_button.clicked.connect(self.queue_requested)

    def render_config(self, config: RunConfig) -> None:
        """Show the draft."""
        self._config = config
        self.form.render_config(config)
        self.run_name.show_text(config.name)
        model, data = config.model.source, config.data.path
        parts = [
            model_title(model) if model else say("no model yet"),
            datasets_title(config) if data else say("no dataset yet"),
        ]
        self.set_heading(say("Training"), " · ".join(parts))
        self._render_tiles()

    def render_dataset(self, report: DataReport | None, *, reading: bool = False) -> None:
        """Take what is known of the draft's rows; None where that is being computed (`reading`), or was never asked."""
        if (report, reading) != (self._report, self._reading):
            self._report, self._reading = report, reading
            self._render_tiles()

    def render_step(self, step: Step) -> None:
        """Say at Start why it cannot be done yet, or what is not known yet."""
        set_tooltip(self.start_button, step.text)
        self.start_button.setAccessibleDescription(step.text)

    def render_rate(self, rate: StepRate | None) -> None:
        """Take how fast the card is predicted to be, None where that is not known."""
        self._rate = rate
        self._render_tiles()

    def render_drives(self, drives: Sequence[DriveSpace]) -> None:
        """Show what the run will write, drive by drive."""
        self.disk.show_drives(drives)

    def render_presets(self, presets: Sequence[PresetLine]) -> None:
        """Offer presets to begin with."""
        self._preset_words = {preset.name: preset.description for preset in presets}
        self.presets.set_choices({"": say("Presets …"), **{preset.name: preset.title for preset in presets}})
        self.presets.setVisible(bool(presets))

    def render_preset(self, name: str) -> None:
        """Show which preset the draft is, or that it is none."""
        self.presets.set_value(name)
        self._preset_note.setText(self._preset_words.get(name, ""))
        self._preset_note.setVisible(bool(name))

    def render_takeover(self, offer: Offer | None, taken: Taken | None) -> None:
        """Show what is offered, or what was taken and can be undone."""
        if offer is not None:
            self.takeover.show_offer(offer.title, changes(self._config, offer.config), offer.note)
        elif taken is not None:
            self.takeover.show_taken(taken.title, changes(taken.before, taken.after))
        else:
            self.takeover.hide()

    def render_problems(self, problems: Sequence[Problem]) -> None:
        """Show every problem at its field, and those without a field here on top."""
        elsewhere = self.form.render_problems(problems)
        if elsewhere:
            self._tell(elsewhere)
        elif not problems:
            self.clear_error()

    def render_still_wrong(self, problems: Sequence[Problem]) -> None:
        """Take back what stands on top and was mended meanwhile; `problems` is all that is wrong now."""
        now = {_about(problem): problem for problem in (*problems, *self.form.refused())}
        still = tuple(dict.fromkeys(now[_about(told)] for told in self._told if _about(told) in now))
        if still and still != self._told:
            self._say(still, are_refused=self._are_refused)
        elif still != self._told:
            self.clear_error()

    def show_error(self, error: Exception) -> None:
        """Show an error on top."""
        self._told = ()
        super().show_error(error)

    def clear_error(self) -> None:
        """Show none."""
        self._told = ()
        super().clear_error()

    def render_busy(self, busy: bool) -> None:
        """Say on the button whether a run is at work already."""
        self.start_button.setText(say("Start beside the other") if busy else say("Start training"))

    def _on_start_clicked(self) -> None:
        if self._is_right():
            self.start_requested.emit()

    def _on_elsewhere_triggered(self) -> None:
        if self._is_right():
            self.elsewhere_requested.emit()

    def _is_right(self) -> bool:
        """Whether every field holds a value; else the page says which does not."""
        self.clear_error()
        if refused := self.form.refused():
            self._tell(refused, are_refused=True)
        return not refused

    def _tell(self, problems: tuple[Problem, ...], *, are_refused: bool = False) -> None:
        """Show problems on top: of texts that were refused by the names of their fields, all others by themselves."""
        self.show_error(InvalidRunConfig(problems))
        self._say(problems, are_refused=are_refused)

    def _say(self, problems: tuple[Problem, ...], *, are_refused: bool) -> None:
        if are_refused:
            titles = {info.path: info.title for info in all_settings()}
            words = "\n".join(f"{titles.get(item.field, item.field)}: {item.message}" for item in problems)
            self.notice.show_message(say("Some settings are not right yet."), words)
        else:
            lines = "\n".join(problem.message for problem in problems)
            self.notice.show_message(lines, say("Then start again.") if len(problems) > 1 else "")
        self._told, self._are_refused = problems, are_refused

    def _on_preset_chosen(self, name: str) -> None:
        self.clear_error()
        self.preset_requested.emit(name)

    def _on_name_edited(self) -> None:
        if self.run_name.text().strip() != self._config.name:
            self.form.changed.emit("name", self.run_name.text().strip())

    def _render_tiles(self) -> None:
        for tile, view in zip(
            self._tiles, tiles(self._config, self._report, self._rate, reading=self._reading), strict=True
        ):
            tile.show_value(view.value, view.note, view.tone)

    def _make_name_card(self) -> Card:
        card = Card()
        line = row(spacing=12)
        label = Label(say("Name of the run"), "muted")
        label.setBuddy(self.run_name)
        line.addWidget(label)
        line.addWidget(self.run_name, 2)
        line.addStretch(1)
        line.addWidget(self.presets)
        card.body.addLayout(line)
        self._preset_note = Label("", "caption", wrap=True)
        self._preset_note.hide()
        card.add(self._preset_note)
        return card

    def _build_form(self) -> Iterator[None]:
        left, right = QWidget(), QWidget()
        self.body.addWidget(SideBySide(left, right, breakpoint=640))  # before they are full: what moves takes all along
        self.body.addStretch(1)
        for whole, sections in ((left, _LEFT), (right, _RIGHT)):
            box = column(whole, spacing=GUTTER)
            for name, title in sections.items():
                infos = [info for info in _SETTINGS if info.section == name]
                section = self.form.add_section(title, infos, at_once=False)
                box.addWidget(section)
                yield from section.steps
            box.addStretch(1)


def _about(problem: Problem) -> tuple[str, str]:
    """What a problem is about: a field, whatever stands in it by now, or else what is said."""
    return problem.field, "" if problem.field else problem.message
