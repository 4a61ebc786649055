"""What is dropped on the window or pasted into it: it goes where it belongs, and its source keeps it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDragMoveEvent, QDropEvent, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog, QLineEdit, QWidget

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import to_toml
from qlora_studio.storage.runs.run_folder import run_folders
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.model.page import ModelPage
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.training.page import TrainingPage
from qlora_studio.ui.window.main_window import MainWindow

WaitUntil = Callable[[Callable[[], object]], None]
LEFT, MOVE, COPY = Qt.MouseButton.LeftButton, Qt.DropAction.MoveAction, Qt.DropAction.CopyAction


@pytest.fixture
def opened(qapp: QApplication, wait_until: WaitUntil) -> Iterator[AppWindow]:
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    yield app_window
    app_window.destroy()


def model_page(app_window: AppWindow) -> ModelPage:
    page = app_window.window.pages["model"]
    assert isinstance(page, ModelPage)
    return page


def files(*paths: Path | str) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) if isinstance(path, Path) else QUrl(path) for path in paths])
    return data


def text(words: str) -> QMimeData:
    data = QMimeData()
    data.setText(words)
    return data


def drop_at(widget: QWidget, data: QMimeData, *, possible: Qt.DropAction = MOVE | COPY) -> QDropEvent:
    """Drag something into a window, over a widget, and drop it there; the source proposes to move it."""
    keys = Qt.KeyboardModifier.ShiftModifier
    window = widget.window().windowHandle()
    place = widget.mapTo(widget.window(), widget.rect().center())
    enter = QDragEnterEvent(place, possible, data, LEFT, keys)
    move = QDragMoveEvent(place, possible, data, LEFT, keys)
    drop = QDropEvent(QPointF(place), possible, data, LEFT, keys)
    assert drop.proposedAction() == MOVE
    for event in (enter, move, drop):
        event.ignore()
        QApplication.sendEvent(window, event)
        assert not (event.isAccepted() and event.dropAction() == MOVE)
    return drop


def draft(app_window: AppWindow) -> RunConfig:
    assert app_window.studio is not None
    return app_window.studio.draft.config


def wait_for_data(app_window: AppWindow, path: Path, wait_until: WaitUntil) -> None:
    wait_until(lambda: draft(app_window).data.path == str(path))


def error(app_window: AppWindow) -> str:
    return app_window.window.current_page().notice.message.text()


def test_what_is_dropped_anywhere_is_taken_as_a_copy_though_a_move_is_proposed(
    opened: AppWindow, tmp_path: Path, wait_until: WaitUntil
) -> None:
    window = opened.window
    window.show_page("model")
    source = model_page(opened).source
    source.show_kind("hub")
    QApplication.processEvents()
    for index, widget in enumerate((source.hub_id, opened.panel, window.rail, window.status_line, model_page(opened))):
        path = tmp_path / f"rows {index}.jsonl"
        path.write_text('{"text": "Ahoy"}\n', "utf-8")
        drop = drop_at(widget, files(path))
        assert drop.isAccepted() and drop.dropAction() == COPY
        wait_for_data(opened, path, wait_until)
        assert window.current_page().name == "data"
        window.show_page("model")
    assert source.hub_id.text() == ""
    drop = drop_at(source.hub_id, text("owner/name"))
    assert source.hub_id.text() == "owner/name"
    assert drop.isAccepted() and drop.dropAction() == COPY
    for data in (files(tmp_path), text("words")):
        assert not drop_at(source.hub_id, data, possible=MOVE).isAccepted()
    assert source.hub_id.text() == "owner/name"


def test_a_text_that_is_dropped_into_a_field_is_told_when_the_focus_leaves_as_if_it_were_typed(
    opened: AppWindow, wait_until: WaitUntil
) -> None:
    page = opened.window.pages["training"]
    assert isinstance(page, TrainingPage)
    opened.window.show_page("training")
    opened.window.activateWindow()
    wait_until(opened.window.isActiveWindow)
    line = page.form.line("data.template_variables")
    for section in page.form.sections:
        section.unfold_for("data.template_variables")
    QApplication.processEvents()
    page.focus_on(line.field)
    page.start_button.setFocus()
    QApplication.processEvents()
    drop_at(line.field, text("enable_thinking = false"))
    page.start_button.setFocus()
    assert draft(opened).data.template_variables == {"enable_thinking": False}


def test_a_dialog_takes_no_file_and_text_as_a_copy(qapp: QApplication, tmp_path: Path, wait_until: WaitUntil) -> None:
    window = MainWindow(QWidget())
    window.show()
    dialog = QDialog(window)
    field = QLineEdit(dialog)
    dialog.open()
    dialog.activateWindow()
    wait_until(dialog.isActiveWindow)
    assert not drop_at(field, files(tmp_path)).isAccepted()
    assert not drop_at(window.rail, files(tmp_path)).isAccepted()  # it waits for the dialog
    assert field.text() == ""
    drop_at(field, text("words"))
    assert field.text() == "words"
    dialog.close()
    window.close_now()


def test_several_things_go_each_where_it_belongs_and_unknown_ones_are_answered(
    opened: AppWindow, tiny_llama: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    first, second, picture = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "picture.png"
    for path in (first, second, picture):
        path.write_text("question,answer\nAhoy,Aye\n", "utf-8")
    drop_at(opened.window.rail, files(first, second, picture, tiny_llama / "model.safetensors", "https://a.org/b.csv"))
    wait_until(lambda: draft(opened).model.source == str(tiny_llama))
    assert [source.path for source in draft(opened).data.sources] == [str(first), str(second)]
    assert opened.window.current_page().name == "data"
    assert "picture.png" in error(opened) and "https://a.org/b.csv is on the web" in error(opened)
    folder = write_sample_run(tmp_path / "1-run", steps=20)
    drop_at(opened.panel, files(folder.path))
    wait_until(lambda: opened.window.current_page().name == "run")
    assert opened.studio is not None and opened.studio.runs.shown is not None
    assert opened.studio.runs.shown.folder.path == folder.path
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(RunConfig().with_value("lora.rank", 48)), "utf-8")
    drop_at(opened.panel, files(path))
    wait_until(lambda: opened.window.current_page().name == "training")
    training = opened.window.pages["training"]
    assert isinstance(training, TrainingPage) and draft(opened).lora.rank != 48
    training.takeover.take.click()
    assert draft(opened).lora.rank == 48
    path.write_text("[lora]\nrank = 'many'\n", "utf-8")
    drop_at(opened.panel, files(path))
    wait_until(lambda: "mine.toml" in error(opened))
    assert draft(opened).lora.rank == 48


def test_a_packed_run_is_taken_in_and_another_zip_is_told_to_be_none(
    opened: AppWindow, tmp_path: Path, studio_home: Path, wait_until: WaitUntil
) -> None:
    shutil.make_archive(str(tmp_path / "sent"), "zip", write_sample_run(tmp_path / "1-run", steps=20).path)
    drop_at(opened.panel, files(tmp_path / "sent.zip"))
    wait_until(lambda: run_folders(studio_home / "runs"))
    assert opened.window.current_page().name == "runs"
    (tmp_path / "photos.zip").write_bytes(b"PK")
    drop_at(opened.panel, files(tmp_path / "photos.zip"))
    wait_until(lambda: "photos.zip" in error(opened))
    assert len(run_folders(studio_home / "runs")) == 1


def test_while_files_are_over_the_window_it_says_what_can_be_dropped(qapp: QApplication, tmp_path: Path) -> None:
    window = MainWindow(QWidget())
    window.show()
    data = files(tmp_path / "nothing")  # an event does not keep it
    enter = QDragEnterEvent(QPoint(5, 5), MOVE | COPY, data, LEFT, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(window.windowHandle(), enter)
    assert window.drops._hint.isVisible() and window.drops._hint.size() == window.size()
    QApplication.sendEvent(window.windowHandle(), QDragLeaveEvent())
    assert not window.drops._hint.isVisible()
    QApplication.sendEvent(window.windowHandle(), enter)
    drop_at(window.rail, data)
    assert not window.drops._hint.isVisible()
    window.close_now()


def test_paths_are_pasted_anywhere_but_into_a_field_where_they_are_text(
    opened: AppWindow, tmp_path: Path, wait_until: WaitUntil
) -> None:
    window, path = opened.window, tmp_path / "my rows.csv"
    path.write_text("question,answer\nAhoy,Aye\n", "utf-8")
    window.show_page("model")
    window.activateWindow()
    wait_until(window.isActiveWindow)
    for words in (f'"{path}"', QUrl.fromLocalFile(str(path)).toString(QUrl.ComponentFormattingOption.FullyEncoded)):
        QGuiApplication.clipboard().setText(words)
        window.rail.findChildren(QWidget)[-1].setFocus()
        window.setFocus()
        QTest.keyClick(window, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
        wait_for_data(opened, path, wait_until)
        opened.studio.draft.set_value("data.path", "")  # type: ignore[union-attr]
        window.show_page("model")
        source = model_page(opened).source
        source.show_kind("folder")
        QApplication.processEvents()
        source.folder.line.setFocus()
        QTest.keyClick(source.folder.line, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
        assert source.folder.line.text() == words and source.folder.text() == str(path)
        source.folder.line.clear()
    QGuiApplication.clipboard().clear()
