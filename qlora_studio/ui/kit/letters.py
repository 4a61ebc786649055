"""The letters that press buttons with Alt, and choose in menus without: dealt out, so that no two of a page collide.

They are dealt by the words that are shown, in whatever language, and stand in no text. A button keeps its letter, and
shows it while Alt is down.
"""

from collections.abc import Iterable

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence, QWindow
from PySide6.QtWidgets import QApplication, QMenu, QPushButton, QStyleOptionButton, QWidget

_ORDER = ("primary", "plain", "danger", "pill", "small")  # kinds of buttons, what is pressed most first
_WITHOUT = "quiet"  # the kind of words that act: too many, and too light to be underlined
_HAS_LETTERS = "hasLetters"


class LetterButton(QPushButton):
    """A button that is pressed by Alt and a letter; `text` stays the word itself."""

    are_shown = False  # the letters of all buttons

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._letter = ""

    def set_letter(self, letter: str) -> None:
        """Be pressed by Alt and this letter, which is underlined while Alt is down, where the text has it."""
        self._letter = letter
        self.setShortcut(QKeySequence(f"Alt+{letter}" if letter else ""))

    def setText(self, text: str) -> None:
        """Show another text, and keep the letter."""
        super().setText(text)
        self.set_letter(self._letter)

    def initStyleOption(self, option: QStyleOptionButton) -> None:
        """Have the letter underlined while Alt is down."""
        super().initStyleOption(option)
        option.text = marked(plain(self.text()), self._letter if LetterButton.are_shown else "")


class AltKey(QObject):
    """Watches the window that has the focus: while Alt is down there, buttons show their letters."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        app = QGuiApplication.instance()
        assert isinstance(app, QGuiApplication)
        app.focusWindowChanged.connect(self.watch)  # dialogs, too

    def watch(self, window: QWindow | None) -> None:
        """Look at the keys of a window from now on."""
        _show_letters(False)  # of the one before nobody tells any more when Alt goes up
        if window is not None:
            window.removeEventFilter(self)
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """See Alt go down and up, and leave all to the window."""
        if isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Alt and not event.isAutoRepeat():
            _show_letters(event.type() == QEvent.Type.KeyPress)
        return False


def give_letters(part: QWidget) -> None:
    """Give a letter to every button of a page or dialog that has none yet, and to the menus there."""
    buttons = [
        button for button in part.findChildren(LetterButton) if button.text() and button.property("kind") != _WITHOUT
    ]
    taken = {_letter_of(button.shortcut()) for button in buttons}
    without = sorted((button for button in buttons if button.shortcut().isEmpty()), key=_rank)
    letters = dealt((plain(button.text()) for button in without), taken)
    for button, letter in zip(without, letters, strict=True):
        button.set_letter(letter)
    for menu in part.findChildren(QMenu):
        if not menu.property(_HAS_LETTERS):
            menu.setProperty(_HAS_LETTERS, True)
            menu.aboutToShow.connect(lambda menu=menu: _give_menu_letters(menu))


def dealt(words: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return a letter of each of the words, the first of one where it is free; "" where none is."""
    gone, letters = set(taken), []
    for word in words:
        wanted = (letter.upper() for letter in (*(part[0] for part in word.split()), *word) if letter.isalnum())
        letter = next((letter for letter in wanted if letter not in gone and len(letter) == 1), "")
        letters.append(letter)
        gone.add(letter)
    return letters


def plain(text: str) -> str:
    """Return a text of Qt without the marks of its letters."""
    return text.replace("&&", "\0").replace("&", "").replace("\0", "&")


def marked(text: str, letter: str) -> str:
    """Return a plain text as Qt wants it, with a letter marked: at the beginning of a word, where one begins so."""
    upper = text.upper()
    at = next((at for at in range(len(text)) if upper[at] == letter and (at == 0 or text[at - 1] == " ")), -1)
    at = upper.find(letter) if at < 0 and letter else at
    if at < 0 or len(upper) != len(text):
        return text.replace("&", "&&")
    return f"{text[:at].replace('&', '&&')}&{text[at:].replace('&', '&&')}"


def _show_letters(shown: bool) -> None:
    if shown == LetterButton.are_shown:
        return
    LetterButton.are_shown = shown
    for window in QApplication.topLevelWidgets():
        for button in window.findChildren(LetterButton) if window.isVisible() else ():
            button.update()


def _give_menu_letters(menu: QMenu) -> None:
    actions = [action for action in menu.actions() if action.text()]
    texts = [plain(action.text()) for action in actions]
    for action, text, letter in zip(actions, texts, dealt(texts), strict=True):
        action.setText(marked(text, letter))


def _letter_of(keys: QKeySequence) -> str:
    return keys.toString().removeprefix("Alt+")


def _rank(button: LetterButton) -> int:
    kind = button.property("kind")
    return _ORDER.index(kind) if kind in _ORDER else 1
