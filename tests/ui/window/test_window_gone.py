"""What stands behind a window may speak for a moment longer; nothing of a window that is gone listens any more."""

import sys
from collections.abc import Callable

import pytest
from PySide6.QtWidgets import QApplication

from qlora_studio.ui.app import AppWindow

WaitUntil = Callable[[Callable[[], object]], None]


def test_nothing_of_a_window_that_is_gone_listens_to_what_stood_behind_it(
    qapp: QApplication, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    studio = app_window.studio
    assert studio is not None
    app_window.destroy()
    errors: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: errors.append(error))
    studio.runs.worked.emit()
    studio.runs.changed.emit()
    studio.queue.changed.emit()
    studio.queue.ended.emit("All runs of the queue ended.")
    studio.settings_changed.emit(studio.settings)
    studio.draft.changed.emit(studio.draft.config)
    studio.draft.refused.emit({})
    studio.draft.offered.emit()
    studio.estimates.model_asked.emit()
    studio.estimates.estimated.emit(None, "")
    studio.gpu.changed.emit()
    qapp.processEvents()
    assert not errors
