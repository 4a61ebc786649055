"""From a model's last states to its words, in tiles of tokens and vocabulary: nothing of tokens times words at once.

The head's rows are read from the files, tile by tile. What a family does to its logits after the head, as capping or
scaling them, is done by its own forward, of a model without weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as functional

from qlora_studio.engine.verification.skeleton import CannotStream, Skeleton
from qlora_studio.engine.verification.streaming import layer_paths

_TILE_BYTES = 32 << 20  # of the head's weights at a time


class Head:
    """A linear head, its rows read when they are asked for; or none, where states are logits already."""

    def __init__(self, skeleton: Skeleton | None = None, vocabulary: int = 0) -> None:
        self.vocabulary = vocabulary
        self._tail: Callable[[torch.Tensor], torch.Tensor] | None = None
        if skeleton is None:
            self.step = max(1, vocabulary)
            return
        module = skeleton.model.get_output_embeddings()
        path = next(name for name, item in skeleton.model.named_modules() if item is module)
        self.vocabulary, width = module.weight.shape
        self._dtype, self._device = module.weight.dtype, skeleton.device
        self._source = skeleton.source(f"{path}.weight")
        if self._source is None:
            self._source = skeleton.tensor(f"{path}.weight")
        self._bias = skeleton.tensor(f"{path}.bias") if module.bias is not None else None
        self.step = max(1, _TILE_BYTES // (width * self._dtype.itemsize))
        self._tail = _tail_of(skeleton.model, path, self._dtype, self._device)

    @property
    def is_plain(self) -> bool:
        """Whether it is a linear layer, and states are not logits."""
        return self._tail is not None

    def tile(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Return weights and bias of words start..stop, (words, hidden)."""
        if self._tail is None:
            return None
        bias = self._bias[start:stop].to(self._device, self._dtype) if self._bias is not None else None
        return self._source[start:stop].to(self._device, self._dtype), bias

    def logits(self, states: torch.Tensor, tile: Any, start: int, stop: int) -> torch.Tensor:
        """Return the logits of words start..stop, fp32, of states (tokens, hidden)."""
        if self._tail is None:
            return states[:, start:stop].float()
        return self._tail(functional.linear(states.to(self._device), *tile)).float()


def _tail_of(model: Any, path: str, dtype: torch.dtype, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a model does to its logits after its head. Raises CannotStream where that depends on all words."""
    body, head = _body_of(model, path), model.get_submodule(path)
    ids = torch.zeros((1, 1), dtype=torch.long, device=device)

    def tail(logits: torch.Tensor) -> torch.Tensor:
        with _replaced(body, lambda *_, **__: _Output(logits[None])), _replaced(head, lambda *_: logits[None]):
            found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
        return found[0]

    probe = torch.linspace(-50, 50, 2 * head.weight.shape[0], dtype=dtype, device=device).reshape(2, -1)
    try:
        whole = tail(probe)
        half = probe.shape[1] // 2
        parts = torch.cat([tail(probe[:, :half]), tail(probe[:, half:])], dim=1)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        raise CannotStream(f"what comes after its head is not known: {error}") from error
    if not torch.equal(whole, parts):
        raise CannotStream("what comes after its head depends on all words")
    return (lambda logits: logits) if torch.equal(whole, probe) and whole.dtype == dtype else tail


def _body_of(model: Any, head: str) -> Any:
    """Return the outermost module that has the layers and not the head."""
    parts = layer_paths(model)[0].split(".")
    paths = (".".join(parts[: number + 1]) for number in range(len(parts)))
    return model.get_submodule(next(path for path in paths if not f"{head}.".startswith(f"{path}.")))


class _Output:
    """What a model's body returns, as far as its head asks for it."""

    def __init__(self, states: torch.Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, place: Any) -> Any:
        return self.last_hidden_state if place == 0 else ()


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        module.__dict__.pop("forward", None)
        if before is not None:
            module.forward = before
