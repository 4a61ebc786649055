"""What an export left: the folder, how to serve it, and whether it was found to be right."""

from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from qlora_studio.core.quantity import bytes_text, duration_text
from qlora_studio.core.run.events import Exported
from qlora_studio.ui.export.copy_block import CopyBlock
from qlora_studio.ui.export.upload_panel import UploadPanel
from qlora_studio.ui.export.value_table import ValueTable
from qlora_studio.ui.export.view import (
    RunChoice,
    better_base,
    commands_for,
    compared_bases,
    measured_losses,
    verification_checks,
)
from qlora_studio.ui.kit.check_list import CheckList
from qlora_studio.ui.kit.plain_text import Label
from qlora_studio.ui.kit.theme import mono_font
from qlora_studio.ui.kit.widgets import Button, Card, Chip, Rule, column

_MEASURED = ("Loss", "Divergence")


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
        self.upload_button = Button("Upload…", "small", checkable=True)
        self.upload_button.toggled.connect(self._on_upload_toggled)
        self.panel = UploadPanel(exported.path)
        self.header.insertWidget(1, self.chip)
        self.add_header(self.upload_button, self.open_button)
        path = Label(exported.path, wrap=True, selectable=True)
        path.setFont(mono_font(12))
        self.add(path, Label(_facts(exported), "caption", wrap=True))
        self.add(self.panel)
        self.panel.hide()
        commands = commands_for(exported, run)
        for number, command in enumerate(commands):
            self.add(Rule() if number == 0 else _gap(), CopyBlock(command.program, command.text))
            if command.note:
                self.add(Label(command.note, "caption", wrap=True))
        self.checks, self._verdict = CheckList("Verification"), Label("", "title")
        self._verified = QWidget()
        box = column(self._verified, margins=(0, 6, 0, 0), spacing=6)
        self.losses, self._losses_title = ValueTable("Loss on the held-out rows", _MEASURED), Label("", "title")
        self.bases, self._bases_title = ValueTable("Which base to merge into", _MEASURED), Label("", "title")
        self._better = Label("", "caption", wrap=True)
        self._bases_title.setText("Which base to merge into")
        self._meaning = Label("Divergence: from the adapter as it was trained, in nats a token.", "caption", wrap=True)
        measured = (self._losses_title, self.losses, self._meaning, self._bases_title, self.bases, self._better)
        for part in (Rule(), self._verdict, self.checks, *measured):
            box.addWidget(part)
        self.add(self._verified)
        self.show_report({})

    def show_report(self, report: dict[str, Any]) -> None:
        """Show what the verification found; an empty report says that there was none."""
        checks = verification_checks(report)
        failed = sum(check.level == "error" for check in checks)
        right = bool(checks) and bool(report.get("verified", not failed))
        self.checks.show_checks(checks)
        losses, bases = measured_losses(report), compared_bases(report)
        self.losses.show_rows(losses)
        self.bases.show_rows(bases)
        self._better.setText(better_base(report))
        self._losses_title.setText(f"Measured on {int(report.get('tokens') or 0):,} held-out tokens")
        for part in (self.losses, self._losses_title, self._meaning):
            part.setVisible(bool(losses))
        for part in (self.bases, self._bases_title, self._better):
            part.setVisible(bool(bases))
        if self.panel.isVisible():
            self.panel.look()
        self._verified.setVisible(bool(checks))
        words = "all hold" if not failed else f"{failed} of {len(checks)} do not hold"
        self._verdict.setText(f"Verification: {words}" if checks else "")
        self._verdict.set_tone("ok" if right else "bad")
        self.chip.show_word(
            *(("verified", "ok") if right else ("not right", "bad") if checks else ("not verified", "plain"))
        )

    def _on_upload_toggled(self, wanted: bool) -> None:
        if wanted:
            self.panel.look()
        self.panel.setVisible(wanted)


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
