"""What CUDA's kernels take of memory besides their results: scratch, and what fused attention returns and saves.

Each rule was found in the sources of PyTorch and bitsandbytes and confirmed by published measurements.

Shapes are (batch, heads, tokens, head size) throughout; the layout of results is that of the real kernels.
"""

import math
from typing import Any

import torch

from qlora_studio.core.memory.setup import Attention

_CUBLAS = {f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm")} | {"bitsandbytes::gemm_4bit"}
_LARGEST_FUSED_BATCH = 512  # tokens; beyond, bitsandbytes unpacks the weight first, on most cards and shapes


def uses_cublas(name: str) -> bool:
    """Whether an operation is a product of matrices, which cuBLAS computes."""
    return name in _CUBLAS


def scratch_during(name: str, args: Any) -> list[int]:
    """Return the sizes of buffers that live from an operation's start to the end of it."""
    return _unpacked_weight(*args) if name == "bitsandbytes::gemm_4bit" else []


def scratch_after(name: str, args: Any) -> list[int]:
    """Return the sizes of buffers that an operation takes once its result is allocated."""
    if name == "aten::_softmax_backward_data":  # grad * output, in full
        dtype = torch.promote_types(args[0].dtype, args[1].dtype)
        return [int(args[0].numel() * dtype.itemsize)]
    return []


def indexed_by_mask(name: str, args: Any, true_share: float) -> torch.Tensor | None:
    """Return the result of indexing with a boolean mask, or of scattering by one; None for any other operation.

    How many entries are true is data, which meta tensors do not have: `true_share` of them.
    """
    mask = _mask_of(args)
    if mask is None:
        return None
    if name == "aten::index":
        rest = args[0].shape[mask.dim() :]
        return torch.empty((_true(mask, true_share), *rest), dtype=args[0].dtype, device="meta")
    if name in ("aten::_index_put_impl_", "aten::index_put_"):
        return args[0]  # type: ignore[no-any-return]
    if name == "aten::index_put":
        return torch.empty_like(args[0])
    return None


def _mask_of(args: Any) -> torch.Tensor | None:
    if len(args) < 2 or not isinstance(args[1], (list, tuple)) or not args[1]:
        return None
    first = args[1][0]
    is_mask = isinstance(first, torch.Tensor) and first.dtype == torch.bool and first.device.type == "meta"
    return first if is_mask else None


def _true(mask: torch.Tensor, share: float) -> int:
    return max(1, math.floor(mask.numel() * share))


def _unpacked_weight(
    activations: torch.Tensor,
    weight: torch.Tensor,
    shape: tuple[int, int],
    absmax: torch.Tensor,
    blocksize: int,
    quant_type: str,
    bias: torch.Tensor | None = None,
    absmax_8bit: torch.Tensor | None = None,
    *_: Any,
) -> list[int]:
    """Return the buffers of bitsandbytes' way to multiply many tokens: the weight in 16 bit, and its scales in fp32."""
    outputs, inputs = shape
    if activations.numel() // inputs <= _LARGEST_FUSED_BATCH and inputs % blocksize == 0:
        return []
    scales = 4 * -(-outputs * inputs // blocksize)
    unpacked = outputs * inputs * activations.element_size()
    return [scales, scales, unpacked] if absmax_8bit is not None else [unpacked]


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
        expanded: tuple[torch.Tensor, ...] = ()
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
