"""On a card: a paged optimizer that was saved and loaded pages again, and steps as if nothing had been."""

import io
from typing import Any

import pytest
import torch

from qlora_studio.engine.training.optimizer_state import paged_bytes, restore_paging

pytestmark = pytest.mark.gpu
_ELEMENTS = 200_000


@pytest.mark.parametrize("name", ["PagedAdamW32bit", "PagedAdamW8bit"])
def test_a_loaded_state_lies_in_paged_memory_again_and_steps_the_same(name: str) -> None:
    import bitsandbytes as bnb

    torch.manual_seed(0)
    gradients = [torch.randn(_ELEMENTS, device="cuda") for _ in range(4)]
    optimizer = getattr(bnb.optim, name)([torch.nn.Parameter(torch.ones(_ELEMENTS, device="cuda"))], lr=1e-3)
    _steps(optimizer, gradients[:2])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = getattr(bnb.optim, name)([_parameter(optimizer).detach().clone().requires_grad_()], lr=1e-3)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), map_location="cpu", weights_only=True))
    assert paged_bytes(resumed) == 0
    assert restore_paging(resumed) == paged_bytes(optimizer) > 0
    for each in (optimizer, resumed):
        _steps(each, gradients[2:])
    assert torch.equal(_parameter(optimizer), _parameter(resumed))


def _steps(optimizer: Any, gradients: list[torch.Tensor]) -> None:
    for gradient in gradients:
        _parameter(optimizer).grad = gradient.clone()
        optimizer.step()


def _parameter(optimizer: Any) -> Any:
    return optimizer.param_groups[0]["params"][0]
