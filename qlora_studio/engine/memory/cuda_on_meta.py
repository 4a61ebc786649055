"""Makes the libraries do on meta tensors what they would do on a graphics card; a place that changed is named."""

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from unittest import mock

import torch
from torch.nn import functional as F  # noqa: N812  its usual name

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.words import say
from qlora_studio.engine.memory.cuda_kernels import HalfSoftmax, attention_kernel

_FUNCTIONAL = "torch.nn.functional"
_LOGPROB = "trl.kernels.chunked_logprob"


class TracerOutdated(StudioError):
    """A library is not the one that the tracer was written for."""


@dataclass(frozen=True)
class PatchPoint:
    """A function of a library by its path, with the names of its parameters where Python can tell them."""

    module: str
    name: str
    parameters: tuple[str, ...] | None = None

    @property
    def path(self) -> str:
        """The dotted path."""
        return f"{self.module}.{self.name}"

    def current(self) -> Callable[..., Any]:
        """Return what stands there now. Raises TracerOutdated where it is gone or takes other parameters."""
        try:
            owner = importlib.import_module(self.module)
            found: Callable[..., Any] = getattr(owner, self.name)
        except (ImportError, AttributeError) as error:
            raise self._outdated("is gone") from error
        if self.parameters is not None and tuple(inspect.signature(found).parameters) != self.parameters:
            raise self._outdated("takes other parameters than " + ", ".join(self.parameters))
        return found

    def _outdated(self, why: str) -> TracerOutdated:
        library = self.module.split(".")[0]
        return TracerOutdated(
            say(
                "Memory cannot be traced with {library} {version}: {path} {why}.",
                library=library,
                version=_version(library),
                path=self.path,
                why=why,
            ),
            kind=FailureKind.TRACER_OUTDATED,
            advice=say("The instant estimate still holds. Install the versions that this program was released with."),
            detail=self.path,
        )


@contextmanager
def replaced(replacements: dict[PatchPoint, Any]) -> Iterator[None]:
    """Replace functions for a while. Raises TracerOutdated, before anything is replaced, where one is not as known."""
    for point in replacements:
        point.current()
    with ExitStack() as stack:
        for point, replacement in replacements.items():
            stack.enter_context(mock.patch.object(importlib.import_module(point.module), point.name, replacement))
        yield


def _version(library: str) -> str:
    return version(library)


ATTENTION = PatchPoint(_FUNCTIONAL, "scaled_dot_product_attention")


SOFTMAX = PatchPoint(_FUNCTIONAL, "softmax", ("input", "dim", "_stacklevel", "dtype"))


DROPOUT = PatchPoint(_FUNCTIONAL, "dropout", ("input", "p", "training", "inplace"))


PACKED_ROWS = PatchPoint("transformers.masking_utils", "find_packed_sequence_indices", ("position_ids",))


ALL_TRUE = PatchPoint("transformers.masking_utils", "fast_all", ("tensor",))


ALL = PatchPoint("torch", "all")


FORWARD_TILE = PatchPoint(_LOGPROB, "_forward_tile")


BACKWARD_TILE = PatchPoint(_LOGPROB, "_backward_tile")


ADD_PRODUCT = PatchPoint(_LOGPROB, "_addmm_fp32", ("acc", "a", "b"))


SCORES_TRAINED_ONLY = PatchPoint("trl.trainer.utils", "_use_triton", ("device",))


IS_AUTOCAST = PatchPoint("torch", "is_autocast_enabled")


AUTOCAST_DTYPE = PatchPoint("torch", "get_autocast_dtype")


AUTOCAST = PatchPoint("torch", "autocast")


LINEAR = PatchPoint(_FUNCTIONAL, "linear")


MATMUL = PatchPoint("torch", "matmul")


LAYER_NORM = PatchPoint(_FUNCTIONAL, "layer_norm", ("input", "normalized_shape", "weight", "bias", "eps"))


PATCH_POINTS = (
    ATTENTION, SOFTMAX, DROPOUT, PACKED_ROWS, ALL_TRUE, ALL, FORWARD_TILE, BACKWARD_TILE, ADD_PRODUCT,
    SCORES_TRAINED_ONLY, IS_AUTOCAST, AUTOCAST_DTYPE, AUTOCAST, LINEAR, MATMUL, LAYER_NORM,
)  # fmt: skip


@contextmanager
def cuda_on_meta(setup: MemorySetup, *, autocast: torch.dtype | None, triton: bool) -> Iterator[None]:
    """Run the libraries as on a card: its kernels, its data-dependent choices, trl's Triton head where there is Triton.

    `autocast` is the dtype of automatic mixed precision, or None. Raises TracerOutdated where a library has changed.
    """
    replacements: dict[PatchPoint, Any] = {
        ATTENTION: _in_dtype(attention_kernel(setup.attention), autocast),
        SOFTMAX: _softmax(F.softmax),
        DROPOUT: _dropout(F.dropout),
        PACKED_ROWS: lambda position_ids: None,
        ALL_TRUE: lambda tensor: not setup.masked,
        ALL: _all(torch.all, not setup.masked),
        IS_AUTOCAST: lambda *device: autocast is not None,
        AUTOCAST_DTYPE: lambda *device: autocast or torch.bfloat16,
        AUTOCAST: _autocast(torch.autocast),
        ADD_PRODUCT: lambda acc, a, b: None,
        LINEAR: _in_dtype(F.linear, autocast),
        MATMUL: _in_dtype(torch.matmul, autocast),
        LAYER_NORM: _in_dtype(F.layer_norm, torch.float32 if autocast else None),
    }
    if triton:
        replacements |= {
            FORWARD_TILE: lambda *arguments, **flags: None,
            BACKWARD_TILE: lambda *arguments, **flags: None,
            SCORES_TRAINED_ONLY: lambda device: True,
        }
    with replaced(replacements), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*CUDA is not available")  # checkpointing asks for its autocast
        yield


def _all(original: Any, unmasked: bool) -> Any:
    def is_all(input: Any, *arguments: Any, **named: Any) -> Any:
        if input.device.type == "meta" and not arguments and not named:
            return unmasked  # what layers of a recurrence ask of the padding mask
        return original(input, *arguments, **named)

    return is_all


def _autocast(original: Any) -> Any:
    def autocast(device_type: str, *arguments: Any, **named: Any) -> Any:
        return nullcontext() if device_type == "meta" else original(device_type, *arguments, **named)

    return autocast


def _softmax(original: Any) -> Any:
    def softmax(input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
        if input.device.type == "meta" and input.dtype == torch.float16 and dtype == torch.float32:
            return HalfSoftmax.apply(input)
        return original(input, dim=dim, dtype=dtype)

    return softmax


def _dropout(original: Any) -> Any:
    def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if input.device.type == "meta" and training and 0 < p < 1:
            return torch.native_dropout(input, p, True)[0]  # CUDA's: its mask is one byte an element
        return original(input, p, training, inplace)

    return dropout


def _in_dtype(original: Any, dtype: torch.dtype | None) -> Any:
    """Return an operation as automatic mixed precision runs it: on arguments cast to `dtype`, where there is one."""
    if dtype is None:
        return original

    def cast_first(*arguments: Any, **named: Any) -> Any:
        return original(
            *(_cast(value, dtype) for value in arguments), **{key: _cast(value, dtype) for key, value in named.items()}
        )

    return cast_first


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor) and value.device.type == "meta" and value.is_floating_point():
        return value.to(dtype)
    return value
