"""The pages that follow the first paint, and what connects each to what stands behind it."""

from typing import TypeVar

from qlora_studio.storage.run_care.run_reading import RunReadings
from qlora_studio.ui.chat.page import ChatPage
from qlora_studio.ui.chat.wiring import ChatWiring
from qlora_studio.ui.comparison.page import ComparisonPage
from qlora_studio.ui.comparison.wiring import ComparisonWiring
from qlora_studio.ui.data.page import DataPage
from qlora_studio.ui.data.wiring import DataWiring
from qlora_studio.ui.elsewhere.mirrors import MirrorKeeper
from qlora_studio.ui.elsewhere.wiring import ElsewhereWiring
from qlora_studio.ui.export.page import ExportPage
from qlora_studio.ui.export.wiring import ExportWiring, UploadWiring
from qlora_studio.ui.memory.panel import GpuPanel
from qlora_studio.ui.memory.wiring import PanelWiring
from qlora_studio.ui.model.page import ModelPage
from qlora_studio.ui.model.wiring import ModelWiring
from qlora_studio.ui.readiness.data_check import DataCheck
from qlora_studio.ui.readiness.data_question import report_question, tokens_question
from qlora_studio.ui.readiness.readiness import Readiness
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.run.wiring import RunWiring
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.wiring import RunsWiring
from qlora_studio.ui.settings.page import SettingsPage
from qlora_studio.ui.settings.wiring import SettingsWiring
from qlora_studio.ui.start.page import StartPage
from qlora_studio.ui.start.wiring import StartWiring
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.sweep.wiring import SweepWiring
from qlora_studio.ui.training.page import TrainingPage
from qlora_studio.ui.training.places import setting_entries
from qlora_studio.ui.training.wiring import TrainingWiring
from qlora_studio.ui.window.actions import WindowActions
from qlora_studio.ui.window.arrivals import ArrivalControl, Places
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.notification import EndingNotifier
from qlora_studio.ui.window.page import Page

P = TypeVar("P", bound=Page)

# What the pages that speak of rows want to know of them: the form alone decides the batch, and reads nothing for it.
_WANTED = {"data": report_question, "training": tokens_question}

# The pages that list runs: what others do with those shows there without being asked for.
_LIST_RUNS = ("start", "export", "chat", "runs", "comparison")

# In the order of the rail, after the Start page.
PAGES: tuple[type[Page], ...] = (
    ModelPage,
    DataPage,
    TrainingPage,
    RunPage,
    ExportPage,
    ChatPage,
    RunsPage,
    ComparisonPage,
    SettingsPage,
)


def wire_pages(studio: Studio, window: MainWindow, panel: GpuPanel) -> RunsList:
    """Connect every page; return the list of runs, which is still to be read."""
    check = DataCheck(studio, window)
    window.page_shown.connect(lambda name: check.want(_WANTED.get(name)))
    check.want(_WANTED.get(window.current_page().name))
    studio.disk.model_changed.connect(check.doubt)
    studio.disk.data_changed.connect(check.doubt)
    PanelWiring(studio, panel)
    ModelWiring(studio, window, _page(window, ModelPage))
    DataWiring(studio, window, _page(window, DataPage), check)
    RunWiring(studio, window, _page(window, RunPage))
    readiness = Readiness(studio, check, window)
    training = TrainingWiring(studio, window, _page(window, TrainingPage), check, readiness)
    training.elsewhere_requested.connect(ElsewhereWiring(studio, window).open)
    MirrorKeeper(studio)
    readiness.changed.connect(lambda: window.rail.set_steps(readiness.steps))
    window.rail.set_steps(readiness.steps)
    SettingsWiring(studio, window, _page(window, SettingsPage))
    EndingNotifier(studio, window)
    runs = RunsList(studio)
    _wire_runs(studio, window, runs)
    places = Places(
        model=_page(window, ModelPage).source.source_requested.emit,
        datasets=_page(window, DataPage).take,
        run=_page(window, RunsPage).open_requested.emit,
        pack=_page(window, RunsPage).taking_requested.emit,
    )
    ArrivalControl(studio, window, places)
    start = _page(window, StartPage)
    StartWiring(studio, window, start, runs, places)
    start.starter_draft_requested.connect(lambda: window.show_page("training"))
    start.starter_draft_requested.connect(lambda: _page(window, TrainingPage).preset_requested.emit("starter"))
    return runs


def wire_actions(studio: Studio, window: MainWindow) -> WindowActions:
    """Give the window its actions, once the draft is what it is at the start: that is not undone."""
    return WindowActions(window, studio.draft, lambda: setting_entries(window, _page(window, TrainingPage)))


def _wire_runs(studio: Studio, window: MainWindow, runs: RunsList) -> None:
    """Connect the pages of what was trained: they share one list of runs."""
    studio.disk.looked.connect(lambda: runs.look() if window.current_page().name in _LIST_RUNS else None)
    runs_page = _page(window, RunsPage)
    export = ExportWiring(studio, window, _page(window, ExportPage), runs)
    UploadWiring(studio, window, _page(window, ExportPage))
    chat = ChatWiring(studio, window, _page(window, ChatPage), runs)
    RunsWiring(studio, window, runs_page, runs)
    readings = RunReadings()
    comparison = ComparisonWiring(window, _page(window, ComparisonPage), runs, readings)
    runs_page.compare_requested.connect(comparison.open)
    runs_page.sweep_requested.connect(SweepWiring(studio, window, readings).open)
    for signal, wiring, name in (
        (runs_page.export_requested, export, "export"),
        (runs_page.chat_requested, chat, "chat"),
    ):
        signal.connect(wiring.choose)
        signal.connect(lambda _path, name=name: window.show_page(name))


def _page(window: MainWindow, kind: type[P]) -> P:
    page = window.pages[kind.name]
    assert isinstance(page, kind)
    return page
