"""What Qt has to know of the language that is spoken: its direction, its name, and the words of Qt's own dialogs."""

from PySide6.QtCore import QLibraryInfo, QLocale, QTranslator
from PySide6.QtWidgets import QApplication

from qlora_studio.storage.languages import ENGLISH


def speak_as(app: QApplication, language: str) -> None:
    """Lay everything out in the direction of a language, and have Qt's own buttons and menus speak it where Qt does."""
    app.setLayoutDirection(QLocale(language).textDirection())
    translator = QTranslator(app)
    if translator.load(f"qtbase_{language}", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)):
        app.installTranslator(translator)


def own_name(language: str) -> str:
    """Return what a language calls itself, its code where Qt does not know it."""
    if language == ENGLISH:
        return "English"  # Qt's is of one country
    locale = QLocale(language)
    return language if locale.language() == QLocale.Language.C else locale.nativeLanguageName()
