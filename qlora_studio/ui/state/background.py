"""Slow calls of the window (a model's files, the list of runs) beside its event loop; only the newest answer counts."""

from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal

from qlora_studio.core.errors import StudioError, unforeseen

_NAMES = count()


class Background(QObject):
    """Runs one kind of call. `ask` again before the answer: the older answer is dropped.

    Signals:
        answered: what the call returned.
        failed: the StudioError that it raised, or anything else as one.
    """

    answered = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._newest = 0
        self._name = next(_NAMES)
        _messenger().done.connect(self._on_call_done)

    def ask(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call in another thread; the answer arrives as a signal in this one."""
        self._newest += 1
        QThreadPool.globalInstance().start(_Call((self._name, self._newest), call, arguments))

    def forget(self) -> None:
        """Drop the answer that is still on its way."""
        self._newest += 1

    def _on_call_done(self, number: tuple[int, int], result: Any, error: StudioError | None) -> None:
        if number != (self._name, self._newest):
            return
        if error is None:
            self.answered.emit(result)
        else:
            self.failed.emit(error)


class _Messenger(QObject):
    """Carries answers into the window's thread. It is never deleted: a call may outlast whoever asked for it, and a
    thread that emits a signal of an object that is just being deleted brings the process down."""

    done = Signal(object, object, object)


class _Call(QRunnable):
    def __init__(self, number: tuple[int, int], call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self._number, self._call, self._arguments = number, call, arguments
        self._messenger = _messenger()

    def run(self) -> None:
        result, error = None, None
        try:
            result = self._call(*self._arguments)
        except Exception as problem:  # noqa: BLE001 - else whoever asked would wait for ever
            error = unforeseen(problem)
        self._messenger.done.emit(self._number, result, error)


@cache
def _messenger() -> _Messenger:
    return _Messenger()
