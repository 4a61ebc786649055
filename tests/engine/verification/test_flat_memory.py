"""Merge and verification take the memory of a layer, however many a model has."""

import ctypes
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch

from qlora_studio.engine.merge.writer import merge_adapter
from qlora_studio.engine.verification.passes import Passes, unmerged
from qlora_studio.engine.verification.states import StatesStore
from tests.engine.families import make_adapter, make_base
from tests.engine.verification.both_ways import Told, batches, plain

_SHAPE: dict[str, Any] = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6}
_LAYER = 4 * (4 * 384 * 384 + 3 * 384 * 1536)  # bytes in fp32
_STATUS = Path("/proc/self/status")


def anonymous() -> int:
    (kilobytes,) = re.findall(r"RssAnon:\s+(\d+) kB", _STATUS.read_text("utf-8"))
    return int(kilobytes) * 1024


def growth(work: Callable[[], Any]) -> int:
    """By how many bytes the process is larger while it works, at most."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept would hide what is taken
    done, before, peak = Event(), anonymous(), [0]

    def sample() -> None:
        while not done.wait(0.003):
            peak[0] = max(peak[0], anonymous())

    sampling = Thread(target=sample)
    sampling.start()
    try:
        work()
    finally:
        done.set()
        sampling.join()
    return peak[0] - before


def merge_and_verify(folder: Path, layers: int) -> Callable[[], None]:
    # stored in 16 bit and computed in 32: else the weights would be the file, mapped, and none of this memory
    base = make_base(folder / f"base-{layers}", "llama", dtype=torch.bfloat16, num_hidden_layers=layers, **_SHAPE)
    adapter = make_adapter(folder / f"adapter-{layers}", base)

    def work() -> None:
        merge_adapter(base, adapter, folder / f"merged-{layers}")
        passes = Passes(batches(), Told(), StatesStore({"layers": layers}))
        passes.run(unmerged(base, adapter, dtype=torch.float32, device="cpu"), flags=(True, False))
        passes.run(plain(folder / f"merged-{layers}"))

    return work


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells what of its memory no file holds")
def test_a_model_of_sixteen_layers_is_never_whole_in_memory(tmp_path: Path) -> None:
    few, many = (merge_and_verify(tmp_path, layers) for layers in (4, 16))
    growth(few)  # what is loaded and set up once
    assert growth(many) < 16 * _LAYER
