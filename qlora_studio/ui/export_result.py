"""What an export left: the folder, how to serve it, and whether it was found to be right."""

from collections.abc import Sequence

from PySide6.QtCore import Signal

from qlora_studio.core.events import Exported
from qlora_studio.core.quantity import bytes_text, duration_text
from qlora_studio.ui.copy_block import CopyBlock
from qlora_studio.ui.export_view import RunChoice, commands_for
from qlora_studio.ui.plain_text import Label
from qlora_studio.ui.theme import mono_font
from qlora_studio.ui.widgets import Button, Card, Chip, Rule


class ExportResult(Card):
    """One export.

    Signals:
        folder_requested: open its folder.
    """

    folder_requested = Signal(str)

    def __init__(self, exported: Exported, title: str, run: RunChoice) -> None:
        super().__init__(title)
        self.exported = exported
        self.chip = Chip("written", "plain")
        self.open_button = Button("Open folder", "small")
        self.open_button.clicked.connect(lambda: self.folder_requested.emit(exported.path))
        self.header.insertWidget(1, self.chip)
        self.add_header(Label(_facts(exported), "caption"), self.open_button)
        path = Label(exported.path, wrap=True, selectable=True)
        path.setFont(mono_font(12))
        self.add(path)
        commands = commands_for(exported, run)
        for number, command in enumerate(commands):
            self.add(Rule() if number == 0 else _gap(), CopyBlock(command.program, command.text))
            if command.note:
                self.add(Label(command.note, "caption", wrap=True))

    def show_verified(self, word: str, tone: str) -> None:
        """Say what the verification found."""
        self.chip.show_word(word, tone)


def results_of(exports: Sequence[Exported], shown: Sequence[ExportResult]) -> tuple[Exported, ...]:
    """Return the exports that have no card yet."""
    known = {card.exported.path for card in shown}
    return tuple(item for item in exports if item.path not in known)


def _facts(exported: Exported) -> str:
    parts = [bytes_text(exported.size_bytes)]
    seconds = exported.facts.get("seconds")
    parts += [f"in {duration_text(float(seconds))}"] if seconds else []
    peak = exported.facts.get("peak_rss_bytes")
    parts += [f"{bytes_text(int(peak))} of memory at most"] if peak else []
    return " · ".join(parts)


def _gap() -> Label:
    gap = Label("")
    gap.setFixedHeight(2)
    return gap
