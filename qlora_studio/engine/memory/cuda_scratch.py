"""Memory that CUDA kernels take besides their results, and that a run on meta tensors does not show by itself.

Each rule was found in the sources of PyTorch and bitsandbytes and confirmed by published measurements.
"""

import math
from typing import Any

import torch

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
