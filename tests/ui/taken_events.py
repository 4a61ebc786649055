"""Events into a store as the window gives them, until they are all applied."""

from PySide6.QtWidgets import QApplication

from qlora_studio.core.run.events import Event
from qlora_studio.ui.state.run_store import RunStore


def take(store: RunStore, events: tuple[Event, ...]) -> None:
    """Give events to a store, and let it apply the last of them: many take more than one turn."""
    applied: list[Event] = []
    connection = store.events_applied.connect(applied.extend)
    store.take(events)
    while len(applied) < len(events):
        QApplication.processEvents()
    store.events_applied.disconnect(connection)
