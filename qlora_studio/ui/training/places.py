"""The settings of a run as entries of the palette, from the run config's own words."""

from collections.abc import Iterator
from functools import partial

from qlora_studio.core.words import say
from qlora_studio.ui.kit.fields import number_text
from qlora_studio.ui.training.form import SettingsSection
from qlora_studio.ui.training.page import TrainingPage
from qlora_studio.ui.training.setting_line import SettingLine
from qlora_studio.ui.window.entries import Entry
from qlora_studio.ui.window.main_window import MainWindow

_LONGEST = 24  # letters of a value that is shown


def setting_entries(window: MainWindow, page: TrainingPage) -> Iterator[Entry]:
    """Return every setting of the form, the folded ones too, each with its value."""
    for section in page.form.sections:
        where = f"{page.title} · {section.title_label.text()}"
        for path, line in section.lines.items():
            value = _value_text(line)
            words = f"{line.info.help} {path} {line.info.unit}"
            go = partial(_go, window, page, section, path)
            yield Entry(line.info.title, where, go, note=value if len(value) <= _LONGEST else "", words=words)


def _value_text(line: SettingLine) -> str:
    value = line.value()
    if isinstance(value, bool):
        return say("on") if value else say("off")
    if isinstance(value, float):
        return number_text(value)
    return line.info.choices.get(str(value), "" if isinstance(value, list | dict) else str(value))


def _go(window: MainWindow, page: TrainingPage, section: SettingsSection, path: str) -> None:
    window.show_page(page.name)
    section.unfold_for(path)
    page.focus_on(section.lines[path].field)
