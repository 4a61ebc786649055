"""The 16-bit original of a base that bitsandbytes stored in 4 bits: found, and proved to be what was stored.

A run on such a base trains over its weights as they are stored. What is trained is merged into the original, since 4
bits cannot hold the sum. A model of the same shape would take it without a word, so some tensors of the original are
quantized as the stored ones were, and the codes compared.
"""

from functools import partial
from pathlib import Path

import torch
from bitsandbytes.functional import quantize_4bit

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.foreign_text import json_table
from qlora_studio.core.model.stored_quantization import stored_in_4_bits
from qlora_studio.core.words import say
from qlora_studio.engine.context import QUIET, Channel
from qlora_studio.engine.memory.load_failure import told
from qlora_studio.engine.merge.safetensors_file import WeightsFolder
from qlora_studio.engine.model.base import base_folder
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.models.quantized_base import original_folder

_COMPARED = 4  # tensors, from the first layer to the last
_SAME_CODES = 0.98  # share; another device rounds a few otherwise, another training many
_STATE = ".quant_state.bitsandbytes__"


def merge_base(source: str, revision: str = "", named: str = "", channel: Channel = QUIET) -> Path:
    """Return the folder that a merge goes into: the base itself, or the original of one that is stored in 4 bits.

    Raises StudioError where there is no original, or it is not what was stored.
    """
    base = base_folder(source, revision, channel)
    if not stored_in_4_bits(read_config(base)):
        return base
    original = original_folder(base, source, named)
    require_fitting(base, original)
    return original


def with_stored_quantization(config: RunConfig, base: Path) -> RunConfig:
    """Return the config as a base that is stored in 4 bits decides it: it is loaded as it is."""
    stored = stored_in_4_bits(read_config(base))
    if stored is None:
        return config
    method, double = stored
    return config.with_value("quantization.method", method).with_value("quantization.double", double)


def require_fitting(stored: Path, original: Path) -> None:
    """Raise StudioError where the 4-bit weights in a folder were not made from those of the original."""
    packed, whole = WeightsFolder(stored), WeightsFolder(original)
    states = {name.split(_STATE)[0]: name for name in packed.places if _STATE in name}
    common = sorted(name for name in states if name in whole.places)
    if not common:
        raise _unlike(stored, original, say("they have no layer of one name"))
    for name in common[:: max(1, len(common) // _COMPARED)]:
        weights = whole.tensor(name)
        with told(partial(_unreadable, stored, states[name])):
            state = json_table(bytes(packed.tensor(states[name]).tolist()))
            if list(weights.shape) != state["shape"]:
                raise _unlike(stored, original, say("{name} has another shape", name=name))
            same = _same_codes(packed.tensor(name), weights, state)
        if same < _SAME_CODES:
            raise _unlike(
                stored,
                original,
                say("in {name} {same:.0%} of the weights are the same in 4 bits", name=name, same=same),
            )


def _same_codes(packed: torch.Tensor, weights: torch.Tensor, state: dict[str, object]) -> float:
    """Return the share of 4-bit codes that are those of the weights; a byte holds two."""
    dtype = getattr(torch, str(state["dtype"]), weights.dtype)
    made, _ = quantize_4bit(
        weights.to(dtype).contiguous(), blocksize=int(str(state["blocksize"])), quant_type=str(state["quant_type"])
    )
    one, other = packed.flatten(), made.flatten()
    if one.numel() != other.numel():
        return 0.0
    high, low = (one >> 4) == (other >> 4), (one & 15) == (other & 15)
    return float((high.float().mean() + low.float().mean()) / 2)


def _unreadable(stored: Path, name: str, error: Exception) -> StudioError:
    return StudioError(
        say("{name} is damaged: how its weights are stored cannot be read ({other}).", name=stored.name, other=name),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Download the model again."),
        detail=str(error),
    )


def _unlike(stored: Path, original: Path, why: str) -> StudioError:
    return StudioError(
        say("{name} was not made from {other}: {why}.", name=stored.name, other=original.name, why=why),
        kind=FailureKind.FINGERPRINT_MISMATCH,
        advice=say("Name the model that it was quantized from as its 16-bit original (quantization.original)."),
    )
