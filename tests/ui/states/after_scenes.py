"""What comes after the training: Export, Chat, Runs, the comparison, and the settings."""

from PySide6.QtCore import QItemSelectionModel

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.chat.page import ChatPage
from qlora_studio.ui.export.page import ExportPage
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.settings.page import SettingsPage
from tests.ui.states.stage import Stage

_STARTED = ev.WorkerStarted(job="export", studio="0", pid=1)
_ANSWERS = {
    "tuned": "Sorry about the wait! Could you give me your order number? I will check where it is right away.",
    "base": "As an AI language model, I cannot track parcels, but you may want to contact the sender of it, who "
    "should have a tracking number. With that number the carrier's page tells where it was seen last.",
}


def after_scenes(stage: Stage, runs: dict[str, RunFolder]) -> None:
    """Show the pages in their states."""
    _export_scenes(stage, runs)
    _chat_scenes(stage, runs)
    _runs_scenes(stage)
    _comparison_scenes(stage, runs)
    stage.show(SettingsPage)
    stage.shoot("settings")
    stage.shoot("settings-end", end=True)


def _export_scenes(stage: Stage, runs: dict[str, RunFolder]) -> None:
    page = stage.show(ExportPage)
    stage.rest(1.0)
    page.run_requested.emit(str(runs["wider"].path))
    stage.shoot("export-choosing")
    page.lines["gguf"].wanted.click()
    combo = page.lines["gguf"].precision
    combo.setCurrentIndex(combo.findData("gguf:q4_K_M"))
    combo.activated.emit(combo.currentIndex())
    page.run_requested.emit(str(runs["finished"].path))
    stage.shoot("export-results")
    stage.shoot("export-results-end", end=True)
    merging = ev.Progressed(what="merging", done=64 << 20, total=256 << 20, unit="bytes")
    state = fold(RunState(), [_STARTED, ev.PhaseChanged(phase=Activity.MERGING), merging])
    page.render_job(state)
    stage.shoot("export-merging")
    mismatch = ev.Failed(
        kind=FailureKind.FINGERPRINT_MISMATCH,
        message="The base model is another one than that of the training: 2 of 4 files differ.",
        advice="Get the revision that the run was trained on, or export all the same.",
    )
    page.render_job(fold(state, [mismatch]))
    stage.shoot("export-failed")
    page.clear_error()
    page.render_job(None)


def _chat_scenes(stage: Stage, runs: dict[str, RunFolder]) -> None:
    page = stage.show(ChatPage)
    stage.rest(1.0)
    stage.shoot("chat-ready")
    page.ask_requested.disconnect()
    page.prompt.setPlainText("My parcel is late, what now?")
    page.submit()
    stage.rest()
    _answer(page, 1, "tuned", done=True)
    _answer(page, 2, "base", done=False)
    page.render_job(fold(RunState(), [_STARTED, ev.PhaseChanged(phase=Activity.READY)]))
    stage.shoot("chat-answering")
    _answer(page, 2, "base", done=True)
    stage.shoot("chat-answered")
    failure = ev.Failed(
        kind=FailureKind.OUT_OF_MEMORY, message="The card's memory ran out while loading.", advice="End the other run."
    )
    page.render_job(fold(RunState(), [_STARTED, failure]))
    stage.shoot("chat-failed")
    page.clear_error()


def _answer(page: ChatPage, request: int, variant: str, *, done: bool) -> None:
    text = "" if done and variant == "base" else _ANSWERS[variant]
    page.render_events(
        [ev.TextGenerated(request=request, variant=variant, text=text, done=done, tokens=24, seconds=1.4)]
    )


def _runs_scenes(stage: Stage) -> None:
    page = stage.show(RunsPage)
    stage.wait(page.model.rowCount)
    stage.rest(1.0)
    stage.shoot("runs-many")
    _select(page, 0, 1, 2)
    stage.shoot("runs-selected")
    page.run_menu.popup(page.table.mapToGlobal(page.table.rect().center()))
    stage.shoot("runs-menu")
    page.run_menu.close()
    page.search.setText("nothing like that")
    stage.shoot("runs-none-found")
    page.search.setText("")
    page.render_taking("Copying support-bot: 41 % of 1.2 GiB")
    stage.shoot("runs-taking")
    page.render_taking("")


def _select(page: RunsPage, *rows: int) -> None:
    flags = QItemSelectionModel.SelectionFlag
    page.table.selectionModel().clearSelection()
    for row in rows:
        page.table.selectionModel().select(page.model.index(row, 0), flags.Select | flags.Rows)


def _comparison_scenes(stage: Stage, runs: dict[str, RunFolder]) -> None:
    runs_page = stage.page(RunsPage)
    for count, names in ((2, ("finished", "wider")), (4, ("finished", "wider", "hotter", "longer"))):
        if stage.looks.wants_any("comparison"):
            runs_page.compare_requested.emit([str(runs[name].path) for name in names])
            stage.rest(3.0)
            stage.shoot(f"comparison-{count}")
            stage.shoot(f"comparison-{count}-end", end=True)
