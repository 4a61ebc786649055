"""What must hold whatever was done: at once, and once the window has had time to settle."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDialog,
    QFileDialog,
    QLabel,
    QLineEdit,
    QTableView,
    QWidget,
)

from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from qlora_studio.storage.settings import settings_path
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.training.page import TrainingPage

_UNSAID = re.compile(
    r"Traceback \(most recent|<[\w.]+ object at 0x|(^|[:=(,] ?)None($|[),.;])"
    r"|(?<!not )\b(nan|inf)\b|<bound method|PySide6\."
)
_SMALL = 8
_QTS_OWN = "QLineEditIconButton"  # that empties a field; the field has the name
Promise = tuple[str, Callable[[], bool]]


def wrong_now(app_window: AppWindow) -> list[str]:
    """Return what is wrong at this moment; quick, for after each action."""
    window, found = app_window.window, []
    page = window.current_page()
    chosen = [button.text() for button in window.rail.findChildren(QAbstractButton) if button.isChecked()]
    named = window.pages[page.entry].title if page.entry else page.title  # a page without one of its own has another's
    if chosen not in ([named], []):
        found.append(f"the rail has {chosen} chosen above the page {page.title}")
    for top in QApplication.topLevelWidgets():
        known = (Qt.WindowType.Popup, Qt.WindowType.ToolTip, Qt.WindowType.Dialog, Qt.WindowType.Sheet)
        if top is not window and top.isVisible() and top.windowType() not in known:
            found.append(f"a window of its own: {type(top).__name__} {top.accessibleName()!r}")
        if isinstance(top, QDialog) and top.isVisible() and not top.isModal() and not top.findChildren(QAbstractButton):
            found.append(f"a dialog without a button: {top.windowTitle()!r}")
    focused = QApplication.focusWidget()
    if focused is not None and not focused.isVisible() and window.isActiveWindow():
        found.append(f"the focus in something that is not to be seen: {type(focused).__name__}")
    return found


def wrong_words(app_window: AppWindow) -> list[str]:
    """Return texts on the open page that no person would have written, and labels cut to nothing."""
    window = app_window.window
    found = []
    for label in window.findChildren(QLabel):
        if isinstance(label.window(), QFileDialog):
            continue  # Qt's own words
        if label.isVisible() and _UNSAID.search(label.text()) and not _is_quoted(label):
            found.append(f"a label says {label.text()[:80]!r}")
        if label.isVisible() and label.text() and not _is_literal(label):
            found.append(f"a label would show what it is given as HTML: {label.text()[:60]!r}")
    for button in window.current_page().findChildren(QAbstractButton):
        if button.isVisible() and button.isEnabled() and min(button.width(), button.height()) < _SMALL:
            found.append(f"a button too small to be hit: {button.text() or button.accessibleName()!r}")
        kind = button.metaObject().className()
        if button.isVisible() and not (button.text() or button.accessibleName()) and kind != _QTS_OWN:
            parent = button.parentWidget() or button
            found.append(f"a button without a name, {kind} in {type(parent).__name__} {parent.accessibleName()!r}")
    return found


def promises(app_window: AppWindow) -> Iterator[Promise]:
    """Yield what must come true within moments if nothing is done: what is shown is what is."""
    studio, window = app_window.studio, app_window.window
    if studio is None:
        return
    yield "the theme is the one of the settings", lambda: studio.settings.theme in ("system", active_theme().name)
    yield "the settings on the disk are those of the window", lambda: _saved_theme() == studio.settings.theme
    shown = studio.runs.shown
    if shown is not None and shown.folder.path.is_dir():
        yield (
            f"the run that is shown is over if nobody works on it, and at work else ({shown.store.state.phase})",
            lambda: studio.runs.shown is not shown or shown.store.state.phase.is_over != shown.folder.is_busy(),
        )
        yield (
            "the step that is shown is the last one told",
            lambda: studio.runs.shown is not shown or shown.store.state.step == _last_step(shown.folder),
        )
        page = window.pages["run"]
        if page.isVisible():  # behind another page it is drawn when it is seen again
            yield (
                "the Run page names the run that is shown",
                lambda: studio.runs.shown is not shown or _has_label(page, _called(shown.folder)),
            )
    training = window.pages.get("training")
    if isinstance(training, TrainingPage):
        other = _other_fields(training, app_window)
        yield f"each field of the form shows the draft ({', '.join(other)})", lambda: not other
    if window.current_page().name == "runs":
        yield "the list has every run on the disk", lambda: _lists_all(window.current_page(), studio.settings.runs_path)


def _is_literal(label: QLabel) -> bool:
    """Whether a label shows its text as it is; a tooltip's does so by HTML of our own."""
    return label.textFormat() == Qt.TextFormat.PlainText or label.text().startswith("<p style='white-space:pre-wrap'>")


def _is_quoted(label: QLabel) -> bool:
    """Whether a label shows the user's own words, or a detail that was folded out."""
    return bool(label.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse)


def _saved_theme() -> object:
    try:
        return json.loads(settings_path().read_text("utf-8"))["theme"]
    except (OSError, ValueError):
        return None


def _last_step(folder: RunFolder) -> int:
    """Return the step by the lines of the file, read here by hand."""
    step = 0
    for line in folder.events_path.read_bytes().splitlines() if folder.events_path.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("step"), int) and event.get("type") in _WITH_STEP:
            step = event["step"]
    return step


_WITH_STEP = ("step_done", "training_started", "resumed")


def _called(folder: RunFolder) -> str:
    """Return what a run is called, by its files: its user's name for it, else that of its settings."""
    label = folder.path / "label.json"
    name = json.loads(label.read_bytes()).get("name") if label.exists() else ""
    return str(name or tomllib.loads(folder.config_path.read_text("utf-8"))["name"])


def _has_label(page: QWidget, words: str) -> bool:
    return words in [" ".join(label.accessibleName().split()) for label in page.findChildren(QLabel)]


def _other_fields(page: TrainingPage, app_window: AppWindow) -> list[str]:
    """Return the settings whose field shows another value than the draft has, but those being edited or refused."""
    draft = app_window.studio.draft.config.model_dump() if app_window.studio else {}
    other = []
    for section in page.form.sections:
        for path, line in section.lines.items():
            if line.is_pending() or line.has_problem() or line.field.hasFocus() or line.field.isAncestorOf(_focused()):
                continue
            value = draft
            for name in path.split("."):
                value = value[name]
            if _plain(line.value()) != _plain(value):
                other.append(f"{path}: {line.value()!r} for {value!r}")
    return other


def _focused() -> QWidget:
    return QApplication.focusWidget() or QWidget()


def _plain(value: object) -> object:
    return [*map(str, value)] if isinstance(value, list | tuple) else str(getattr(value, "value", value))


def _lists_all(page: QWidget, runs: object) -> bool:
    tables = [table for table in page.findChildren(QTableView) if table.accessibleName() == "Runs"]
    filtered = any(line.text() for line in page.findChildren(QLineEdit) if line.isVisible())
    return filtered or not tables or tables[0].model().rowCount() == len(list(run_folders(runs)))  # type: ignore[arg-type]
