"""Rounding a merged tensor to bfloat16 without losing what an adapter changes in it, however little that is.

A weight of 0.2 has its neighbours in bfloat16 0.001 away. To the nearest, as peft rounds, a change of 0.0001 is gone
in nine weights out of ten, and with it most of what a short training, or one at a low rate, has learned. Rounded up as
often as a weight's place between its neighbours says, a row keeps its change as a whole, and each weight errs by no
more than one step. Rows that lose nothing by it are rounded to the nearest and are peft's, bit for bit.

Where to round up is no chance but a lattice over rows and columns, the same in every merge, and even over both: the
errors of a row nearly cancel in its product with an activation. The additive recurrence R2: M. Roberts, "The
Unreasonable Effectiveness of Quasirandom Sequences" (2018); a dither for rounding: L. G. Roberts, "Picture Coding
Using Pseudo-Random Noise" (1962).
"""

import torch

_BEARABLE_LOSS = 0.05  # of the change of a row, along it
_DROPPED_BITS = 16  # of fp32, by bfloat16
_ROW_STEP = 49471  # 2^16 over the plastic number, odd
_COLUMN_STEP = 37345  # 2^16 over its square


def rounded(rows: torch.Tensor, base: torch.Tensor, start: int) -> torch.Tensor:
    """Return rows (n, …, columns) of a tensor from row `start` on, fp32, in bfloat16. `base`: before the change."""
    nearest = rows.to(torch.bfloat16)
    change = rows - base
    lost = ((rows - nearest) * change).sum(-1).abs()
    loses = lost > _BEARABLE_LOSS * change.square_().sum(-1)
    return torch.where(loses.unsqueeze(-1), _dithered(rows, start), nearest) if loses.any() else nearest


def _dithered(rows: torch.Tensor, start: int) -> torch.Tensor:
    bits = rows.contiguous().view(torch.int32)
    lines = bits.view(-1, bits.shape[-1])
    first = start * (lines.shape[0] // bits.shape[0])
    down = torch.arange(first, first + lines.shape[0]) * _ROW_STEP
    across = torch.arange(bits.shape[-1]) * _COLUMN_STEP
    thresholds = ((down & 0xFFFF).int()[:, None] + (across & 0xFFFF).int()) & 0xFFFF
    return (
        (lines + thresholds).bitwise_right_shift_(_DROPPED_BITS).to(torch.int16).view(torch.bfloat16).view(bits.shape)
    )
