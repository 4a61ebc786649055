"""The pages that follow the first paint, and what connects each to what stands behind it."""

from collections.abc import Callable
from typing import TypeVar

from qlora_studio.ui.data_page import DataPage
from qlora_studio.ui.data_wiring import DataWiring
from qlora_studio.ui.gpu_panel import GpuPanel
from qlora_studio.ui.main_window import MainWindow
from qlora_studio.ui.model_page import ModelPage
from qlora_studio.ui.model_wiring import ModelWiring
from qlora_studio.ui.page import Page
from qlora_studio.ui.panel_wiring import PanelWiring
from qlora_studio.ui.run_page import RunPage
from qlora_studio.ui.run_wiring import RunWiring
from qlora_studio.ui.studio import Studio

P = TypeVar("P", bound=Page)


class _Empty(Page):
    def __init__(self) -> None:
        super().__init__()


class TrainingPage(_Empty):
    name, title = "training", "Training"


class ExportPage(_Empty):
    name, title = "export", "Export"


class ChatPage(_Empty):
    name, title = "chat", "Chat"


class RunsPage(_Empty):
    name, title = "runs", "Runs"


class SettingsPage(_Empty):
    name, title = "settings", "Settings"


# In the order of the rail, after the Model page.
PAGES: tuple[Callable[[], Page], ...] = (
    DataPage,
    TrainingPage,
    RunPage,
    ExportPage,
    ChatPage,
    RunsPage,
    SettingsPage,
)


def wire_pages(studio: Studio, window: MainWindow, panel: GpuPanel, model_page: ModelPage) -> None:
    """Connect every page."""
    PanelWiring(studio, panel)
    ModelWiring(studio, window, model_page)
    DataWiring(studio, window, _page(window, DataPage))
    RunWiring(studio, window, _page(window, RunPage))


def _page(window: MainWindow, kind: type[P]) -> P:
    page = window.pages[kind.name]
    assert isinstance(page, kind)
    return page
