"""An export's way to the hub: where to, exactly what, who will see it, and one button."""

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.job import UploadJob
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.storage.runs.upload_files import UploadFile, upload_files
from qlora_studio.ui.export.view import file_list, is_repository, objection, outcome, share, summary
from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.fields import CheckBox, LineEdit
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Rule, column, row


class UploadPanel(QWidget):
    """Asks where an export goes, and shows how it goes there.

    Signals:
        upload_requested: do this UploadJob.
        stop_requested: stop the upload.
    """

    upload_requested = Signal(object)
    stop_requested = Signal()

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._files: tuple[UploadFile, ...] = ()
        self._objection = ""
        self._busy = False
        self.repository = LineEdit()
        self.repository.setPlaceholderText("owner/name")
        self.repository.setAccessibleName(say("Repository on the hub"))
        self.private = CheckBox(say("Private"))
        self.private.setChecked(True)
        self.insist = CheckBox(say("Upload it all the same"))
        self.upload, self.stop = Button(say("Upload")), Button(say("Stop"), "small")
        self._summary, self._named = Label("", wrap=True), Label("", "caption", wrap=True)
        self._why, self._state = Label("", wrap=True), Label("", wrap=True, selectable=True)
        self._why.set_tone("bad")
        self._line = ProgressLine(say("Uploaded"), 4000)
        self._build()
        self.repository.textChanged.connect(lambda _text: self._update())
        self.repository.told.connect(self.look)
        self.private.toggled.connect(lambda _checked: self._update())
        self.insist.toggled.connect(lambda _checked: self._update())
        self.upload.clicked.connect(self._on_upload_clicked)
        self.stop.clicked.connect(self.stop_requested)
        self.look()
        self.render_job(None)

    def look(self) -> None:
        """Read what would be uploaded, and whether it may be."""
        try:
            self._files = upload_files(self._folder)
            self._objection = objection(self._folder, self._name())
        except (StudioError, OSError) as error:
            self._files, self._objection = (), str(error)
        self._update()

    def render_job(self, state: RunState | None, *, stopping: bool = False) -> None:
        """Show how far an upload is, that it was asked to stop, and how it ended."""
        self._busy = state is not None and state.last_event > 0 and not state.phase.is_over
        words, tone = outcome(state) if state is not None and state.last_event > 0 else ("", "")
        self._state.setText(say("Stopping …") if stopping and self._busy else words)
        self.stop.setEnabled(not stopping)
        self._state.set_tone(tone)
        self._state.setVisible(bool(words))
        self._line.show_share(share(state) if state is not None else None)
        self._line.setVisible(self._busy)
        self.stop.setVisible(self._busy)
        self._update()

    def _name(self) -> str:
        return self.repository.text().strip()

    def _update(self) -> None:
        named = is_repository(self._name())
        self._summary.setText(summary(self._files, self._name() if named else "", private=self.private.isChecked()))
        self._named.setText(file_list(self._files))
        self._why.setText(self._objection)
        for part in (self._why, self.insist):
            part.setVisible(bool(self._objection))
        may = not self._objection or self.insist.isChecked()
        self.upload.setEnabled(named and may and bool(self._files) and not self._busy)

    def _on_upload_clicked(self) -> None:
        self.upload_requested.emit(
            UploadJob(
                path=str(self._folder),
                repository=self._name(),
                private=self.private.isChecked(),
                force=bool(self._objection) and self.insist.isChecked(),
            )
        )

    def _build(self) -> None:
        box = column(self, margins=(0, 2, 0, 4), spacing=8)
        where, going = row(spacing=12), row(spacing=12)
        where.addWidget(self.repository, 1)
        where.addWidget(self.private)
        where.addWidget(self.upload)
        going.addWidget(self._state, 1)
        going.addWidget(self.stop)
        box.addWidget(Rule())
        box.addWidget(Label(say("Upload to the Hugging Face hub"), "title"))
        box.addLayout(where)
        for part in (self._summary, self._named, self._why, self.insist):
            box.addWidget(part)
        box.addLayout(going)
        box.addWidget(self._line)
