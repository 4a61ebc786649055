"""On a card: torch's attention for rows of unlike length gives each row what it has alone, and no neighbour's."""

from typing import Any

import pytest
import torch

from qlora_studio.engine.model.row_attention import RowBounds, _by_varlen, _one_by_one, _takes_varlen
from tests.gpu.conftest import Fact

pytestmark = pytest.mark.gpu
_LENGTHS = (700, 1, 129, 270)


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(32, 8, 128), (9, 3, 64), (8, 8, 256)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_have_the_outputs_and_the_gradients_that_they_have_alone(
    heads: int, kv_heads: int, size: int, dtype: torch.dtype, fact: Fact
) -> None:
    query, key, value, out_gradient = (_drawn(count, size, dtype) for count in (heads, kv_heads, kv_heads, heads))
    if not _takes_varlen(query, key, value):
        pytest.skip("this card has no flash attention")
    wanted = _results(_one_by_one, query.float(), key.float(), value.float(), out_gradient.float())
    found = _results(_by_varlen, query, key, value, out_gradient)
    errors = [float((a.float() - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)]
    fact(errors=errors)
    assert max(errors) < 0.02


def test_another_neighbour_leaves_every_bit_of_a_rows_output() -> None:
    query, key, value = (_drawn(count, 128, torch.bfloat16) for count in (8, 2, 2))
    if not _takes_varlen(query, key, value):
        pytest.skip("this card has no flash attention")
    first = _by_varlen(query, key, value, _bounds(), 0.0, None)
    for tensor in (key, value):
        tensor[:, :, : _LENGTHS[0]] += 1
    second = _by_varlen(query, key, value, _bounds(), 0.0, None)
    assert torch.equal(first[:, _LENGTHS[0] :], second[:, _LENGTHS[0] :])
    assert not torch.equal(first, second)


def _drawn(heads: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(1, heads, sum(_LENGTHS), size, device="cuda", dtype=dtype)


def _bounds() -> RowBounds:
    starts = torch.tensor((0, *_LENGTHS), device="cuda").cumsum(0).to(torch.int32)
    return RowBounds(_LENGTHS, starts)


def _results(attend: Any, query: Any, key: Any, value: Any, out_gradient: Any) -> list[torch.Tensor]:
    inputs = [tensor.detach().clone().requires_grad_() for tensor in (query, key, value)]
    out = attend(*inputs, _bounds(), 0.0, None)
    out.backward(out_gradient.transpose(1, 2))
    return [out.detach(), *(tensor.grad for tensor in inputs)]
