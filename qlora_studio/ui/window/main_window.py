"""The one window: the rail, the open page, the GPU panel and the status line. It holds widgets and no truth."""

from collections.abc import Callable
from weakref import WeakSet

from PySide6.QtCore import QRect, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QGuiApplication, QShowEvent
from PySide6.QtWidgets import QApplication, QHBoxLayout, QLayout, QMainWindow, QMenu, QStackedWidget, QWidget

from qlora_studio.storage.session import Place
from qlora_studio.ui.kit.letters import AltKey, give_letters
from qlora_studio.ui.kit.scrolling import bring_into_view
from qlora_studio.ui.kit.theme import finish_theme
from qlora_studio.ui.kit.widgets import column, row
from qlora_studio.ui.window.drops import Drops
from qlora_studio.ui.window.page import Page
from qlora_studio.ui.window.place import area_within
from qlora_studio.ui.window.rail import Rail
from qlora_studio.ui.window.status_line import StatusLine

STEPS = ("model", "data", "training", "run", "export")
FIRST, LAST = "start", "settings"
SIZE = (1440, 900)
SMALLEST = (720, 440)
NARROW = 1200
TINY = 980  # pixels below which the panel is folded, until F9 asks for it
_TITLE_BAR = 36  # of the desktop, which the window's own size leaves out
RAIL_WIDTHS = (184, 152)  # usual, narrow
PANEL_WIDTHS = (316, 272)


class _Pages(QStackedWidget):
    """Pages of which the one at the front says how much room they need: Qt measures all of them for that."""

    def __init__(self) -> None:
        super().__init__()
        self.currentChanged.connect(self.updateGeometry)

    def sizeHint(self) -> QSize:
        """Ask for what the page at the front wants."""
        page = self.currentWidget()
        return page.sizeHint() if page is not None else QSize()

    def minimumSizeHint(self) -> QSize:
        """Ask for what it needs."""
        page = self.currentWidget()
        return page.minimumSizeHint() if page is not None else QSize()


class _Across(QHBoxLayout):
    """Has `prepare` suit what it holds to a width before it lays it out: after it, the page would be laid out twice."""

    def __init__(self, parent: QWidget, prepare: Callable[[int], None]) -> None:
        super().__init__(parent)
        self._prepare = prepare
        self._width = -1
        self.setContentsMargins(0, 0, 0, 0)
        self.setSpacing(0)

    def setGeometry(self, rect: QRect) -> None:
        """Lay all out."""
        if rect.width() != self._width:
            self._width = rect.width()
            self._prepare(rect.width())
            for layout in (*self.findChildren(QLayout), self):  # what was measured before is of other widths
                layout.invalidate()
        super().setGeometry(rect)


class MainWindow(QMainWindow):
    """Rail · page · GPU panel, above one status line.

    Signals:
        page_shown: the name of the page that came to the front.
        close_requested: the user wants to close; the window stays until `close_now`.
    """

    page_shown = Signal(str)
    close_requested = Signal()

    def __init__(self, gpu_panel: QWidget) -> None:
        super().__init__()
        self.setWindowTitle("QLoRA Studio")
        self.setMinimumSize(*SMALLEST)
        self.rail = Rail()
        self.status_line = StatusLine()
        self.gpu_panel = gpu_panel
        self.pages: dict[str, Page] = {}
        self._stack = _Pages()
        self._stack.currentChanged.connect(self._move_unseen_focus)
        if (application := QApplication.instance()) is not None:
            application.focusChanged.connect(self._on_focus_changed)  # type: ignore[attr-defined]
        self._menus: WeakSet[QMenu] = WeakSet()  # that had the focus
        self._may_close = False
        self.is_panel_wanted = True
        self._is_tiny: bool | None = None  # not known yet
        self._build()
        self.drops, self._alt_key = Drops(self), AltKey(self)
        self.rail.chosen.connect(self.show_page)
        self.resize_for(QGuiApplication.primaryScreen().availableGeometry())

    def add_page(self, page: Page) -> None:
        """Add a page and, where it has one of its own, its entry in the rail, which has the order of the calls."""
        number = STEPS.index(page.name) + 1 if page.name in STEPS else None
        if not page.entry:
            self.rail.add(page.name, page.title, number=number, first=page.name == FIRST, last=page.name == LAST)
        self.pages[page.name] = page
        self.take_in(page)

    def take_in(self, page: Page) -> None:
        """Hold a page that is not finished: what is put into it later is not moved as a whole then."""
        if self._stack.indexOf(page) < 0:
            self._stack.addWidget(page)

    def show_page(self, name: str) -> None:
        """Bring a page to the front."""
        page = self.pages[name]
        give_letters(page)
        finish_theme(page)
        self._stack.setCurrentWidget(page)
        self.rail.select(page.entry or name)
        page.on_shown()
        self.page_shown.emit(name)

    def current_page(self) -> Page:
        """Return the page at the front."""
        page = self._stack.currentWidget()
        assert isinstance(page, Page)
        return page

    def toggle_panel(self) -> None:
        """Fold the GPU panel away, or show it again."""
        self.show_panel(self.gpu_panel.isHidden())

    def show_panel(self, shown: bool) -> None:
        """Show the GPU panel, or fold it away."""
        if self.width() >= TINY:  # else it is about the moment alone
            self.is_panel_wanted = shown
        self._set_panel_visible(shown)

    def close_now(self) -> None:
        """Close without asking again."""
        self._may_close = True
        self.close()

    def resize_for(self, screen: QRect) -> None:
        """Take the usual size, or what the screen has."""
        self.resize(min(SIZE[0], screen.width()), min(SIZE[1], screen.height() - _TITLE_BAR))

    def take_place(self, place: Place) -> None:
        """Stand where the window stood, within the screens of now."""
        self.setGeometry(area_within(place, [screen.availableGeometry() for screen in QGuiApplication.screens()]))
        if place.maximized:
            self.setWindowState(Qt.WindowState.WindowMaximized)

    def showEvent(self, event: QShowEvent) -> None:
        """Take what is dropped from now on."""
        super().showEvent(event)
        for watcher in (self.drops, self._alt_key):
            watcher.watch(self.windowHandle())

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ask before closing; whoever listens to `close_requested` decides."""
        if self._may_close:
            super().closeEvent(event)
            return
        event.ignore()
        QTimer.singleShot(0, self.close_requested.emit)  # after this event: within it, Qt closes nothing

    def focusNextPrevChild(self, next: bool) -> bool:
        """Move the focus on, and scroll to it: Qt does so only where it was within the scrolled area before."""
        moved = super().focusNextPrevChild(next)
        if moved and (focused := self.focusWidget()) is not None:
            bring_into_view(focused)
        return moved

    def _suit(self, width: int) -> None:
        """Leave the page more room in a narrow window."""
        narrow, is_tiny = width < NARROW, width < TINY
        self.rail.setFixedWidth(RAIL_WIDTHS[narrow])
        self.gpu_panel.setFixedWidth(PANEL_WIDTHS[narrow])
        if is_tiny != self._is_tiny:
            self._is_tiny = is_tiny
            self._set_panel_visible(self.is_panel_wanted and not is_tiny)

    def _set_panel_visible(self, shown: bool) -> None:
        if shown:
            finish_theme(self.gpu_panel)  # what was hidden as the theme changed is dressed when its turn comes
        self.gpu_panel.setVisible(shown)

    def _on_focus_changed(self, _before: QWidget | None, now: QWidget | None) -> None:
        """Qt gives the focus to whatever asks for it, also in a part that is hidden, and leaves it in a menu that
        closes if what had it before is hidden by then.
        """
        if isinstance(now, QMenu) and now not in self._menus:
            self._menus.add(now)
            now.aboutToHide.connect(self._look_for_unseen_focus)
        if now is not None and not now.isVisible() and self.isAncestorOf(now):
            self._look_for_unseen_focus()

    def _look_for_unseen_focus(self) -> None:
        QTimer.singleShot(0, self._move_unseen_focus)

    def _move_unseen_focus(self) -> None:
        """Go back to what had the focus before a menu that closed, else on to what is seen: a page gets its focus back
        in a field that may have been hidden meanwhile.
        """
        focused, before = QApplication.focusWidget(), self.focusWidget()
        if focused is None or focused.isVisible():
            return
        if isinstance(focused, QMenu) and before is not None and before.isVisible():
            before.setFocus(Qt.FocusReason.PopupFocusReason)
        else:
            self.focusNextChild()

    def _build(self) -> None:
        whole = QWidget()
        across = _Across(whole, self._suit)
        across.addWidget(self.rail)
        right = column(spacing=0)
        middle = row(spacing=0)
        middle.addWidget(self._stack, 1)
        middle.addWidget(self.gpu_panel)
        right.addLayout(middle, 1)
        right.addWidget(self.status_line)
        across.addLayout(right, 1)
        self.setCentralWidget(whole)
