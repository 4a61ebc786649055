"""What a resume must mend in an optimizer and its schedule after their states were loaded."""

from typing import Any

from qlora_studio.engine.model.adapted import release_memory

_BUFFERS = ("state1", "state2")


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
    plain = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    if not getattr(plain, "is_paged", False):
        return 0
    for parameter, state in plain.state.items():
        for name in _BUFFERS:
            loaded = state.get(name)
            if loaded is None or parameter.device.type == "cpu" or getattr(loaded, "is_paged", False):
                continue
            buffer = plain.get_state_buffer(parameter, dtype=loaded.dtype)
            if getattr(buffer, "is_paged", False):
                state[name] = buffer.copy_(loaded)
    release_memory()
    return paged_bytes(plain)


def paged_bytes(optimizer: Any) -> int:
    """Return how many bytes of an optimizer's state lie in paged memory."""
    plain = getattr(optimizer, "optimizer", optimizer)
    states = (state.get(name) for state in plain.state.values() for name in _BUFFERS)
    return sum(item.nbytes for item in states if item is not None and getattr(item, "is_paged", False))
