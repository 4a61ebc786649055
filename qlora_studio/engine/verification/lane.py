"""A batch of rows on its way through a model whose layers come one at a time: a forward in a thread, held at each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Semaphore, Thread
from typing import Any

import torch


@dataclass
class Lane:
    """A batch of rows of one length, (rows, tokens), on its way through the model, with or without the adapter."""

    ids: torch.Tensor
    adapted: bool = True
    given: torch.Tensor | None = None  # what its first layers made of it, in an earlier process
    passed: int = 0  # how many layers those were
    result: Any = None
    call: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None  # of the layer that it waits for
    is_chain: bool = True  # whether each layer was given what the one before returned, and nothing that may change
    _value: Any = None
    _layers: int = 0
    _error: BaseException | None = None
    _thread: Thread | None = None
    _go: Semaphore = field(default_factory=lambda: Semaphore(0))
    _held: Semaphore = field(default_factory=lambda: Semaphore(0))

    def advance(self, work: Callable[["Lane"], Any], value: Any = None) -> None:
        """Let the lane go on with what its layer returned, and return when it waits for another, or is done."""
        self._value, self.call = value, None
        if self._thread is None:
            self._thread = Thread(target=self._run, args=(work,), daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._held.acquire()
        if self._error is not None:
            raise self._error

    def hold(self, layer: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Wait, in the lane's own thread, for what a layer returns."""
        self._layers += 1
        if self.given is not None and self._layers <= self.passed:
            self._value = self.given
            return self.given
        values = [*args, *kwargs.values()]
        is_first = self._layers == 1
        self.is_chain &= (is_first or any(item is self._value for item in values)) and not any(map(_may_change, values))
        self.call = (layer, args, kwargs)
        self._held.release()
        self._go.acquire()
        if isinstance(self._value, _Abandoned):
            raise self._value
        return self._value

    @property
    def states(self) -> torch.Tensor:
        """What the layers so far made of the rows."""
        found: torch.Tensor = self._value
        return found

    def abandon(self) -> None:
        """End the thread."""
        if self._thread is not None and self._thread.is_alive():
            self._value = _Abandoned()
            self._go.release()
            self._thread.join()

    def _run(self, work: Callable[["Lane"], Any]) -> None:
        torch.set_num_threads(1)  # layers compute in the thread that drives all lanes: its helpers are enough
        try:
            with torch.inference_mode():
                self.result = work(self)
        except _Abandoned:
            return
        except BaseException as error:  # noqa: BLE001  it is raised again where the lane was let on
            self._error = error
        self._held.release()


class _Abandoned(BaseException):
    """Ends a thread whose rows are no longer wanted."""


def _may_change(value: Any) -> bool:
    """Whether what a layer is given may be changed by it, for a later layer to find."""
    return value is not None and not isinstance(value, torch.Tensor | tuple | str | int | float | torch.dtype)
