from PySide6.QtWidgets import QApplication

from qlora_studio.storage.settings import Settings
from qlora_studio.ui.kit.language import own_name
from qlora_studio.ui.settings.page import SettingsPage


def test_a_language_can_be_chosen_where_there_are_several(qapp: QApplication) -> None:
    page = SettingsPage()
    page.render_languages({name: own_name(name) for name in ("en", "de", "zz")})
    page.render_settings(Settings(language="de"))
    asked: list[dict[str, object]] = []
    page.settings_requested.connect(asked.append)
    assert page.language.isVisibleTo(page) and page.language.currentText() == "Deutsch"
    page.language.setCurrentIndex(2)
    page.language.activated.emit(2)
    assert asked == [{"language": "zz"}]


def test_english_alone_is_no_choice(qapp: QApplication) -> None:
    page = SettingsPage()
    page.render_languages({"en": "English"})
    assert not page.language.isVisibleTo(page)
