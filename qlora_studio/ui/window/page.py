"""The base of every page, and how a page is made.

A page is a `Page` subclass in its own room (`model/page.py` / `ModelPage`). It holds no truth and knows no process:

- class attributes `name` (`"model"`, also its key in the window and in the tests) and `title` (the word in the rail);
- `_made(self)` makes its widgets into `self.body` (a vertical layout that scrolls) and its buttons by `add_action`; it
  yields after each part that takes some milliseconds, and there the window answers;
- `render_…(state)` methods show what they are given, again and again; they never emit a signal;
- what the user asks for leaves as a signal named `…_requested`, with plain values or core's models as arguments. It is
  emitted once: a part of a page emits the page's own signal, or has one that is connected to what fulfils it.

`app.py` and `wiring.py` create the pages; each room's `wiring.py` connects `changed` signals of stores to `render_…`
and `…_requested` signals to what fulfils them. `on_shown` is called each time the page comes to the front: the place to
build what is slow (a plot).

What pages get and whom their wishes reach: `draft.DraftStore` is the run config being edited (`set_value(path,
value)`); `run_store.RunStore` holds state and history of a run or of any job; `job_thread.JobThread` starts and
follows a worker; `background.Background` makes slow calls beside the event loop. Pages that need such an object live
from signals all the same: the wiring stands between.

Make every text with `kit.text.Label`; use `kit.widgets` and `kit.fields`; give every input an accessible name.
"""

from collections.abc import Iterator

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLineEdit, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from qlora_studio.ui.kit.layouts import ScrolledContent
from qlora_studio.ui.kit.scrolling import BAR_WIDTH, ScrollArea
from qlora_studio.ui.kit.text import ElidedLabel, FactsLabel
from qlora_studio.ui.kit.widgets import ErrorNotice, Rule, begun, column, row

MARGIN = 20
GUTTER = 14
SEARCHES = "searches"  # a property of the field that Ctrl+F goes to


class Page(QWidget):
    """A heading with a line below it and buttons at its right, which stay, above a notice and content that scroll."""

    name = ""
    title = ""
    entry = ""  # of the rail, where a page has none of its own and belongs to another one's

    def __init__(self, *, at_once: bool = True) -> None:
        """Make the page; not `at_once`, its `steps` are left to the caller, and nothing is asked of it before."""
        super().__init__()
        self.setAccessibleName(self.title)
        self._heading = ElidedLabel(self.title, "heading")
        self._subtitle = FactsLabel("", "subtitle")
        self._actions = row()
        self._actions.setSpacing(12)
        self.notice = ErrorNotice()
        self.body = self._scrolled()
        self.steps = begun(self._made(), at_once=at_once)

    def set_heading(self, heading: str, subtitle: str = "") -> None:
        """Show what the page is about, and a line of facts below."""
        self._heading.setText(heading)
        self._subtitle.setText(subtitle)
        self._subtitle.setVisible(bool(subtitle))

    def add_action(self, button: QPushButton) -> None:
        """Put a button at the right of the heading; the last added stands outermost."""
        self._actions.addWidget(button)

    def show_error(self, error: Exception) -> None:
        """Show an error below the heading until `clear_error`."""
        self.notice.show_error(error)
        self._scroll.ensureWidgetVisible(self.notice)

    def clear_error(self) -> None:
        """Hide the error."""
        self.notice.clear()

    def focus_on(self, widget: QWidget) -> None:
        """Put the focus on something of the page, and scroll there."""
        self._scroll.ensureWidgetVisible(widget)
        widget.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def search_field(self) -> QLineEdit | None:
        """Return the field that filters what the page lists, where there is one to be seen."""
        fields = (field for field in self.findChildren(QLineEdit) if field.property(SEARCHES))
        return next((field for field in fields if field.isVisibleTo(self)), None)

    def on_shown(self) -> None:
        """Called each time the page comes to the front."""

    def _made(self) -> Iterator[None]:
        """Make what stands on the page, with pauses. It is in the window meanwhile, behind another page."""
        yield from ()

    def _scrolled(self) -> QVBoxLayout:
        content = ScrolledContent()
        outer = column(content, margins=(MARGIN, 1, MARGIN, MARGIN), spacing=GUTTER)
        outer.addWidget(self.notice)
        body = column(spacing=GUTTER)
        outer.addLayout(body, 1)
        self._scroll = ScrollArea(content)
        whole = column(self, spacing=0)
        whole.addLayout(self._head())
        whole.addWidget(self._edge())
        whole.addWidget(self._scroll, 1)
        return body

    def _edge(self) -> Rule:
        """Return the line that says that there is more above: its room is kept, so that nothing jumps."""
        edge = Rule()
        policy = edge.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        edge.setSizePolicy(policy)
        edge.hide()
        self._scroll.verticalScrollBar().valueChanged.connect(lambda value: edge.setVisible(value > 0))
        return edge

    def _head(self) -> QVBoxLayout:
        head = row(spacing=16)
        head.addWidget(self._heading, 1)
        head.addLayout(self._actions)
        whole = column(margins=(MARGIN, MARGIN, MARGIN + BAR_WIDTH, GUTTER - 2), spacing=4)
        whole.addLayout(head)
        whole.addWidget(self._subtitle)  # below the buttons too: its figures need the whole width
        self._subtitle.hide()
        self._heading.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        return whole
