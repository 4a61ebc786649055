"""What an export left: the folder, how to serve it, and whether it was found to be right."""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QGridLayout, QWidget

from qlora_studio.core.quantity import bytes_text, duration_text
from qlora_studio.core.run.events import Exported
from qlora_studio.core.run.reports import VerificationReport
from qlora_studio.core.words import say
from qlora_studio.ui.export.upload_panel import UploadPanel
from qlora_studio.ui.export.view import (
    ValueRow,
    better_base,
    commands_for,
    compared_bases,
    measured_losses,
    verification_checks,
)
from qlora_studio.ui.kit.check_list import CheckList
from qlora_studio.ui.kit.fonts import wear_text
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import mono_font
from qlora_studio.ui.kit.widgets import Button, Card, Chip, Rule, column, row
from qlora_studio.ui.state.run_choice import RunChoice

_MEASURED = (say("Loss"), say("Divergence"))
_NAME_WIDTH, _VALUE_WIDTH = 210, 62  # so that tables below each other line up


class ExportResult(Card):
    """One export.

    Signals:
        folder_requested: open its folder.
    """

    folder_requested = Signal(str)

    def __init__(self, exported: Exported, title: str, run: RunChoice) -> None:
        super().__init__(title)
        self.exported = exported
        self.chip = Chip(say("written"), "plain")
        self.open_button = Button(say("Open folder"), "small")
        self.open_button.clicked.connect(lambda: self.folder_requested.emit(exported.path))
        self.upload_button = Button(say("Upload…"), "small", checkable=True)
        self.upload_button.toggled.connect(self._on_upload_toggled)
        self.panel = UploadPanel(exported.path)
        self.header.insertWidget(1, self.chip)
        self.add_header(self.upload_button, self.open_button)
        path = Label(exported.path, wrap=True, selectable=True)
        wear_text(path, mono_font(), 12)
        self.add(path, Label(_facts(exported), "caption", wrap=True))
        self.add(self.panel)
        self.panel.hide()
        commands = commands_for(exported, run)
        for number, command in enumerate(commands):
            self.add(Rule() if number == 0 else _gap(), CopyBlock(command.program, command.text))
            if command.note:
                self.add(Label(command.note, "caption", wrap=True))
        self.checks, self._verdict = CheckList(say("Verification")), Label("", "title")
        self._verified = QWidget()
        box = column(self._verified, margins=(0, 6, 0, 0), spacing=6)
        self.losses, self._losses_title = ValueTable(say("Loss on the held-out rows"), _MEASURED), Label("", "title")
        self.bases, self._bases_title = ValueTable(say("Which base to merge into"), _MEASURED), Label("", "title")
        self._better = Label("", "caption", wrap=True)
        self._bases_title.setText(say("Which base to merge into"))
        self._meaning = Label(
            say("Divergence: from the adapter as it was trained, in nats a token."), "caption", wrap=True
        )
        measured = (self._losses_title, self.losses, self._meaning, self._bases_title, self.bases, self._better)
        for part in (Rule(), self._verdict, self.checks, *measured):
            box.addWidget(part)
        self.add(self._verified)
        self.show_report(VerificationReport())

    def show_report(self, report: VerificationReport) -> None:
        """Show what the verification found; one without checks says that there was none."""
        checks = verification_checks(report)
        failed = sum(check.level == "error" for check in checks)
        right = bool(checks) and report.verified
        self.checks.show_checks(checks)
        losses, bases = measured_losses(report), compared_bases(report)
        self.losses.show_rows(losses)
        self.bases.show_rows(bases)
        self._better.setText(better_base(report))
        self._losses_title.setText(say("Measured on {tokens:,} held-out tokens", tokens=report.tokens))
        for part in (self.losses, self._losses_title, self._meaning):
            part.setVisible(bool(losses))
        for part in (self.bases, self._bases_title, self._better):
            part.setVisible(bool(bases))
        if self.panel.isVisible():
            self.panel.look()
        self._verified.setVisible(bool(checks))
        words = (
            say("all hold")
            if not failed
            else say("{failed} of {checks} do not hold", failed=failed, checks=len(checks))
        )
        self._verdict.setText(say("Verification: {words}", words=words) if checks else "")
        self._verdict.set_tone("ok" if right else "bad")
        self.chip.show_word(
            *(
                (say("verified"), "ok")
                if right
                else (say("verification failed"), "bad")
                if checks
                else (say("not verified"), "plain")
            )
        )

    def _on_upload_toggled(self, wanted: bool) -> None:
        if wanted:
            self.panel.look()
        self.panel.setVisible(wanted)


def _facts(exported: Exported) -> str:
    parts = [bytes_text(exported.size_bytes)]
    seconds, peak = exported.facts.seconds, exported.facts.peak_rss_bytes
    parts += [say("in {seconds}", seconds=duration_text(seconds))] if seconds else []
    parts += [say("{peak} of memory at most", peak=bytes_text(peak))] if peak else []
    parts += [words for words in (exported.facts.importance_words, exported.facts.vllm_words) if words]
    return " · ".join(parts)


def _gap() -> Label:
    gap = Label("")
    gap.setFixedHeight(2)
    return gap


class ValueTable(QWidget):
    """Shows rows of numbers below their titles."""

    def __init__(self, name: str, titles: Sequence[str]) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(22)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(len(titles) + 1, 1)
        self._grid.setColumnMinimumWidth(0, _NAME_WIDTH)
        for number in range(len(titles)):
            self._grid.setColumnMinimumWidth(number + 1, _VALUE_WIDTH)
        self._rows: tuple[ValueRow, ...] = ()
        self._labels: list[list[Label]] = []
        self._width = len(titles)
        for number, title in enumerate(titles):
            self._grid.addWidget(_number(title, "caption"), 0, number + 1)

    def show_rows(self, rows: Sequence[ValueRow]) -> None:
        """Show these rows."""
        self._rows = tuple(rows)
        while len(self._labels) < len(self._rows):
            self._add_line()
        for index, labels in enumerate(self._labels):
            known = index < len(self._rows)
            row = self._rows[index] if known else ValueRow("", ())
            texts = (row.name, *row.values, *("",) * (self._width - len(row.values)), row.note)
            for label, text in zip(labels, texts, strict=True):
                label.setText(text)
                label.setVisible(known)

    def rows(self) -> tuple[ValueRow, ...]:
        """Return what is shown."""
        return self._rows

    def _add_line(self) -> None:
        note = Label("", "caption")
        note.set_tone("accent")
        labels = [Label("", "muted"), *(_number("", "body") for _ in range(self._width)), note]
        for place, label in enumerate(labels):
            self._grid.addWidget(label, len(self._labels) + 1, place)
        self._labels.append(labels)


def _number(text: str, role: str) -> Label:
    label = Label(text, role, selectable=role == "body")
    label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return label


class CopyBlock(QFrame):
    """A title, a text in fixed width, and Copy."""

    def __init__(self, title: str = "", text: str = "") -> None:
        super().__init__()
        self._title = Label(title, "caption")
        self._text = Label(text, wrap=True, selectable=True)
        wear_text(self._text, mono_font(), 12)
        self.copy_button = Button(say("Copy"), "quiet", tip=say("Copy the text to the clipboard"))
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
        self.copy_button.setAccessibleName(say("Copy: {title}", title=title))

    def _on_copy_clicked(self) -> None:
        QGuiApplication.clipboard().setText(self._text.text())
