"""The page of what the user chooses once, for all runs; and what the program is."""

from collections.abc import Iterator, Mapping, Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QWidget

from qlora_studio.core.words import say
from qlora_studio.storage.languages import ENGLISH
from qlora_studio.storage.network import VARIABLE
from qlora_studio.storage.settings import Settings
from qlora_studio.ui.kit.fields import CheckBox, ComboBox, PathField, words_beside, words_of
from qlora_studio.ui.kit.layouts import SideBySide
from qlora_studio.ui.kit.tables import FactGrid
from qlora_studio.ui.kit.text import Label, set_tooltip
from qlora_studio.ui.kit.widgets import Button, Card, Rule, column
from qlora_studio.ui.window.page import GUTTER, Page

_THEMES = {"system": say("As the desktop"), "light": say("Light"), "dark": say("Dark")}
_TEXT_SIZES = {"small": say("Small"), "usual": say("Usual"), "large": say("Large"), "largest": say("Largest")}
_IDLE_WORKERS = {"kept": say("While nothing runs"), "none": say("Never")}
_IDLE_WORKER_HELP = say(
    "Training starts some seconds sooner. It takes 0.5 GB of memory and none of the card. "
    "None is kept on battery, with less than 16 GB of memory, or on Windows."
)
_PRIVACY = say(
    "Everything stays on this computer. The program sends no telemetry, and the libraries' telemetry is off. The "
    "network is used only when you ask for it: for a model or a dataset of the hub, or to upload an export."
)
_OFFLINE_HELP = say("No network at all. Models and datasets that were downloaded before can be used.")
_FIELD_WIDTH = 200
_ABREAST = 860  # pixels, from which on there are two columns


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

    def _made(self) -> Iterator[None]:
        self.set_heading(say("Settings"), say("Chosen once, for all runs"))
        self._for_report = ""
        left, right = QWidget(), QWidget()
        self.body.addWidget(SideBySide(left, right, breakpoint=_ABREAST, spacing=GUTTER))
        self.body.addStretch(1)
        for side, cards in (
            (left, (self._appearance, self._runs, self._models)),
            (right, (self._network, self._about)),
        ):
            box = column(side, spacing=GUTTER)
            for card in cards:
                box.addWidget(card())
                yield
            box.addStretch(1)
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
        self._language_line.setVisible(len(names) > 1)
        self.language.set_choices(dict(names))

    def render_cards(self, assumable: Sequence[str]) -> None:
        """Show the cards to assume, by name."""
        chosen = self.assumed.value()
        self.assumed.set_choices({"": say("This computer's card"), **{name: name for name in assumable}})
        self.assumed.set_value(chosen)

    def render_about(self, versions: Sequence[tuple[str, str]], folders: Sequence[tuple[str, str]]) -> None:
        """Show versions, and where things are kept."""
        self.versions.show_facts(versions)
        self.folders.show_facts(folders)
        self._for_report = "\n".join(f"{word}: {value}" for word, value in versions)

    def _appearance(self) -> Card:
        self.theme, self.text_size, self.language = ComboBox(_THEMES), ComboBox(_TEXT_SIZES), ComboBox()
        self._language_line = _line(self.language, say("Language"), say("From the next start of the program on."))
        return _card(
            say("Appearance"),
            _line(self.theme, say("Theme"), say("Light, dark, or as the desktop is.")),
            _line(self.text_size, say("Size of text"), say("Of everything in the window.")),
            self._language_line,
        )

    def _runs(self) -> Card:
        help = say("Where new runs are kept. Those that exist stay where they are.")
        self.runs_dir = PathField(say("Where runs are kept"), folder=True, caption=say("Folder of runs"))
        self.open_runs = Button(say("Open the folder"), "quiet")
        self.tell_endings, self.idle_worker = CheckBox(), ComboBox(_IDLE_WORKERS)
        return _card(
            say("Runs"),
            _line(self.runs_dir, say("Folder of runs"), help, below=(self.runs_dir, self.open_runs)),
            _line(
                self.tell_endings,
                say("Notify when a run ends"),
                say("By the desktop, while the window is not in front."),
            ),
            _line(self.idle_worker, say("Keep a worker ready"), _IDLE_WORKER_HELP),
        )

    def _models(self) -> Card:
        self.assumed, self.keep_bases = ComboBox({"": say("This computer's card")}), CheckBox()
        self.kept, self.remove_bases = Label("", "caption", wrap=True), Button(say("Remove them"), "quiet")
        return _card(
            say("Card and models"),
            _line(self.assumed, say("Estimate for"), say("Another card that you plan to use, instead of this one.")),
            _line(
                self.keep_bases,
                say("Keep quantized base models"),
                say("The next run on the same base reads a third as much, and quantizes nothing."),
                below=(self.kept, self.remove_bases),
            ),
        )

    def _network(self) -> Card:
        self.offline = CheckBox()
        card = _card(say("Network"), _line(self.offline, say("Offline"), _OFFLINE_HELP))
        card.add(Rule())
        card.body.addSpacing(9)
        card.add(Label(_PRIVACY, "muted", wrap=True))
        return card

    def _about(self) -> Card:
        card = Card(say("About"))
        self.versions, self.folders = FactGrid(), FactGrid()
        self.copy_button = Button(say("Copy"), "quiet", tip=say("Copy the versions for a bug report"))
        card.add_header(self.copy_button)
        card.add(self.versions, Rule(), self.folders)
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


def _card(title: str, *lines: QWidget) -> Card:
    """Settings below each other."""
    card = Card(title)
    card.body.setSpacing(0)
    for line in lines:
        card.add(line)
    return card


def _line(field: QWidget, title: str, help: str, *, below: Sequence[QWidget] = ()) -> QWidget:
    """A setting with its words: its field is beside them, or among what is `below` them."""
    line = QWidget()
    box = column(line, margins=(0, 9, 0, 9), spacing=6)
    if field in below:
        box.addLayout(words_of(field, title, help))
    else:
        box.addLayout(words_beside(field, title, help))
        field.setFixedWidth(field.sizeHint().width() if isinstance(field, CheckBox) else _FIELD_WIDTH)
    for widget in below:
        box.addWidget(widget)
    return line
