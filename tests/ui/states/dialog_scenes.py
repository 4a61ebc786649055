"""Every dialog and question, over the page that it comes up on."""

from PySide6.QtWidgets import QDialog

from qlora_studio.storage.run_care.run_label import RunLabel
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.runs.label_dialog import LabelDialog
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.report_dialog import ReportDialog
from qlora_studio.ui.window import dialogs
from tests.ui.states.stage import Stage

_TRUST = (
    "loads the base model SmolLM2-135M-Instruct from the hub",
    "reads /data/tickets.jsonl",
    "writes checkpoints into the run's own folder",
)


def dialog_scenes(stage: Stage, runs: dict[str, RunFolder]) -> None:
    """Ask everything once."""
    window = stage.window
    page = stage.show(RunsPage)
    stage.rest()
    label = RunLabel(name="The one that we ship", tags=("baseline", "rank 16"), note="Learns tickets of September.")
    asked = {
        "closing": lambda: dialogs.ask_closing(window, ("support-bot",)),
        "closing-two": lambda: dialogs.ask_closing(window, ("support-bot", "another")),
        "discard": lambda: dialogs.ask_discard(window, "broken-off"),
        "trust": lambda: dialogs.ask_trust(window, "long-run", _TRUST),
        "end-worker": lambda: dialogs.ask_end_worker(window, "support-bot"),
        "stop-unsaved": lambda: dialogs.ask_stop_unsaved(window, "support-bot"),
        "other-base": lambda: dialogs.ask_other_base(window, "support-bot"),
        "label": lambda: LabelDialog(window, label, given_name="support-bot").exec(),
        "tags": lambda: LabelDialog(window, RunLabel(), several=3).exec(),
        "report": lambda: ReportDialog(window, "support-bot", "tickets.jsonl").exec(),
        "delete": lambda: page.delete_requested.emit([str(runs["finished"].path), str(runs["wider"].path)]),
        "command": lambda: page.command_requested.emit(str(runs["finished"].path)),
    }
    for name, ask in asked.items():
        stage.dialog(f"dialog-{name}", ask)
    if stage.looks.wants("dialog-sweep"):
        page.sweep_requested.emit(str(runs["finished"].path))
        stage.rest(1.5)
        stage.shoot("dialog-sweep")
        for dialog in window.findChildren(QDialog):
            dialog.reject()
