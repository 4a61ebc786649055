"""Text that is shown as it is. Qt's labels and tooltips guess whether a text is HTML; none of ours ever is.

A dataset's `<img>` would be loaded and `<s>[INST]` would be struck through. Every label and tooltip
of the window is made here.
"""

import html

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QMessageBox, QSizePolicy, QWidget


class Label(QLabel):
    """A label that shows its text literally. `role` is the style: body, title, heading, muted, caption, number …"""

    def __init__(self, text: str = "", role: str = "body", *, wrap: bool = False, selectable: bool = False) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setWordWrap(wrap)
        if wrap:
            self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        if selectable:
            flags = Qt.TextInteractionFlag
            self.setTextInteractionFlags(flags.TextSelectableByMouse | flags.TextSelectableByKeyboard)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Show `text`; the same text again costs nothing."""
        if text != self.text():
            super().setText(text)

    def set_tone(self, tone: str) -> None:
        """Colour the text: ok, warn, bad, accent, muted, or nothing."""
        set_style_property(self, "tone", tone)


class ElidedLabel(Label):
    """A label on one line that ends in … where the room ends; its tooltip has the whole text."""

    def __init__(self, text: str = "", role: str = "body", *, middle: bool = False) -> None:
        self._whole = ""
        self._mode = Qt.TextElideMode.ElideMiddle if middle else Qt.TextElideMode.ElideRight
        super().__init__("", role)
        self.setMinimumWidth(24)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Show `text`, in one line."""
        self._whole = " ".join(text.split())
        self.setAccessibleName(self._whole)
        self._elide()

    def whole_text(self) -> str:
        """Return the text without its ellipsis."""
        return self._whole

    def resizeEvent(self, event: object) -> None:
        """Cut the text to the new width."""
        super().resizeEvent(event)  # type: ignore[arg-type]
        self._elide()

    def _elide(self) -> None:
        shown = self.fontMetrics().elidedText(self._whole, self._mode, max(0, self.width() - 2))
        QLabel.setText(self, shown)
        set_tooltip(self, self._whole if shown != self._whole else "")


def set_tooltip(widget: QWidget, text: str) -> None:
    """Give `widget` a tooltip that shows `text` literally, wrapped."""
    widget.setToolTip(tooltip(text))


def tooltip(text: str) -> str:
    """Return `text` as the rich text that shows it literally: for tooltips of item models."""
    return f"<p style='white-space:pre-wrap'>{html.escape(text)}</p>" if text else ""


def message_box(parent: QWidget | None, title: str, text: str, more: str = "") -> QMessageBox:
    """Return a message box whose texts are shown literally."""
    box = QMessageBox(parent)
    box.setWindowTitle(title)
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setText(text)
    box.setInformativeText(html.escape(more).replace("\n", "<br>"))  # Qt has no format of its own for this text
    return box


def set_style_property(widget: QWidget, name: str, value: str) -> None:
    """Set a property that the style sheet looks at, and let the widget look again where it changed."""
    if widget.property(name) == value:
        return
    widget.setProperty(name, value)
    widget.style().unpolish(widget)
    widget.style().polish(widget)
