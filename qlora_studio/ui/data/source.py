"""Where the rows come from: a file dropped or chosen, a name on the hub, or the starter dataset."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QLineEdit

from qlora_studio.ui.data.drop_zone import DropZone
from qlora_studio.ui.kit.plain_text import Label
from qlora_studio.ui.kit.widgets import Button, Card, row

PATTERN = (
    "Datasets (*.jsonl *.json *.ndjson *.csv *.tsv *.parquet *.txt *.md *.jsonl.gz *.json.gz *.csv.gz *.txt.gz "
    "*.jsonl.zst *.json.zst *.csv.zst *.txt.zst);;All files (*)"
)


class DataSource(Card):
    """Four ways to name a dataset.

    Signals:
        data_requested: a path, or a name on the hub.
        starter_requested: the dataset that comes with the program.
    """

    data_requested = Signal(str)
    starter_requested = Signal()

    def __init__(self) -> None:
        super().__init__("Choose a dataset")
        self.zone = DropZone(
            "Drop a file here",
            "JSON Lines, JSON, CSV, TSV, Parquet or plain text; also .gz and .zst",
            pattern=PATTERN,
        )
        self.starter = Button(
            "Use the starter dataset", tip="About 200 short chats that teach a voice that can be seen"
        )
        self.folder = Button("Choose a folder…", tip="Saved by datasets, or laid out as on the hub")
        self.zone.add_button(self.folder)
        self.zone.add_button(self.starter)
        self.add(self.zone)
        self.path = QLineEdit()
        self.path.setPlaceholderText("Or a path, or a name on the hub, such as owner/dataset")
        self.path.setAccessibleName("Path or hub name")
        self.use = Button("Use it")
        line = row()
        line.addWidget(self.path, 1)
        line.addWidget(self.use)
        self.body.addLayout(line)
        self.add(
            Label(
                "A file stays where it is and is never changed. Nothing of it leaves this machine. Of a dataset on the "
                "hub the data files are fetched; scripts are never run.",
                "caption",
                wrap=True,
            )
        )
        self.zone.dropped.connect(self.data_requested)
        self.starter.clicked.connect(self.starter_requested)
        self.folder.clicked.connect(self._on_folder_clicked)
        self.path.returnPressed.connect(self._on_path_entered)
        self.use.clicked.connect(self._on_path_entered)

    def show_adding(self, adding: bool) -> None:
        """Say whether a dataset is chosen, or a further one added."""
        self.title_label.setText("Add a dataset" if adding else "Choose a dataset")
        self.starter.setVisible(not adding)

    def _on_folder_clicked(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Choose a folder of data files")
        if path:
            self.data_requested.emit(path)

    def _on_path_entered(self) -> None:
        if self.path.text().strip():
            self.data_requested.emit(self.path.text().strip())
        else:
            self.path.setFocus()
