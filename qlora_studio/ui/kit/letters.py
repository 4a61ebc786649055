"""The letters that press buttons with Alt, and choose in menus without: dealt out, so that no two of a page collide.

They are dealt by the words that are shown, in whatever language, and stand in no text. A button keeps its letter.
"""

from collections.abc import Iterable

from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QLabel, QMenu, QPushButton, QWidget

_ORDER = ("primary", "plain", "danger", "pill", "small")  # kinds of buttons, what is pressed most first
_WITHOUT = "quiet"  # the kind of words that act: too many, and too light to be underlined
_HAS_LETTERS = "hasLetters"


def give_letters(part: QWidget) -> None:
    """Give a letter to every button of a page or dialog that has none yet, and to the menus there."""
    buttons = [
        button for button in part.findChildren(QPushButton) if button.text() and button.property("kind") != _WITHOUT
    ]
    taken = {_letter_of(button.shortcut()) for button in buttons}
    taken |= {_letter_of(QKeySequence.mnemonic(label.text())) for label in part.findChildren(QLabel) if label.buddy()}
    without = sorted((button for button in buttons if button.shortcut().isEmpty()), key=_rank)
    letters = dealt((plain(button.text()) for button in without), taken)
    for button, letter in zip(without, letters, strict=True):
        keep = getattr(button, "set_letter", None)  # of our own, whose text stays the word itself
        if keep is not None:
            keep(letter)
        else:
            button.setText(marked(plain(button.text()), letter))
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


def _give_menu_letters(menu: QMenu) -> None:
    actions = [action for action in menu.actions() if action.text()]
    texts = [plain(action.text()) for action in actions]
    for action, text, letter in zip(actions, texts, dealt(texts), strict=True):
        action.setText(marked(text, letter))


def _letter_of(keys: QKeySequence) -> str:
    return keys.toString().removeprefix("Alt+")


def _rank(button: QPushButton) -> int:
    kind = button.property("kind")
    return _ORDER.index(kind) if kind in _ORDER else 1
