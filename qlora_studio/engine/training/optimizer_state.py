"""What an optimizer keeps in paged memory, and what a resume must mend in it and its schedule."""

from typing import Any

import torch

from qlora_studio.engine.model.adapted import release_memory

_BUFFERS = ("state1", "state2")


class PagedBuffers:
    """Paged memory that an optimizer left behind, for the next one over the same parameters.

    bitsandbytes never gives it back (`GlobalPageManager`): another optimizer would take as much again, for good.
    """

    def __init__(self) -> None:
        self._left: dict[int, list[torch.Tensor]] = {}

    def keep(self, optimizer: Any) -> None:
        """Remember what an optimizer that takes no more steps holds in paged memory, and empty it."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # not everywhere may the processor write to what the card may still write to
        for parameter, state in _plain(optimizer).state.items():
            left = [state[name].zero_() for name in _BUFFERS if _is_paged(state.get(name))]
            self._left[id(parameter)] = left

    def lend(self, optimizer: Any) -> None:
        """Let an optimizer take what was left before it takes paged memory of its own."""
        plain = _plain(optimizer)
        if not getattr(plain, "is_paged", False):
            return
        take_new = plain.get_state_buffer

        def get_state_buffer(parameter: Any, dtype: torch.dtype = torch.float32) -> Any:
            left = self._left.get(id(parameter), [])
            found = next((index for index, buffer in enumerate(left) if buffer.dtype == dtype), None)
            return take_new(parameter, dtype=dtype) if found is None else left.pop(found)

        plain.get_state_buffer = get_state_buffer


def restore_rate(optimizer: Any, scheduler: Any, rate: float) -> None:
    """Make `rate` the learning rate that the schedule starts from: what was loaded holds that of the checkpoint."""
    if all(base == rate for base in scheduler.base_lrs):
        return
    scheduler.base_lrs = [rate for _ in scheduler.base_lrs]
    rates = [rate * factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
    for group, now in zip(optimizer.param_groups, rates, strict=True):
        group["initial_lr"], group["lr"] = rate, now
    scheduler._last_lr = rates


def restore_paging(optimizer: Any) -> int:
    """Move an optimizer's loaded state back into paged memory; return how many bytes are paged now.

    WORKAROUND bitsandbytes 0.50: `load_state_dict` moves every tensor to the card as an ordinary one, so that a paged
    optimizer pages nothing after a resume. Only what bitsandbytes would have paged itself is moved: by its own
    `get_state_buffer`, which pages tensors of 100,000 elements or more on a card, and none on the CPU.
    """
    plain = _plain(optimizer)
    if not getattr(plain, "is_paged", False):
        return 0
    for parameter, state in plain.state.items():
        for name in _BUFFERS:
            loaded = state.get(name)
            if loaded is None or parameter.device.type == "cpu" or _is_paged(loaded):
                continue
            buffer = plain.get_state_buffer(parameter, dtype=loaded.dtype)
            if _is_paged(buffer):
                state[name] = buffer.copy_(loaded)
    release_memory()
    return paged_bytes(plain)


def paged_bytes(optimizer: Any) -> int:
    """Return how many bytes of an optimizer's state lie in paged memory."""
    states = (state.get(name) for state in _plain(optimizer).state.values() for name in _BUFFERS)
    return sum(item.nbytes for item in states if _is_paged(item))


def _is_paged(buffer: Any) -> bool:
    return bool(getattr(buffer, "is_paged", False))


def _plain(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
