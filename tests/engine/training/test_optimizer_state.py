"""What loading an optimizer's state does not restore: paged memory, and a learning rate that was lowered since."""

from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from qlora_studio.engine.training.optimizer_state import PagedBuffers, paged_bytes, restore_paging, restore_rate

_LARGE, _SMALL = 100_000, 4096


class _ParameterOnACard(torch.nn.Parameter):
    """A parameter that says it lies on a card; its bytes are here."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)


class _PagedWithoutCard(bnb.optim.PagedAdamW32bit):
    """bitsandbytes' paged AdamW with the one call that needs a card answered here as it answers there."""

    def get_state_buffer(self, p: Any, dtype: torch.dtype = torch.float32) -> Any:
        buffer: Any = torch.zeros(p.shape, dtype=dtype)
        if p.numel() >= 1e5:
            buffer.is_paged = True
        return buffer


def _resumed() -> tuple[Any, Any]:
    """Return the optimizer that a checkpoint was made of, and a fresh one with its state loaded as ordinary tensors."""
    first = _PagedWithoutCard([torch.nn.Parameter(torch.ones(size)) for size in (_LARGE, _SMALL)], lr=1e-3)
    for number, parameter in enumerate(first.param_groups[0]["params"]):
        first.init_state(first.param_groups[0], parameter, 0, number)
        first.state[parameter]["state1"].copy_(torch.arange(parameter.numel()))
        first.state[parameter]["state2"].fill_(0.5 + number)
    parameters = [torch.nn.Parameter(torch.ones(size)) for size in (_LARGE, _SMALL)]
    second = _PagedWithoutCard(parameters, lr=1e-3)
    second.load_state_dict(first.state_dict())
    for parameter in parameters:
        for name in ("state1", "state2"):  # what moving it to a card does: an ordinary tensor, without the mark
            second.state[parameter][name] = second.state[parameter][name].clone()
        parameter.__class__ = _ParameterOnACard
    return first, second


def test_a_loaded_state_is_paged_again_as_far_as_it_was() -> None:
    first, second = _resumed()
    assert paged_bytes(first) == 2 * 4 * _LARGE
    assert paged_bytes(second) == 0
    assert restore_paging(second) == 2 * 4 * _LARGE
    for old, new in zip(first.state.values(), second.state.values(), strict=True):
        for name in ("state1", "state2"):
            assert torch.equal(old[name], new[name])
            assert getattr(old[name], "is_paged", False) == getattr(new[name], "is_paged", False)


def test_the_next_optimizer_over_the_same_weights_takes_the_paged_memory_of_the_one_before() -> None:
    parameters = [torch.nn.Parameter(torch.ones(size)) for size in (_LARGE, _SMALL)]
    probing, training = (_PagedWithoutCard(parameters, lr=1e-3) for _ in range(2))
    for number, parameter in enumerate(parameters):
        probing.init_state(probing.param_groups[0], parameter, 0, number)
        probing.state[parameter]["state1"].fill_(7)
    left = {probing.state[parameters[0]][name].data_ptr() for name in ("state1", "state2")}
    buffers = PagedBuffers()
    buffers.keep(probing)
    buffers.lend(training)
    for number, parameter in enumerate(parameters):
        training.init_state(training.param_groups[0], parameter, 0, number)
    assert {training.state[parameters[0]][name].data_ptr() for name in ("state1", "state2")} == left
    assert not any(state[name].any() for state in training.state.values() for name in ("state1", "state2"))
    assert paged_bytes(training) == 2 * 4 * _LARGE
    assert training.get_state_buffer(parameters[0]).data_ptr() not in left


def test_an_optimizer_that_does_not_page_is_left_as_it_is() -> None:
    plain = torch.optim.AdamW([torch.nn.Parameter(torch.ones(_LARGE))])
    assert restore_paging(plain) == 0


def _trained(rate: float, steps: int) -> tuple[Any, LambdaLR]:
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([parameter], lr=rate)
    schedule = LambdaLR(optimizer, lambda step: 1.0 / (1 + step))
    for _ in range(steps):
        parameter.grad = torch.ones(4)
        optimizer.step()
        schedule.step()
    return optimizer, schedule


@pytest.mark.parametrize("steps", [0, 5])
def test_a_lowered_rate_follows_the_same_schedule_from_where_it_stood(steps: int) -> None:
    kept = _trained(1e-3, steps)
    optimizer, schedule = _trained(1e-4, 0)
    optimizer.load_state_dict(kept[0].state_dict())
    schedule.load_state_dict(kept[1].state_dict())
    restore_rate(optimizer, schedule, 1e-4)
    wanted, wanted_schedule = _trained(1e-4, steps)
    for _ in range(3):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(wanted.param_groups[0]["lr"])
        for each in (optimizer, wanted):
            each.step()
        schedule.step()
        wanted_schedule.step()
