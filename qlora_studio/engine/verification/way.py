"""How a verification goes about it: models whole or layer by layer, in which precision, over how many tokens."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as functional

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.memory.estimator import INSTANT_ERROR_SHARE
from qlora_studio.core.memory.reading import MOST_TOKENS, verification
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.config import text_config
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.engine.model.free_memory import free_bytes, free_ram
from qlora_studio.storage.models.folder import read_config

DEFAULT_MINUTES = 10.0
Wish = Literal["auto", "whole", "streamed"]
_WHOLE_IN_RAM = 1 << 30  # bytes: below it a model is loaded whole; above it, a layer at a time takes no longer
_SHARE = 0.6  # of free memory that models may take
_FEWEST, _MOST_ON_CPU = 256, 4_000  # tokens
_READING = 500e6  # bytes a second that are read, unpacked and put in place
_TRIED_TOKENS = 128
_ANSWERS_TOKENS = 72  # that a model is asked for, each of which reads all of its weights
_RAM_SPEED = 5e9  # bytes a second that a model's weights are read from memory, at least
_ANSWERS_SHARE = 0.25  # of the time


@dataclass(frozen=True)
class Way:
    """`tokens` is how many of the rows are worth their time. `asks`: whether there is memory and time to load models
    whole, though they are streamed, for their own answers.
    """

    is_streamed: bool
    dtype: torch.dtype
    device: str
    tokens: int
    fixed_seconds: float
    token_seconds: float
    asks: bool = False

    def seconds(self, tokens: int) -> float:
        """Return what so many tokens should take."""
        return self.fixed_seconds + tokens * self.token_seconds

    @property
    def name(self) -> str:
        """As the report has it."""
        return "streamed" if self.is_streamed else "whole"


def way_of(base: Path, *, models: int, minutes: float, wish: Wish = "auto") -> Way:
    """Return the way for a base and how many models of its size are compared, in about so many minutes."""
    parameters = parameters_of(base)
    config = text_config(read_config(base))
    layers = max(1, int(config.get("num_hidden_layers") or config.get("n_layer") or 1))
    is_streamed = wish == "streamed" or (wish == "auto" and not _fits(parameters, base))
    dtype = _dtype(parameters // layers * 2 if is_streamed else parameters)
    width = int(config.get("hidden_size") or config.get("n_embd") or 1024)
    answers = 2 * _ANSWERS_TOKENS * parameters * 2 / _RAM_SPEED
    asks = is_streamed and answers < minutes * 60 * _ANSWERS_SHARE and parameters * 2 < free_ram() * _SHARE
    fixed = models * parameters * 2 / _READING + answers * asks
    each = models * 2 * _active(parameters, config) / _speed(width, dtype)
    most = MOST_TOKENS if torch.cuda.is_available() else _MOST_ON_CPU
    tokens = min(most, max(_FEWEST, int((minutes * 60 - fixed) / each)))
    return Way(is_streamed, dtype, device_name(), tokens, fixed, each, asks)


def parameters_of(base: Path) -> int:
    """Return about how many parameters a base in 16 bit has."""
    return sum(path.stat().st_size for path in base.glob("*.safetensors")) // 2


def require_whole(size: int, reason: str) -> None:
    """Raise StudioError where a model of so many bytes cannot be loaded whole; `reason`: why it has to be."""
    if size <= (free := free_bytes()):
        return
    raise StudioError(
        say(
            "This model cannot be verified here: it has to be loaded whole ({reason}), which takes "
            "{size}, and {value} are free.",
            reason=reason,
            size=bytes_text(size),
            value=bytes_text(max(0, free)),
        ),
        kind=FailureKind.OUT_OF_MEMORY,
        advice=say(
            "The export is there, and not verified. Close what else takes memory, or verify "
            "it on a computer with more: qlora-studio verify."
        ),
    )


def device_name() -> str:
    """Return where comparisons are computed."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _fits(parameters: int, base: Path) -> bool:
    """Return whether a model is loaded whole: on a card where it surely fits in 16 bit."""
    if torch.cuda.is_available():
        setup = MemorySetup(quantization="none", checkpointing=False)
        needed = verification(shape_from_config(read_config(base)), setup, 2 * parameters).whole_bytes
        return needed * (1 + INSTANT_ERROR_SHARE) < free_bytes()
    return parameters * 4 <= min(_WHOLE_IN_RAM, free_ram() * _SHARE)


def _dtype(parameters: int) -> torch.dtype:
    """Return what to compute in: fp32 where it fits, so that only the weights' own rounding is seen."""
    if torch.cuda.is_available():
        return torch.bfloat16
    return torch.float32 if parameters * 4 < free_ram() * _SHARE else torch.bfloat16


def _active(parameters: int, config: Mapping[str, Any]) -> int:
    """Return the parameters that a token is computed with: of a mixture, those of its experts' share."""
    experts = config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts")
    used = config.get("num_experts_per_tok")
    if isinstance(experts, int) and isinstance(used, int) and 0 < used < experts:
        return max(1, parameters * used // experts)
    return max(1, parameters)


def _speed(width: int, dtype: torch.dtype) -> float:
    """Return how many operations a second a product as the model's takes here, tried."""
    states = torch.randn(_TRIED_TOKENS, width, device=device_name(), dtype=dtype)
    weights = torch.randn(2 * width, width, device=device_name(), dtype=dtype)
    with torch.inference_mode():
        float(functional.linear(states, weights).sum())
        began = time.perf_counter()
        float(functional.linear(states, weights).sum())
    return 2.0 * _TRIED_TOKENS * 2 * width * width / max(1e-6, time.perf_counter() - began)
