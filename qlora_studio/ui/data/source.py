"""Where the rows come from: a file dropped or chosen, a name on the hub, or the starter dataset."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFileDialog, QFrame, QLineEdit

from qlora_studio.core.path_text import path_of_text
from qlora_studio.core.words import say
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import Button, Card, column, row

PATTERN = say(
    "Datasets (*.jsonl *.json *.ndjson *.csv *.tsv *.parquet *.txt *.md *.jsonl.gz *.json.gz "
    "*.csv.gz *.txt.gz *.jsonl.zst *.json.zst *.csv.zst *.txt.zst);;All files (*)"
)


class DropZone(QFrame):
    """Offers to take a file; what is dropped, here as elsewhere, the window takes.

    Signals:
        chosen: the path of a file.
    """

    chosen = Signal(str)

    def __init__(self, title: str, help: str, *, pattern: str = "") -> None:
        super().__init__()
        self._pattern, self._title = pattern, title
        self.setAccessibleName(title)
        box = column(self, margins=(24, 26, 24, 26), spacing=6)
        words = (Label(title, "strong", wrap=True), Label(help, "muted", wrap=True))
        for label in words:
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            box.addWidget(label)
        box.addSpacing(8)
        self.buttons = row(spacing=8)
        self.buttons.addStretch(1)
        self.choose = Button(say("Choose a file…"))
        self.choose.clicked.connect(self._on_choose_clicked)
        self.buttons.addWidget(self.choose)
        self.buttons.addStretch(1)
        box.addLayout(self.buttons)

    def add_button(self, button: Button) -> None:
        """Put another way beside the file dialog."""
        self.buttons.insertWidget(self.buttons.count() - 1, button)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint a dashed frame."""
        theme, painter = active_theme(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.color("control_line"), 1.4, Qt.PenStyle.DashLine))
        painter.setBrush(theme.color("background"))
        painter.drawRoundedRect(self.rect().adjusted(1, 1, -1, -1), 8, 8)
        painter.end()

    def _on_choose_clicked(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, self._title, "", self._pattern)
        if path:
            self.chosen.emit(path)


class DataSource(Card):
    """Four ways to name a dataset.

    Signals:
        data_requested: a path, or a name on the hub.
        starter_requested: the dataset that comes with the program.
    """

    data_requested = Signal(str)
    starter_requested = Signal()

    def __init__(self) -> None:
        super().__init__(say("Choose a dataset"))
        self.zone = DropZone(
            say("Drop a file here, or anywhere in the window"),
            say("JSON Lines, JSON, CSV, TSV, Parquet or plain text; also .gz and .zst"),
            pattern=PATTERN,
        )
        self.starter = Button(
            say("Use the starter dataset"), tip=say("About 200 short chats that teach a voice that can be seen")
        )
        self.folder = Button(say("Choose a folder…"), tip=say("Saved by datasets, or laid out as on the hub"))
        self.zone.add_button(self.folder)
        self.zone.add_button(self.starter)
        self.add(self.zone)
        self.path = QLineEdit()
        self.path.setPlaceholderText(say("Or a path, or a name on the hub, such as owner/dataset"))
        self.path.setAccessibleName(say("Path or hub name"))
        self.use = Button(say("Use it"))
        line = row()
        line.addWidget(self.path, 1)
        line.addWidget(self.use)
        self.body.addLayout(line)
        self.add(
            Label(
                say(
                    "A file stays where it is and is never changed. Nothing of it leaves this "
                    "machine. Of a dataset on the hub the data files are fetched; scripts are never "
                    "run."
                ),
                "caption",
                wrap=True,
            )
        )
        self.zone.chosen.connect(self.data_requested)
        self.starter.clicked.connect(self.starter_requested)
        self.folder.clicked.connect(self._on_folder_clicked)
        self.path.returnPressed.connect(self._on_path_entered)
        self.use.clicked.connect(self._on_path_entered)

    def show_adding(self, adding: bool) -> None:
        """Say whether a dataset is chosen, or a further one added."""
        self.title_label.setText(say("Add a dataset") if adding else say("Choose a dataset"))
        self.starter.setVisible(not adding)

    def _on_folder_clicked(self) -> None:
        path = QFileDialog.getExistingDirectory(self, say("Choose a folder of data files"))
        if path:
            self.data_requested.emit(path)

    def _on_path_entered(self) -> None:
        if path := path_of_text(self.path.text()):
            self.data_requested.emit(path)
        else:
            self.path.setFocus()
