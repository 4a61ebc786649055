"""Questions over the window, and the buttons of dialogs: texts are shown literally, and one button stands out."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont, QShowEvent
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QMessageBox, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.fonts import BASE_PIXELS, text_font, wear_text
from qlora_studio.ui.kit.letters import give_letters
from qlora_studio.ui.kit.widgets import Button, PrimaryButton

Answer = tuple[str, str]  # its word, and the kind of its button: primary, danger or plain
_LEAST_WIDTH = 400  # pixels of the text, so that it does not break early
_ROLES = {
    "primary": QMessageBox.ButtonRole.AcceptRole,
    "danger": QMessageBox.ButtonRole.DestructiveRole,
    "plain": QMessageBox.ButtonRole.ActionRole,
}


class Question(QMessageBox):
    """Asks what is to be done. The last answer leaves all as it is: it is *Cancel* where no other word is given.

    Enter gives the `usual` answer, by its number; as long as none is given, the last one. Esc gives the last one, too.
    """

    def __init__(
        self,
        parent: QWidget | None,
        title: str,
        text: str,
        more: str,
        answers: Sequence[Answer],
        *,
        leave: str = "",
        usual: int | None = None,
    ) -> None:
        super().__init__(parent)
        self.finished.connect(self.deleteLater)  # in the next turn: nothing is left of what was answered
        self.setWindowTitle(title)
        self.setText(text)
        self.setInformativeText(more)
        self.setTextFormat(Qt.TextFormat.PlainText)
        for label in self.findChildren(QLabel):  # of the text above and of the one below, which older Qt took for HTML
            label.setTextFormat(Qt.TextFormat.PlainText)
            if label.text():
                label.setMinimumWidth(_LEAST_WIDTH)
            if label.text() == text:
                wear_text(label, text_font(QFont.Weight.DemiBold), BASE_PIXELS)
        self._answers = tuple(Button(word, kind) for word, kind in answers)
        for button, (_word, kind) in zip(self._answers, answers, strict=True):
            self.addButton(button, _ROLES[kind])
        self._leave = Button(leave or say("Cancel"))  # Qt takes no buttons of others for its own: they are kept here
        self.addButton(self._leave, QMessageBox.ButtonRole.RejectRole)
        self.setEscapeButton(self._leave)
        self.setDefaultButton(self._leave if usual is None else self._answers[usual])

    def ask(self) -> int | None:
        """Return the number of the answer that was given; None where all is to be left as it is."""
        self.exec()
        clicked = self.clickedButton()
        return next((number for number, button in enumerate(self._answers) if button is clicked), None)

    def showEvent(self, event: QShowEvent) -> None:
        """Give its buttons letters once they have their words."""
        give_letters(self)
        super().showEvent(event)


class DialogButtons(QDialogButtonBox):
    """The buttons below a dialog, in the desktop's order: the one that does it, if any, and the one that leaves."""

    def __init__(self, dialog: QDialog, accept: str = "", *, leave: str = "") -> None:
        super().__init__()
        roles = QDialogButtonBox.ButtonRole
        self._does, self._leave = PrimaryButton(accept), Button(leave or say("Cancel"))
        if accept:
            self.addButton(self._does, roles.AcceptRole)
            self._does.setDefault(True)
        self.addButton(self._leave, roles.RejectRole)
        self.accepted.connect(dialog.accept)
        self.rejected.connect(dialog.reject)
