"""A place to drop a file on, or to choose one from."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFileDialog, QFrame

from qlora_studio.ui.kit.plain_text import Label
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import Button, column, row


class DropZone(QFrame):
    """Takes one local file.

    Signals:
        dropped: its path.
    """

    dropped = Signal(str)

    def __init__(self, title: str, help: str, *, pattern: str = "") -> None:
        super().__init__()
        self._pattern, self._title = pattern, title
        self._over = False
        self.setAcceptDrops(True)
        self.setAccessibleName(title)
        box = column(self, margins=(24, 26, 24, 26), spacing=6)
        words = (Label(title, "strong", wrap=True), Label(help, "muted", wrap=True))
        for label in words:
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            box.addWidget(label)
        box.addSpacing(8)
        self.buttons = row(spacing=8)
        self.buttons.addStretch(1)
        self.choose = Button("Choose a file…")
        self.choose.clicked.connect(self._on_choose_clicked)
        self.buttons.addWidget(self.choose)
        self.buttons.addStretch(1)
        box.addLayout(self.buttons)

    def add_button(self, button: Button) -> None:
        """Put another way beside the file dialog."""
        self.buttons.insertWidget(self.buttons.count() - 1, button)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Welcome a local file."""
        urls = event.mimeData().urls()
        if len(urls) == 1 and urls[0].isLocalFile():
            self._over = True
            self.update()
            event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Look as before."""
        self._over = False
        self.update()

    def dropEvent(self, event: QDropEvent) -> None:
        """Take the file."""
        self._over = False
        self.update()
        event.acceptProposedAction()
        self.dropped.emit(event.mimeData().urls()[0].toLocalFile())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint a dashed frame."""
        theme, painter = active_theme(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.color("accent" if self._over else "control_line"), 1.4, Qt.PenStyle.DashLine))
        painter.setBrush(theme.color("selection" if self._over else "background"))
        painter.drawRoundedRect(self.rect().adjusted(1, 1, -1, -1), 8, 8)
        painter.end()

    def _on_choose_clicked(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, self._title, "", self._pattern)
        if path:
            self.dropped.emit(path)
