"""The page of what the user chooses once, for all runs; and what the program is."""

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QWidget

from qlora_studio.core.words import say
from qlora_studio.storage.languages import ENGLISH
from qlora_studio.storage.network import VARIABLE
from qlora_studio.storage.settings import Settings
from qlora_studio.ui.kit.fields import CheckBox, ComboBox, PathField
from qlora_studio.ui.kit.layouts import SideBySide
from qlora_studio.ui.kit.tables import FactGrid
from qlora_studio.ui.kit.text import Label, set_tooltip
from qlora_studio.ui.kit.widgets import Button, Card, Rule
from qlora_studio.ui.window.page import Page

_THEMES = {"system": say("As the desktop"), "light": say("Light"), "dark": say("Dark")}
_TEXT_SIZES = {"small": say("Small"), "usual": say("Usual"), "large": say("Large"), "largest": say("Largest")}
_IDLE_WORKERS = {"kept": say("Kept while nothing is at work"), "none": say("Never")}
_IDLE_WORKER_HELP = say(
    "Training starts some seconds sooner. It takes half a gigabyte of memory and none of the "
    "card; there is none on a battery, with less than 16 GB of memory, or on Windows."
)
_PRIVACY = say(
    "Everything stays on this machine. The program reports nothing, opens no port, and reaches "
    "the network only when you ask for a model or a dataset of the hub, or upload an export. The "
    "libraries' own reporting is switched off."
)
_OFFLINE_HELP = say(
    "Reaches nothing but this machine, whatever is asked for. Models and datasets that were fetched before can be used."
)


class SettingsPage(Page):
    """Shows the settings.

    Signals:
        settings_requested: values by name, as in `storage.settings.Settings`.
        folder_requested: open a folder on the desktop.
        removal_requested: remove the bases in 4 bits that are kept.
    """

    name = "settings"
    title = say("Settings")

    settings_requested = Signal(dict)
    folder_requested = Signal(str)
    removal_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.set_heading(say("Settings"), say("Chosen once, for all runs"))
        self.theme = ComboBox(_THEMES)
        self.text_size = ComboBox(_TEXT_SIZES)
        self.language = ComboBox()
        self.runs_dir = PathField(say("Where runs are kept"), folder=True, caption=say("Folder of runs"))
        self.open_runs = Button(say("Show the runs"), "small")
        self.assumed = ComboBox({"": say("The card of this machine")})
        self.idle_worker = ComboBox(_IDLE_WORKERS)
        self.keep_bases = CheckBox(say("Keep bases in 4 bits"))
        self.tell_endings = CheckBox(say("Tell on the desktop when a run has ended"))
        self.kept = Label("", "caption", wrap=True)
        self.remove_bases = Button(say("Remove them"), "small")
        self.offline = CheckBox(say("Offline"))
        self.versions, self.folders = FactGrid(), FactGrid()
        self._for_report = ""
        self._build()
        self._connect()

    def render_settings(self, settings: Settings) -> None:
        """Show the settings."""
        self.theme.set_value(settings.theme)
        self.text_size.set_value(settings.text_size)
        self.language.set_value(settings.language or ENGLISH)
        self.runs_dir.set_text(str(settings.runs_path))
        self.assumed.set_value(settings.assumed_gpu)
        self.idle_worker.set_value(settings.idle_worker)
        self.keep_bases.setChecked(settings.keep_bases)
        self.tell_endings.setChecked(settings.tell_endings)

    def render_network(self, *, offline: bool, decided: bool) -> None:
        """Show whether the network is switched off; where the environment decided that, it cannot be changed here."""
        self.offline.setChecked(offline)
        self.offline.setEnabled(not decided)
        set_tooltip(self.offline, say("The environment decides: {name} is set", name=VARIABLE) if decided else "")

    def render_kept(self, words: str, *, removable: bool) -> None:
        """Show what bases in 4 bits take in the cache."""
        self.kept.setText(words)
        self.remove_bases.setEnabled(removable)

    def render_languages(self, names: Mapping[str, str]) -> None:
        """Show the languages that there are, by the names that they have for themselves; one alone is no choice."""
        for part in self._language_parts:
            part.setVisible(len(names) > 1)
        self.language.set_choices(dict(names))

    def render_cards(self, assumable: Sequence[str]) -> None:
        """Show the cards to assume, by name."""
        chosen = self.assumed.value()
        self.assumed.set_choices({"": say("The card of this machine"), **{name: name for name in assumable}})
        self.assumed.set_value(chosen)

    def render_about(self, versions: Sequence[tuple[str, str]], folders: Sequence[tuple[str, str]]) -> None:
        """Show versions, and where things are kept."""
        self.versions.show_facts(versions)
        self.folders.show_facts(folders)
        self._for_report = "\n".join(f"{word}: {value}" for word, value in versions)

    def _build(self) -> None:
        self.body.addWidget(SideBySide(self._choices(), self._about()))
        self.body.addStretch(1)

    def _choices(self) -> Card:
        card = Card(say("Choices"))
        for title, field, help in (
            (say("Appearance"), self.theme, ""),
            (say("Size of text"), self.text_size, ""),
            (say("Language"), self.language, say("The program speaks it from its next start on.")),
            (say("Folder of runs"), self.runs_dir, say("Runs that exist stay where they are.")),
            (
                say("Judge estimates for"),
                self.assumed,
                say("A card that you plan to use, instead of the one in this machine."),
            ),
            (say("Process that waits for the next run"), self.idle_worker, _IDLE_WORKER_HELP),
        ):
            parts = self._add(card, title, field, help)
            if field is self.language:
                self._language_parts = parts
        card.add(self.tell_endings, self.keep_bases, self.kept, self.remove_bases)
        card.body.addStretch(1)
        return card

    def _add(self, card: Card, title: str, field: QWidget, help: str) -> tuple[QWidget, ...]:
        label = Label(title, "muted")
        label.setBuddy(field)
        field.setAccessibleName(title)
        parts = (label, field, Label(help, "caption", wrap=True)) if help else (label, field)
        card.add(*parts)
        card.body.addSpacing(6)
        return parts

    def _about(self) -> Card:
        card = Card(say("About"))
        self.copy_button = Button(say("Copy"), "quiet", tip=say("Copy the versions for a bug report"))
        card.add_header(self.copy_button)
        card.add(self.versions, Rule(), self.folders, self.open_runs, Rule(), Label(_PRIVACY, "muted", wrap=True))
        card.add(self.offline, Label(_OFFLINE_HELP, "caption", wrap=True))
        card.body.addStretch(1)
        return card

    def _connect(self) -> None:
        self.copy_button.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._for_report))
        self.open_runs.clicked.connect(lambda: self.folder_requested.emit(self.runs_dir.text()))
        self.theme.chosen.connect(lambda value: self.settings_requested.emit({"theme": value}))
        self.language.chosen.connect(lambda value: self.settings_requested.emit({"language": value}))
        self.text_size.chosen.connect(lambda value: self.settings_requested.emit({"text_size": value}))
        self.runs_dir.edited.connect(lambda value: self.settings_requested.emit({"runs_dir": value}))
        self.keep_bases.clicked.connect(lambda value: self.settings_requested.emit({"keep_bases": value}))
        self.tell_endings.clicked.connect(lambda value: self.settings_requested.emit({"tell_endings": value}))
        self.remove_bases.clicked.connect(self.removal_requested)
        self.offline.clicked.connect(lambda value: self.settings_requested.emit({"offline": value}))
        self.assumed.chosen.connect(lambda value: self.settings_requested.emit({"assumed_gpu": value}))
        self.idle_worker.chosen.connect(lambda value: self.settings_requested.emit({"idle_worker": value}))
