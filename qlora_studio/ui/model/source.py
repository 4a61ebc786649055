"""Where a base model comes from: the starter model, the hub, a folder, or a GGUF file."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QWidget

from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.run.titles import STARTER, STARTER_TITLE
from qlora_studio.core.words import say
from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.fields import LineEdit, PathField
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Card, column, row
from qlora_studio.ui.model.view import likely_kind

KINDS = {"starter": say("Starter model"), "hub": say("From the hub"), "folder": say("Folder"), "gguf": say("GGUF file")}


class ModelSource(Card):
    """Four ways to name a model.

    Signals:
        source_requested: the user names a model: its source, and a revision of the hub or nothing.
        download_requested: the user wants it from the hub.
        download_stop_requested: no more.
    """

    source_requested = Signal(str, str)
    download_requested = Signal(str, str)
    download_stop_requested = Signal()

    def __init__(self) -> None:
        super().__init__(say("Choose a base model"))
        self.kinds: dict[str, Button] = {}
        self._group = QButtonGroup(self)
        pills = row(spacing=8)
        for kind, words in KINDS.items():
            button = self.kinds[kind] = Button(words, "pill", checkable=True)
            self._group.addButton(button)
            button.clicked.connect(lambda _checked=False, kind=kind: self.show_kind(kind))
            pills.addWidget(button)
        pills.addStretch(1)
        self.body.addLayout(pills)
        self._parts = {"starter": self._starter(), "hub": self._hub(), "folder": self._folder(), "gguf": self._gguf()}
        self.add(*self._parts.values())
        self._turned = ("starter", "")
        self.show_kind("starter")

    def show_kind(self, kind: str) -> None:
        """Show the field of a kind."""
        self.kinds[kind].setChecked(True)
        for name, part in self._parts.items():  # no stack: that would be as high as its highest page
            part.setVisible(name == kind)

    def show_source(self, source: str, revision: str, kind: str) -> None:
        """Show the model that is chosen."""
        field = self._fields().get(kind)
        if field is not None:
            field.show_text(source)
        if kind == "hub":
            self.revision.show_text(revision)
        self._turn_to(kind, source)
        self.use_starter.setEnabled(source != STARTER)
        self.use_starter.setText(say("Chosen") if source == STARTER else say("Use it"))

    def show_wanted(self, source: str, revision: str) -> None:
        """Show a model of which nothing is known, not even of which kind it is; in the field that it was written in."""
        written = next((kind for kind, field in self._fields().items() if field.text() == source), "")
        self.show_source(source, revision, written or likely_kind(source))

    def show_download(self, state: RunState | None, *, needed: bool | None, source: str = "") -> None:
        """Show how far the download of `source` is, which need not be the field's model any more.

        `needed` is whether the field's is not on this machine, None unknown.
        """
        busy = state is not None and not state.phase.is_over
        self.download.setVisible(not busy)
        self.download.setText(say("Check for a newer one") if needed is False else say("Download"))
        self.stop.setVisible(busy)
        self._line.setVisible(busy)
        progress = state.progress if state else None
        share = progress.done / progress.total if progress and progress.total else None
        self._line.show_share(share)
        self._facts.setText(_download_text(state, source, needed=needed))

    def _turn_to(self, kind: str, source: str) -> None:
        """Show the kind of a model; of the one that was shown before, not where the user turned to another kind since.

        What is being typed stays in sight: a field that is hidden would tell half of it.
        """
        before, self._turned = self._turned, (kind, source)
        is_typed = any(field.is_being_typed() for field in (*self._fields().values(), self.revision))
        if not is_typed and (before[1] != source or self.kinds[before[0]].isChecked()):
            self.show_kind(kind)

    def _fields(self) -> dict[str, LineEdit]:
        return {"hub": self.hub_id, "folder": self.folder.line, "gguf": self.gguf.line}

    def _starter(self) -> QWidget:
        part = QWidget()
        box = row(part, spacing=12)
        words = column(spacing=2)
        words.addWidget(Label(STARTER_TITLE, "strong"))
        text = say("Comes with the program: small, quick on any machine, and answers sensibly. Good for a first run.")
        words.addWidget(Label(text, "muted", wrap=True))
        box.addLayout(words, 1)
        self.use_starter = Button(say("Use it"))
        self.use_starter.setAccessibleName(say("Use the starter model"))
        self.use_starter.clicked.connect(lambda: self.source_requested.emit(STARTER, ""))
        box.addWidget(self.use_starter)
        return part

    def _hub(self) -> QWidget:
        part = QWidget()
        outer = column(part, spacing=8)
        box = row()
        self.hub_id, self.revision = LineEdit(), LineEdit()
        self.hub_id.setPlaceholderText(say("owner/name, such as Qwen/Qwen3-8B"))
        self.hub_id.setAccessibleName(say("Hub id"))
        self.revision.setPlaceholderText(say("revision: main"))
        self.revision.setAccessibleName(say("Revision"))
        self.revision.setMaximumWidth(150)
        self.download, self.stop = Button(say("Download")), Button(say("Stop"))
        for widget, stretch in ((self.hub_id, 3), (self.revision, 1), (self.download, 0), (self.stop, 0)):
            box.addWidget(widget, stretch)
        outer.addLayout(box)
        self._line, self._facts = ProgressLine(say("Download"), 4000), Label("", "caption", wrap=True)
        outer.addWidget(self._line)
        outer.addWidget(self._facts)
        self.hub_id.told.connect(self._on_hub_edited)
        self.revision.told.connect(self._on_hub_edited)
        self.download.clicked.connect(self._on_download_clicked)
        self.stop.clicked.connect(self.download_stop_requested)
        self.show_download(None, needed=True)
        return part

    def _folder(self) -> QWidget:
        self.folder = PathField(
            say("A folder with config.json and .safetensors files"), folder=True, caption=say("Model folder")
        )
        self.folder.line.setAccessibleName(say("Model folder"))
        self.folder.edited.connect(self._on_path_edited)
        return _with_help(
            self.folder, say("A model saved by transformers. Pickled weights and models with code are refused.")
        )

    def _gguf(self) -> QWidget:
        self.gguf = PathField(say("A .gguf file"), pattern="GGUF (*.gguf)", caption=say("GGUF file"))
        self.gguf.line.setAccessibleName(say("GGUF file"))
        self.gguf.edited.connect(self._on_path_edited)
        return _with_help(self.gguf, say("It is turned into 16-bit weights once, and kept in the cache."))

    def _on_path_edited(self, text: str) -> None:
        if text:
            self.source_requested.emit(text, "")

    def _on_hub_edited(self) -> None:
        if self.hub_id.text().strip():
            self.source_requested.emit(self.hub_id.text().strip(), self.revision.text().strip())

    def _on_download_clicked(self) -> None:
        if self.hub_id.text().strip():
            self.download_requested.emit(self.hub_id.text().strip(), self.revision.text().strip())
        else:
            self.hub_id.setFocus()


def _with_help(field: QWidget, text: str) -> QWidget:
    part = QWidget()
    box = column(part, spacing=8)
    box.addWidget(field)
    box.addWidget(Label(text, "caption", wrap=True))
    return part


def _download_text(state: RunState | None, source: str, *, needed: bool | None) -> str:
    if state is None or state.phase.is_over:
        if needed is None:
            return say("Downloading asks the hub for these files, and sends nothing else.")
        if needed:
            return say("Not on this computer yet. Downloading asks the hub for its files, and sends nothing else.")
        return say("On this computer.")
    if state.progress is None:
        return say("Asking the hub for {model} …", model=source)
    done, total = bytes_text(state.progress.done), bytes_text(state.progress.total or 0)
    if not state.progress.total:
        return say("{done} of {model}", done=done, model=source)
    return say("{done} of {total} of {model}", done=done, total=total, model=source)
