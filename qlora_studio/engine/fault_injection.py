"""Faults on demand, for the tests of durability: `QLORA_STUDIO_FAULTS="oom@5>1 nan@3 oom-evaluation@2 hang@4 lost@6"`.

Each word names a fault, the optimizer step it strikes in, and after `>` the batch size above which it strikes. `exit`
strikes once where `QLORA_STUDIO_FAULTS_ONCE` names a folder to note that in, `mapping` where memory is mapped so.
"""

import ctypes
import math
import os
import re
import sys
import time
from pathlib import Path
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
    if "expandable_segments:True" in os.environ.get("PYTORCH_ALLOC_CONF", "") and strike("mapping", step, batch_size):
        raise RuntimeError("CUDA driver error: unknown error (asked for by a test)")
    if strike("exit", step, batch_size) and _is_first("exit"):
        _end_as_a_library_does()
    while strike("hang", step, batch_size):
        time.sleep(1)


def before_evaluation(step: int, batch_size: int) -> None:
    """Raise as the environment asks for an evaluation after this step."""
    if strike("oom-evaluation", step, batch_size):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (asked for by a test)")


def after_loss(loss: Any, step: int, batch_size: int) -> Any:
    """Return the loss, or a NaN as the environment asks for this step."""
    return loss * math.nan if strike("nan", step, batch_size) else loss


def _is_first(word: str) -> bool:
    folder = os.environ.get("QLORA_STUDIO_FAULTS_ONCE")
    try:
        (Path(folder) / word).touch(exist_ok=False) if folder else None
    except FileExistsError:
        return False
    return True


def _end_as_a_library_does() -> None:
    """Call C's exit(1), as bitsandbytes does on an error of CUDA: no code of Python's runs any more."""
    print("Error invalid argument at line 1 in file ops.cu", file=sys.stderr, flush=True)
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    library.exit(1)
