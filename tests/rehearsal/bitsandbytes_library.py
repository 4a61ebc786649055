"""bitsandbytes' CUDA library, played by its kernels for the processor: all the Python above it runs as on a card.

Each function takes what the C function takes: addresses and numbers. One that no run of ours needs is not there, and
bitsandbytes says so where it is called.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch

from tests.rehearsal import faults

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_KINDS = ("nf4", "fp4")
_SCALES_BLOCK = 256  # scales of 4-bit blocks that are themselves in 8 bits
_OPTIMIZER_BLOCK = 256


def offer() -> None:
    """Give it to bitsandbytes where that loads the library of a CUDA."""
    load = ctypes.cdll.LoadLibrary

    def load_library(name: str) -> Any:
        if "libbitsandbytes_cuda" not in str(name):
            return load(name)
        return _Library(load(str(name).rpartition("_")[0] + "_cpu.so"))

    ctypes.cdll.LoadLibrary = load_library  # type: ignore[method-assign]


class _Library:
    """The processor's library, with the functions that only the CUDA one has."""

    def __init__(self, processor: ctypes.CDLL) -> None:
        self._processor = processor
        self._functions = {name: _Function(name, work) for name, work in _functions().items()}

    def __getattr__(self, name: str) -> Any:
        return self._functions[name] if name in self._functions else getattr(self._processor, name)


class _Function:
    """Stands for a function of ctypes: its types can be set, and the number of its arguments is held to them."""

    def __init__(self, name: str, work: Callable[..., Any]) -> None:
        self._name = name
        self._work = work
        self.argtypes: list[Any] | None = None
        self.restype: Any = None

    def __call__(self, *arguments: Any) -> Any:
        assert self.argtypes is None or len(arguments) == len(self.argtypes), self._name
        faults.c_function_called(self._name)
        with torch.no_grad():
            return self._work(*(getattr(argument, "value", argument) for argument in arguments))


def _functions() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {
        "get_context": lambda: 0,
        "cget_managed_ptr": _managed_memory,
        "cprefetch": lambda address, size, device: None,
        "cfill_fp32": lambda address, _, value, count: _at(address, count, torch.float32).fill_(value),
        "cfill_uint8": lambda address, _, value, count: _at(address, count, torch.uint8).fill_(value),
    }
    for short, dtype in _DTYPES.items():
        found[f"cquantize_blockwise_{short}"] = _quantize_8bit(dtype)
        found[f"cdequantize_blockwise_{short}"] = _dequantize_8bit(dtype)
        found[f"cgemm_4bit_{short}"] = _multiply_4bit(dtype)
        found[f"cadam32bit_grad_{short}"] = _adam_32bit(dtype)
        found[f"cadam_8bit_blockwise_grad_{short}"] = _adam_8bit(dtype)
        for kind in _KINDS:
            found[f"cquantize_blockwise_{short}_{kind}"] = _quantize_4bit(dtype, kind)
            found[f"cdequantize_blockwise_{short}_{kind}"] = _dequantize_4bit(dtype, kind)
    return found


def _at(address: int | None, count: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the `count` numbers at an address, as they are in memory."""
    assert address is not None
    buffer = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return torch.frombuffer(buffer, dtype=dtype, count=count)


def _put(values: torch.Tensor, address: int, count: int, dtype: torch.dtype) -> None:
    _at(address, count, dtype).copy_(values.flatten())


def _scales(address: int, count: int, block: int) -> torch.Tensor:
    return _at(address, -(-count // block), torch.float32)


def _code(address: int) -> torch.Tensor:
    return _at(address, 256, torch.float32)


def _packed(address: int, count: int) -> torch.Tensor:
    return _at(address, (count + 1) // 2, torch.uint8).view(-1, 1)


def _quantize_4bit(dtype: torch.dtype, kind: str) -> Callable[..., None]:
    def work(_: int, values: int, scales: int, out: int, block: int, count: int) -> None:
        packed, found = torch.ops.bitsandbytes.quantize_4bit(_at(values, count, dtype), block, kind, torch.uint8)
        _put(packed, out, (count + 1) // 2, torch.uint8)
        _put(found, scales, -(-count // block), torch.float32)

    return work


def _dequantize_4bit(dtype: torch.dtype, kind: str) -> Callable[..., None]:
    def work(_: int, packed: int, scales: int, out: int, block: int, count: int, stream: int) -> None:
        found = (_packed(packed, count), _scales(scales, count, block), block, kind, [count], dtype)
        _put(torch.ops.bitsandbytes.dequantize_4bit(*found), out, count, dtype)

    return work


def _quantize_8bit(dtype: torch.dtype) -> Callable[..., None]:
    def work(code: int, values: int, scales: int, out: int, block: int, count: int) -> None:
        quantize = torch.ops.bitsandbytes.quantize_blockwise
        quantized, found = quantize(_at(values, count, dtype), _code(code), block)
        _put(quantized, out, count, torch.uint8)
        _put(found, scales, -(-count // block), torch.float32)

    return work


def _dequantize_8bit(dtype: torch.dtype) -> Callable[..., None]:
    def work(code: int, values: int, scales: int, out: int, block: int, count: int, stream: int) -> None:
        found = (_at(values, count, torch.uint8), _scales(scales, count, block), _code(code), block, dtype)
        _put(torch.ops.bitsandbytes.dequantize_blockwise(*found), out, count, dtype)

    return work


def _multiply_4bit(dtype: torch.dtype) -> Callable[..., None]:
    def work(
        values: int,
        packed: int,
        scales: int,
        scales_8bit: int | None,
        code: int,
        offset: int,
        out: int,
        bias: int | None,
        rows: int,
        outputs: int,
        inputs: int,
        block: int,
        kind: int,
        stream: int,
    ) -> None:
        count = outputs * inputs
        blocks = -(-count // block)
        if scales_8bit is None:
            found = _at(scales, blocks, torch.float32)
        else:
            nested = (_at(scales_8bit, blocks, torch.uint8), _scales(scales, blocks, _SCALES_BLOCK), _code(code))
            found = torch.ops.bitsandbytes.dequantize_blockwise(*nested, _SCALES_BLOCK, torch.float32)
            found = found + _at(offset, 1, torch.float32)
        weight = torch.ops.bitsandbytes.dequantize_4bit(
            _packed(packed, count), found, block, {1: "fp4", 2: "nf4"}[kind], [outputs, inputs], dtype
        )
        added = None if bias is None else _at(bias, outputs, dtype)
        product = torch.nn.functional.linear(_at(values, rows * inputs, dtype).view(rows, inputs), weight, added)
        _put(product, out, rows * outputs, dtype)

    return work


def _adam_32bit(dtype: torch.dtype) -> Callable[..., None]:
    def work(gradient: int, parameter: int, first: int, second: int, norm: int | None, *numbers: Any) -> None:
        *settings, count = numbers
        tensors = (_at(gradient, count, dtype), _at(parameter, count, dtype))
        states = (_at(first, count, torch.float32), _at(second, count, torch.float32))
        torch.ops.bitsandbytes.optimizer_update_32bit("adam", *tensors, *states, None, *settings)

    return work


def _adam_8bit(dtype: torch.dtype) -> Callable[..., None]:
    def work(parameter: int, gradient: int, first: int, second: int, *rest: Any) -> None:
        *betas, epsilon, step, rate, code1, code2, scales1, scales2, decay, scale, skip_zeros, count = rest
        torch.ops.bitsandbytes.optimizer_update_8bit_blockwise(
            "adam",
            *(_at(gradient, count, dtype), _at(parameter, count, dtype)),
            *(_at(first, count, torch.uint8), _at(second, count, torch.uint8)),
            *(*betas, epsilon, step, rate),
            *(_code(code1), _code(code2)),
            *(_scales(scales1, count, _OPTIMIZER_BLOCK), _scales(scales2, count, _OPTIMIZER_BLOCK)),
            *(decay, scale, skip_zeros),
        )

    return work


def _managed_memory(size: int) -> int:
    """Return memory that is never freed, as there: the caller views it as ints, too many of them."""
    buffer = ctypes.create_string_buffer(max(1, size) * 4)
    _kept.append(buffer)
    return ctypes.addressof(buffer)


_kept: list[Any] = []
