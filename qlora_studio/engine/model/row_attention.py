"""Attention over rows that lie end to end in one sequence: each row attends to itself, and no mask is ever built.

transformers would build a mask of every token against every token of the sequence, and no fast kernel takes one. Here
what a model hands from its mask to its layers is where the rows begin. On a card torch's attention for rows of unlike
length takes that as it is; elsewhere rows are attended to one after another. Whatever is no such sequence, as in an
answer that is generated, goes through SDPA as ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward, use_gqa_in_sdpa
from transformers.masking_utils import sdpa_mask

from qlora_studio.engine.memory.architecture import attention_of_text

NAME = "rows_end_to_end"
_SDPA = "sdpa"
_VARLEN_CAPABILITY, _VARLEN_HEAD = (8, 0), 256  # of flash attention: the card, and the widest head


@dataclass(frozen=True)
class RowBounds:
    """Where rows lie in a sequence: `lengths` in tokens, `starts` the cumulated ones as int32 of shape (rows + 1,)."""

    lengths: tuple[int, ...]
    starts: torch.Tensor


def attend_by_rows(model: Any, *, yes: bool = True) -> None:
    """Have the text part of a model attend by rows, or by SDPA again."""
    AttentionInterface.register(NAME, row_attention)
    AttentionMaskInterface.register(NAME, row_bounds)
    base = getattr(model, "get_base_model", lambda: model)()
    base.set_attn_implementation(attention_of_text(base.config, NAME if yes else _SDPA))


def knows_row_attention(model: Any) -> bool:
    """Whether the text part of a model attends by SDPA, which can be left to rows; eager attention cannot."""
    return bool(model.config.get_text_config()._attn_implementation in (_SDPA, NAME))


def attends_by_rows(model: Any) -> bool:
    """Whether the text part of a model attends by rows."""
    return bool(model.config.get_text_config()._attn_implementation == NAME)


def row_bounds(
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Callable[..., Any],
    attention_mask: torch.Tensor | None = None,
    allow_is_causal_skip: bool = True,
    local_size: int | None = None,
    device: torch.device | str = "cpu",
    **more: Any,
) -> RowBounds | torch.Tensor | None:
    """Return where the rows of a sequence begin, in place of its mask; where a row is all there is, SDPA's own mask.

    A row begins where a token does not see the one before it. Rows longer than a window of attention need the mask.
    """
    if batch_size == 1 and attention_mask is None and not allow_is_causal_skip and q_length == kv_length > 1:
        tokens, batch = torch.arange(q_length, device=device), torch.zeros((), dtype=torch.long, device=device)
        joined = mask_function(batch, batch, tokens[1:], tokens[:-1])
        starts = torch.cat([tokens[:1], (~joined).nonzero().flatten() + 1, tokens[-1:] + 1]).to(torch.int32)
        lengths = tuple(starts.diff().tolist())
        if local_size is None or max(lengths) <= local_size:
            return RowBounds(lengths, starts)
    return sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        mask_function=mask_function,
        attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip,
        local_size=local_size,
        device=device,
        **more,
    )


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Return what each row makes of itself, (1, tokens, heads, head size), as wide and precise as `value`.

    `query` is (1, heads, tokens, head size); keys and values may have fewer heads.
    """
    if not isinstance(attention_mask, RowBounds):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    if more.get("position_bias") is not None or more.get("softcap") is not None:
        raise TypeError(f"{type(module).__name__} adds to its scores or caps them")
    attend = _by_varlen if not dropout and _takes_varlen(query, key, value) else _one_by_one
    return attend(query, key, value, attention_mask, dropout, scaling), None


def _takes_varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether torch's attention for rows of unlike length computes this. It exists on cards alone."""
    return (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.dtype == key.dtype == value.dtype
        and query.shape[-1] == value.shape[-1] <= _VARLEN_HEAD
        and query.shape[-1] % 8 == 0
        and torch.cuda.get_device_capability(query.device) >= _VARLEN_CAPABILITY
        and torch.backends.cuda.is_flash_attention_available()
    )


def _by_varlen(query: Any, key: Any, value: Any, bounds: RowBounds, dropout: float, scaling: float | None) -> Any:
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    longest = max(bounds.lengths)
    found: Any = varlen_attn(
        query,
        key,
        value,
        bounds.starts,
        bounds.starts,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found[None]


def _one_by_one(query: Any, key: Any, value: Any, bounds: RowBounds, dropout: float, scaling: float | None) -> Any:
    groups = query.shape[1] // key.shape[1]
    shares = not query.is_cuda and use_gqa_in_sdpa(None, key, value)  # no card's kernel but flash takes fewer heads
    if groups > 1 and not shares:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    rows = zip(*(tensor.split(bounds.lengths, dim=2) for tensor in (query, key, value)), strict=True)
    found = [
        scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=groups > 1 and shares
        )
        for q, k, v in rows
    ]
    return torch.cat([row.transpose(1, 2) for row in found], dim=1)
