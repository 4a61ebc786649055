"""`make screenshots`: a picture of every page, light and dark, large and small, into docs/screenshots.

The model, the dataset, its tokens and the estimate are real: the starter project's, read by a real worker. The runs are
illustrations (see `sample_run`), and so are the cards (`run-card-…`, and `cards-…` by `cards`): no run was trained for
them.
"""

import math
import os
import platform
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qlora_studio.core.quantity import GIB
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.activity import Activity
from qlora_studio.jobs.gpu_sample import GpuProcess, GpuSample
from qlora_studio.storage.presets import load_preset
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.kit.theme import DARK, LIGHT, apply_theme
from qlora_studio.ui.showcase.cards import card_pictures
from qlora_studio.ui.showcase.sample_run import STEPS, write_sample_run

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from qlora_studio.ui.app import AppWindow
    from qlora_studio.ui.run.plot_card import PlotCard

SIZES = {"": (1440, 900), "-small": (1024, 640)}
_WAIT_SECONDS = 240.0
_SETTLE_SECONDS = 0.8


def main(place: Path) -> int:
    """Write the pictures into a folder and return the exit code."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    place.mkdir(parents=True, exist_ok=True)
    from qlora_studio.ui.app import AppWindow, new_application

    with tempfile.TemporaryDirectory() as home:
        os.environ["QLORA_STUDIO_HOME"] = home
        live = _write_runs(Path(home) / "runs")
        app = new_application()
        with live.lock():  # as a worker at work holds it
            window = AppWindow()
            done: list[bool] = []
            window.completed.connect(lambda: done.append(True))
            window.show()
            _pump(app, lambda: bool(done))
            _prepare(app, window)
            for name in _pictures(app, window, place):
                print(name)
            window.destroy()
        for name in card_pictures(app, place):
            print(name)
    return 0


def _write_runs(runs: Path) -> RunFolder:
    finished = write_sample_run(runs / "20260901-093012-support-bot-first", steps=STEPS)
    with MessageLogWriter(finished.events_path) as log:
        log.append(ev.AdapterSaved(path=str(finished.adapter_path), step=STEPS))
        log.append(ev.Finished())
    return write_sample_run(runs / "20260902-141500-support-bot")


def _prepare(app: "QApplication", window: "AppWindow") -> None:
    """Take the starter project as the draft and wait for its data to be read."""
    studio = window.studio
    assert studio is not None
    studio.draft.replace(load_preset("starter"))
    window.window.show_page("data")
    store = studio.data.store
    _pump(app, lambda: store.state.failure is not None or store.state.activity == Activity.READY)
    _pump(app, lambda: studio.runs.shown is not None and studio.runs.shown.store.state.step > 400)


def _pictures(app: "QApplication", window: "AppWindow", place: Path) -> Iterator[str]:
    for theme in (LIGHT, DARK):
        apply_theme(app, theme)
        for suffix, size in SIZES.items():
            window.window.resize(*size)
            for name in window.window.rail.names():
                window.window.show_page(name)
                yield _picture(app, window, place / f"{name}-{theme.name}{suffix}.png")
    _show_card(window)
    window.window.resize(*SIZES[""])
    window.window.show_page("run")
    for theme in (LIGHT, DARK):
        apply_theme(app, theme)
        yield _picture(app, window, place / f"run-card-{theme.name}.png")


def _picture(app: "QApplication", window: "AppWindow", path: Path) -> str:
    until = time.monotonic() + _SETTLE_SECONDS
    plots = _plots(window)
    _pump(app, lambda: time.monotonic() > until and all(plot.is_plot_ready() for plot in plots))
    _hide_this_machine(window)
    app.processEvents()
    window.window.grab().save(str(path))
    return path.name


def _plots(window: "AppWindow") -> "list[PlotCard]":
    """Return the cards of the shown page that draw what came a moment later."""
    from qlora_studio.ui.run.plot_card import PlotCard

    return window.window.current_page().findChildren(PlotCard)


def _hide_this_machine(window: "AppWindow") -> None:
    """Write usual places for the paths and the system of the machine that makes the pictures."""
    from PySide6.QtWidgets import QLineEdit, QWidget

    from qlora_studio.ui.kit.text import ElidedLabel, Label
    from qlora_studio.ui.model.local import LocalModels

    for local in window.window.findChildren(LocalModels):
        local.hide()
    names = {
        os.environ["QLORA_STUDIO_HOME"]: "~/.local/share/qlora-studio",
        sysconfig.get_path("purelib"): "~/qlora-studio/.venv/lib/python3/site-packages",
        f" {platform.release()}": "",
    }
    for part in window.window.current_page().findChildren(QWidget):
        if not isinstance(part, Label | QLineEdit):
            continue
        text = shown = part.whole_text() if isinstance(part, ElidedLabel) else part.text()
        for name, usual in names.items():
            shown = shown.replace(name, usual)
        if shown != text:
            part.setText(shown)


def _show_card(window: "AppWindow") -> None:
    """Show a card that is not here, as it would be during such a run."""
    assert window.studio is not None
    window.studio.gpu.stop()
    window.studio.gpu.samples.clear()
    for second in range(120):
        window.studio.gpu.add(_sample(second))


def _sample(second: int) -> GpuSample:
    worker, other = 1.3, 0.9
    return GpuSample(
        available=True,
        time=float(second),
        index=0,
        uuid="GPU-sample",
        name="NVIDIA RTX 4060",
        driver="580.95",
        total_bytes=8 * GIB,
        used_bytes=int((worker + other) * GIB),
        reserved_bytes=int(0.3 * GIB),
        free_bytes=int((7.7 - worker - other) * GIB),
        worker_bytes=int(worker * GIB),
        other_bytes=int(other * GIB),
        others=(GpuProcess(1, "firefox", None), GpuProcess(2, "Xorg", None)),
        utilisation_percent=round(94 + 4 * math.sin(second / 5)),
        temperature_celsius=58 + min(10, second // 8),
        power_watts=101 + 6 * math.sin(second / 4),
        power_limit_watts=115.0,
    )


def _pump(app: "QApplication", done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("The window did not come to rest.")
        app.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/screenshots")))
