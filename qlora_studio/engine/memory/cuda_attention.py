"""The fused attention kernels of CUDA, as far as memory goes: what they return, save for backward, and need there.

Shapes are (batch, heads, tokens, head size) throughout; the layout of results is that of the real kernels.
"""

from typing import Any

import torch

from qlora_studio.core.memory.setup import Attention


class EfficientAttention(torch.autograd.Function):
    """aten::_scaled_dot_product_efficient_attention."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, bias: Any) -> Any:
        batch, heads, tokens, _ = query.shape
        out = _like(query, value.shape[-1])
        lse = torch.empty(batch, heads, _up(tokens, 32), dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, out, lse, bias)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, out, _, _ = ctx.saved_tensors
        (gradient,) = gradients
        if not gradient.transpose(1, 2).is_contiguous():
            gradient = gradient.contiguous()
        results = _like(query), _like(key), _like(value)
        batch, heads, tokens, size = query.shape
        if query.dtype == torch.float32:
            delta = (gradient.float() * out.float()).sum(-1).contiguous()
            return *results, None
        delta = torch.empty(batch, heads, tokens, dtype=torch.float32, device=query.device)
        wide = size > 64
        padded = _up(size, 128 if wide else 64)
        keys = _up(key.shape[2], 64) * padded * 2 if wide else 0
        workspace = torch.empty(
            batch * heads * (_up(tokens, 64) * padded + keys), dtype=torch.float32, device=query.device
        )
        del delta, workspace
        return *results, None


class FlashAttention(torch.autograd.Function):
    """aten::_scaled_dot_product_flash_attention, with fewer heads for keys and values where there are."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        batch, heads, tokens, _ = query.shape
        out = _like(query)
        lse = torch.empty(batch, heads, tokens, dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, _, _ = ctx.saved_tensors
        batch, heads, tokens, size = query.shape
        results = _like(query), _like(key), _like(value)
        rows, device = _up(tokens, 128), query.device
        softmax_sums = torch.empty(batch, heads, rows, dtype=torch.float32, device=device)
        query_sums = torch.empty(batch, rows, heads, _up(size, 32), dtype=torch.float32, device=device)
        expanded = ()
        if key.shape[1] != heads:
            shape = batch, key.shape[2], heads, size
            expanded = tuple(torch.empty(shape, dtype=query.dtype, device=device) for _ in range(2))
        del softmax_sums, query_sums, expanded
        return results


class HalfSoftmax(torch.autograd.Function):
    """CUDA's softmax of fp16 scores into fp32, fused: no fp32 copy of the scores is made."""

    @staticmethod
    def forward(ctx: Any, scores: Any) -> Any:
        out = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (out,) = ctx.saved_tensors
        result = torch.empty(out.shape, dtype=torch.float16, device=out.device)
        product = gradients[0] * out
        del product
        return result


def attention_kernel(kind: Attention) -> Any:
    """Return what stands for `scaled_dot_product_attention` where `kind` is the kernel that a card would choose."""

    def attend(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        if kind == "flash" and attn_mask is None:
            return FlashAttention.apply(query, key, value)
        if (groups := query.shape[1] // key.shape[1]) > 1:
            key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
        return EfficientAttention.apply(query, key, value, _bias(attn_mask, query))

    return attend


def _bias(mask: torch.Tensor | None, query: torch.Tensor) -> torch.Tensor | None:
    """Return a boolean mask as what is added to the scores, in their dtype: each layer makes and saves its own."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.empty(mask.shape, dtype=query.dtype, device=query.device)


def _like(tensor: Any, size: int | None = None) -> Any:
    """Return an empty tensor of the same shape, laid out as (batch, tokens, heads, head size)."""
    batch, heads, tokens, own = tensor.shape
    shape = batch, tokens, heads, size or own
    return torch.empty(shape, dtype=tensor.dtype, device=tensor.device).transpose(1, 2)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
