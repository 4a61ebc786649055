"""A command or a text to take elsewhere, with a button that copies it."""

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame

from qlora_studio.ui.kit.plain_text import Label
from qlora_studio.ui.kit.theme import mono_font
from qlora_studio.ui.kit.widgets import Button, column, row


class CopyBlock(QFrame):
    """A title, a text in fixed width, and Copy."""

    def __init__(self, title: str = "", text: str = "") -> None:
        super().__init__()
        self._title = Label(title, "caption")
        self._text = Label(text, wrap=True, selectable=True)
        self._text.setFont(mono_font(12))
        self.copy_button = Button("Copy", "quiet", tip="Copy the text to the clipboard")
        self.copy_button.clicked.connect(self._on_copy_clicked)
        box = column(self, spacing=1)
        head = row()
        head.addWidget(self._title)
        head.addStretch(1)
        head.addWidget(self.copy_button)
        box.addLayout(head)
        box.addWidget(self._text)
        self.show_text(title, text)

    def show_text(self, title: str, text: str) -> None:
        """Show another text."""
        self._title.setText(title)
        self._text.setText(text)
        self.copy_button.setAccessibleName(f"Copy: {title}")

    def _on_copy_clicked(self) -> None:
        QGuiApplication.clipboard().setText(self._text.text())
