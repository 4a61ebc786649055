"""The Run page with a run in each of its states."""

import time
from dataclasses import replace

from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest

from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.events import ElsewhereTold
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.elsewhere.view import run_elsewhere
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.run.plot_card import ALL
from qlora_studio.ui.state.asked import Asked
from tests.ui.states.stage import Stage
from tests.ui.states.written_runs import write_long_run

_LONG = 100_000


def run_scenes(stage: Stage, runs: dict[str, RunFolder]) -> None:
    """Open each run."""
    if not stage.looks.wants_any("run-"):
        return
    page = stage.page(RunPage)
    for name in ("preparing", "recovering", "paused", "memory", "nan", "cancelled", "finished"):
        _open(stage, runs[name])
        stage.shoot(f"run-{name}")
    stage.shoot("run-finished-end", end=True)
    page.plots.show_metric(ALL)
    stage.shoot("run-all-metrics")
    page.plots.show_metric("loss")
    page.plots._table_button.click()
    stage.shoot("run-table")
    page.plots._table_button.click()
    stage.show_card("busy")
    _open(stage, runs["training"])
    stage.shoot("run-training")
    plot = page.plots._plots.plots()[0]
    QTest.mouseMove(plot, QPoint(plot.width() // 2, plot.height() // 2))
    stage.shoot("run-crosshair")
    session = stage.studio.runs.shown
    assert session is not None
    page.render_run(session.store, "", Asked(Pause(), session.store.state))
    stage.shoot("run-pausing")
    told = ElsewhereTold(place="cluster", job="4711", standing="running", node="node7")
    state = replace(session.store.state, elsewhere=told)
    page.render_run(session.store, "", None, run_elsewhere(state, place="cluster", is_open=True, is_here=False))
    stage.shoot("run-elsewhere")
    away = told.model_copy(update={"unreached_since": time.time() - 700, "problem": "cluster was not reached."})
    state = replace(state, elsewhere=away)
    page.render_run(session.store, "", None, run_elsewhere(state, place="cluster", is_open=True, is_here=False))
    stage.shoot("run-not-reached")
    page.render_run(session.store)
    QTest.keyPress(stage.window.windowHandle(), Qt.Key.Key_Alt)
    stage.shoot("run-letters")
    QTest.keyRelease(stage.window.windowHandle(), Qt.Key.Key_Alt)
    page._more.menu().popup(page._more.mapToGlobal(QPoint(0, page._more.height())))
    stage.shoot("run-menu")
    page._more.menu().close()
    stage.show_card("lost")
    stage.shoot("run-card-lost")
    stage.show_card("alone")
    session.objection = None
    foreign = write_long_run(stage.home / "elsewhere" / "long-run", 400)
    foreign.config_path.write_text(foreign.config_path.read_text("utf-8") + "# from elsewhere\n", "utf-8")
    _open(stage, foreign)
    stage.shoot("run-not-trusted")
    if stage.looks.wants("run-long"):
        _open(stage, write_long_run(stage.home / "runs" / "20260910-093012-long-run", _LONG))
        stage.wait(lambda: len(page.plots.smoothed_loss()) == _LONG)
        stage.shoot("run-long")


def _open(stage: Stage, run: RunFolder) -> None:
    stage.studio.runs.open(run)
    stage.show(RunPage)
    stage.rest(1.2)
