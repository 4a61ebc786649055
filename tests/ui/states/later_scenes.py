"""The window in the midst of the work: models, datasets and runs in each state, with a card that is not here."""

from contextlib import ExitStack

from qlora_studio.storage.presets import load_preset
from qlora_studio.ui.start.page import StartPage
from tests.ui.states.after_scenes import after_scenes
from tests.ui.states.dialog_scenes import dialog_scenes
from tests.ui.states.run_scenes import run_scenes
from tests.ui.states.stage import Stage
from tests.ui.states.work_scenes import work_scenes
from tests.ui.states.written_runs import write_runs


def later_scenes(stage: Stage) -> None:
    """Write runs, open the window over them, and go from page to page."""
    runs = write_runs(stage.home / "runs")
    with ExitStack() as locks:
        for name in ("training", "preparing", "recovering"):
            locks.enter_context(runs[name].lock())  # as a worker at work holds it
        stage.open()
        stage.show_card("alone")
        stage.studio.draft.replace(load_preset("starter"))
        stage.show(StartPage)
        stage.rest(1.0)
        stage.shoot("start-recents")
        work_scenes(stage)
        run_scenes(stage, runs)
        after_scenes(stage, runs)
        dialog_scenes(stage, runs)
