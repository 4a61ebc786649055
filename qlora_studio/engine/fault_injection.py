"""Faults on demand, for the tests of durability: `QLORA_STUDIO_FAULTS="oom@5>1 nan@3 oom-evaluation@2 hang@4 lost@6"`.

Each word names a fault, the optimizer step it strikes in, and after `>` the batch size above which it strikes.
"""

import math
import os
import re
import time
from typing import Any

import torch

_WORD = re.compile(r"(?P<kind>[a-z-]+)@(?P<step>\d+)(?:>(?P<batch>\d+))?")


def strike(kind: str, step: int, batch_size: int) -> bool:
    """Whether the fault `kind` is to strike in this step, with this batch size."""
    for match in _WORD.finditer(os.environ.get("QLORA_STUDIO_FAULTS", "")):
        if match["kind"] == kind and int(match["step"]) == step and batch_size > int(match["batch"] or 0):
            return True
    return False


def before_step(step: int, batch_size: int) -> None:
    """Raise, or hang, as the environment asks for this step."""
    if strike("oom", step, batch_size):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (asked for by a test)")
    if strike("lost", step, batch_size):
        raise RuntimeError("CUDA error: unspecified launch failure (asked for by a test)")
    while strike("hang", step, batch_size):
        time.sleep(1)


def before_evaluation(step: int, batch_size: int) -> None:
    """Raise as the environment asks for an evaluation after this step."""
    if strike("oom-evaluation", step, batch_size):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (asked for by a test)")


def after_loss(loss: Any, step: int, batch_size: int) -> Any:
    """Return the loss, or a NaN as the environment asks for this step."""
    return loss * math.nan if strike("nan", step, batch_size) else loss
