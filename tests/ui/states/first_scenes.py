"""The window as it is before anything was done with it: every page with nothing on it yet."""

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from qlora_studio.ui.training.page import TrainingPage
from tests.ui.states.stage import Stage


def first_scenes(stage: Stage) -> None:
    """Show each page, then what comes up over them."""
    stage.open()
    for name in stage.window.pages:
        if name == "comparison":
            continue
        stage.window.show_page(name)
        stage.rest()
        stage.shoot(f"first-{name}")
    stage.show(TrainingPage)
    stage.shoot("first-training-end", end=True)
    QTest.keyClick(stage.window, Qt.Key.Key_K, Qt.KeyboardModifier.ControlModifier)
    stage.rest()
    stage.shoot("palette")
    palette = stage.actions.palette
    QTest.keyClicks(palette.field, "rate")
    stage.shoot("palette-rate")
    palette.field.setText("zzz")
    stage.shoot("palette-nothing")
    palette.close_again()
    QTest.keyClick(stage.window, Qt.Key.Key_F1)
    stage.rest()
    stage.shoot("keys")
    stage.actions.key_sheet.close_again()
    stage.actions.toast.tell("Undone: Rank 32 → 16")
    stage.shoot("toast")
