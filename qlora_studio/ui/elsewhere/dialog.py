"""The dialog that sends a run elsewhere: the place, whether it answers, what leaves this computer, and the script."""

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QPlainTextEdit, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.elsewhere.place_form import PlaceForm
from qlora_studio.ui.kit.check_list import Checked, CheckList
from qlora_studio.ui.kit.fields import CheckBox, ComboBox
from qlora_studio.ui.kit.layouts import ScrolledContent
from qlora_studio.ui.kit.letters import give_letters
from qlora_studio.ui.kit.scrolling import ScrollArea
from qlora_studio.ui.kit.tables import FactGrid
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import mono_font
from qlora_studio.ui.kit.widgets import Button, Card, ErrorNotice, PrimaryButton, column, row

_SIZE = (680, 620)
_SCRIPT_HEIGHT = 240


class ElsewhereDialog(QDialog):
    """Asks where a run is to go. It stays until the run was submitted, or the user leaves.

    Signals:
        place_chosen: another place of those that are kept; its name, empty for a new one.
        removal_requested: do not keep the chosen place any more; its name.
        place_changed: something else is written.
        test_requested: see what is there.
        test_stop_requested: do not wait for that.
        trust_changed: whether the network between several nodes is called trusted.
        submit_requested: send the run there.
        cancel_requested: do not send it; where it is being sent, stop that.
    """

    place_chosen = Signal(str)
    removal_requested = Signal(str)
    place_changed = Signal()
    test_requested = Signal()
    test_stop_requested = Signal()
    trust_changed = Signal()
    submit_requested = Signal()
    cancel_requested = Signal()

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(say("Run elsewhere"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.place = ComboBox()
        self.place.setAccessibleName(say("Place"))
        self.remove = Button(say("Remove"), "quiet", tip=say("Do not keep this place; runs there stay as they are"))
        self.form = PlaceForm()
        self.test = Button(say("Test the connection"))
        self.state = Label("", "muted", wrap=True)
        self.checks = CheckList(say("What is there"))
        self.leaving = FactGrid()
        self.notes = Label("", "muted", wrap=True)
        self.trust = CheckBox(say("I trust everybody who reaches that network"))
        self.fit = Label("", "muted", wrap=True)
        self.script_shown = Button(say("Show the batch script"), "quiet", checkable=True)
        self.script = QPlainTextEdit()
        self.notice = ErrorNotice()
        self.progress = Label("", "muted")
        self.submit = PrimaryButton(say("Send it there"))
        self.cancel = Button(say("Cancel"))
        self._testing = False
        self._build(name)
        self._connect()
        give_letters(self)
        self._fit_screen()

    def show_error(self, error: Exception) -> None:
        """Say what went wrong, where it is seen."""
        self.notice.show_error(error)
        self._area.ensureWidgetVisible(self.notice)

    def render_places(self, names: Mapping[str, str], chosen: str) -> None:
        """Offer the places that are kept, by name, and a new one."""
        self.place.set_choices({**names, "": say("A new place")})
        self._choice.setVisible(bool(names))
        self.render_chosen(chosen)

    def render_chosen(self, name: str) -> None:
        """Show which place is chosen; an empty name is a new one."""
        self.place.set_value(name)
        self.remove.setVisible(bool(name))

    def render_test(
        self, words: str, checks: Sequence[Checked] = (), *, testing: bool = False, failed: bool = False
    ) -> None:
        """Show what is being asked of the place, what is there, or why that is not known."""
        self._testing = testing
        self.test.setText(say("Stop") if testing else say("Test the connection"))
        self.state.setText(words)
        self.state.set_tone("bad" if failed else "")
        self.checks.show_checks(checks)
        self.checks.setVisible(bool(checks))

    def render_sending(self, files: Sequence[tuple[str, str]], notes: Sequence[str], script: str) -> None:
        """Show what will leave this computer, what will be other there, and the batch script as it would be sent."""
        self.leaving.show_facts(files)
        self.leaving.setVisible(bool(files))
        self.notes.setText("\n".join(notes))
        self.script_shown.setEnabled(bool(script))
        if script != self.script.toPlainText():
            self.script.setPlainText(script)

    def render_fit(self, words: str, tone: str) -> None:
        """Show whether it fits, and for which card that is judged."""
        self.fit.setText(words)
        self.fit.set_tone(tone)
        self.fit.setVisible(bool(words))

    def render_submitting(self, words: str) -> None:
        """Show how far the run is sent; without words it is not being sent."""
        self.progress.setText(words)
        self.cancel.setText(say("Stop") if words else say("Cancel"))
        for part in (self.submit, self.form, self.place, self.remove, self.test):
            part.setEnabled(not words)

    def render_trust(self, asked: bool, given: bool) -> None:
        """Ask whether the network between several nodes is trusted, or do not."""
        self.trust.setVisible(asked)
        self.trust.blockSignals(True)
        self.trust.setChecked(given)
        self.trust.blockSignals(False)

    def fill_submit(self, allowed: bool) -> None:
        """Allow to send the run, or not."""
        self.submit.setEnabled(allowed)

    def _build(self, name: str) -> None:
        content = ScrolledContent()
        box = column(content, margins=(20, 18, 20, 12), spacing=12)
        box.addWidget(Label(say("Run {name} elsewhere", name=name), "heading", wrap=True))
        words = say("A SLURM cluster trains it, reached by your own ssh. Its curves come here.")
        box.addWidget(Label(words, "muted", wrap=True))
        box.addWidget(self.notice)
        box.addWidget(self._place_card())
        box.addWidget(self._leaving_card())
        box.addStretch(1)
        self._area = ScrollArea(content, across=False)
        outer = column(self, spacing=0)
        outer.addWidget(self._area, 1)
        foot = row(margins=(20, 12, 20, 16), spacing=12)
        foot.addWidget(self.progress, 1)
        foot.addWidget(self.cancel)
        foot.addWidget(self.submit)
        outer.addLayout(foot)

    def _place_card(self) -> Card:
        card = Card()
        self._choice = QWidget()
        across = row(self._choice, spacing=12)
        label = Label(say("Place"), "caption")
        label.setBuddy(self.place)
        across.addWidget(label)
        across.addWidget(self.place, 1)
        across.addWidget(self.remove)
        card.add(self._choice, self.form)
        line = row(spacing=12)
        line.addWidget(self.test)
        line.addWidget(self.state, 1)
        card.body.addLayout(line)
        card.add(self.checks)
        self.checks.hide()
        return card

    def _leaving_card(self) -> Card:
        card = Card(say("What leaves this computer"))
        self.script.setReadOnly(True)
        self.script.setFont(mono_font(12))
        self.script.setAccessibleName(say("Batch script"))
        self.script.setFixedHeight(_SCRIPT_HEIGHT)
        self.script.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.script.hide()
        self.trust.hide()
        card.add(self.leaving, self.notes, self.trust, self.fit, self.script_shown, self.script)
        return card

    def _connect(self) -> None:
        self.place.chosen.connect(self.place_chosen)
        self.remove.clicked.connect(lambda: self.removal_requested.emit(self.place.value()))
        self.form.changed.connect(self.place_changed)
        self.test.clicked.connect(self._on_test_clicked)
        self.script_shown.toggled.connect(self.script.setVisible)
        self.trust.toggled.connect(lambda _given: self.trust_changed.emit())
        self.submit.clicked.connect(self.submit_requested)
        self.cancel.clicked.connect(self.cancel_requested)

    def _on_test_clicked(self) -> None:
        (self.test_stop_requested if self._testing else self.test_requested).emit()

    def reject(self) -> None:
        """Leave only where nothing is being sent: Esc asks to stop that first."""
        if self.progress.text():
            self.cancel_requested.emit()
        else:
            super().reject()

    def _fit_screen(self) -> None:
        """Take the usual size, or what the window has."""
        parent = self.parentWidget()
        high = parent.window().height() - 24 if parent is not None else _SIZE[1]
        self.resize(_SIZE[0], min(_SIZE[1], high))
