"""A model on meta tensors, quantized and adapted as a run's would be, and the replay of its loading onto a card."""

import heapq
import re
from collections.abc import Iterable, Iterator
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert

from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.engine.expert_adapters import expert_targets, own_names, wrappable_experts
from qlora_studio.engine.experts import put_in_4_bit, stacked_experts
from qlora_studio.engine.memory.allocator import Block
from qlora_studio.engine.memory.architecture import attention_of_text, knows_sdpa, meta_model
from qlora_studio.engine.memory.checkpointing import checkpoint_layers
from qlora_studio.engine.memory.text_part import remove_parts, unused_parts
from qlora_studio.engine.memory.trace import MemoryTrace

_BLOCK, _NESTED_BLOCK = 64, 256
_NESTED_CODE_BYTES = 1024  # one for all modules
_COPIED_PER_READ = 8  # the bus (PCIe 3, about 8 GB/s) against a core that reads and converts (about 1 GB/s)


def build_meta_model(config: Any, setup: MemorySetup, dtype: torch.dtype) -> Any:
    """Return the model of a transformers config on meta tensors, its base in `dtype` or 4 bit, with its adapters."""
    implementation = "eager" if setup.attention == "eager" or not knows_sdpa(config) else "sdpa"
    model = meta_model(config, dtype=dtype, attn_implementation=attention_of_text(config, implementation))
    remove_parts(model, unused_parts(model))
    if setup.quantization != "none":
        _quantize(model, setup, dtype)
        if setup.upcast:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model.config.use_cache = model.config.get_text_config().use_cache = False
    if setup.method == "lora":
        model = _adapt(model, setup)
    if setup.checkpointing:
        checkpoint_layers(model, setup.checkpointed_layers)
    if setup.method == "lora":
        model.enable_input_require_grads()
    model.train()
    return model


def replay_load(
    trace: MemoryTrace,
    model: Any,
    setup: MemorySetup,
    dtype: torch.dtype,
    *,
    empty_cache: bool,
    moved: bool = False,
    threads: int = 0,
) -> None:
    """Put a model's tensors on the card in the order in which transformers loads them: each staged in 16 bit first.

    `empty_cache` is what the engine does after loading, before the adapters come. `moved` is a model that was loaded
    into memory and then moved by `.cuda()`, module after module. `threads` load ahead of the one that quantizes, as in
    versions of transformers before 5.4: nothing holds them back while that one waits for a large tensor.
    """
    named = dict(model.named_parameters())
    base = [item for item in named.items() if "lora_" not in item[0]]
    if not moved:
        base.sort(key=lambda item: _natural(item[0]))
    if setup.quantization != "none":
        with trace.scratch([_warmup_bytes([parameter for _, parameter in base], dtype)], "weights"):
            pass
    loading = _Loading(trace, [parameter for _, parameter in base], setup, dtype)
    for index, is_there in _loading_order([_bytes_in_file(parameter, dtype) for _, parameter in base], threads):
        (loading.finish if is_there else loading.stage)(index)
    for buffer in model.buffers():
        trace.track(buffer, "weights")
    if setup.quantization != "none" and setup.double:
        trace.hold(_NESTED_CODE_BYTES, "weights")
    loading.cast_up(model.parameters())
    if empty_cache:
        trace.allocator.empty_cache()
    for name, parameter in named.items():
        if "lora_" in name:
            trace.track(parameter.data, "adapter")


def _loading_order(sizes: list[int], threads: int) -> Iterator[tuple[int, bool]]:
    """Yield tensors by their place as each comes onto the card (False), and as it is taken up in turn (True).

    Threads read and convert at the same speed, one at a time copies over the bus, and each then goes on to the next
    tensor. They are taken up in their order, in no time: those behind a large one wait on the card until that is there.
    """
    if not threads:
        for index in range(len(sizes)):
            yield from ((index, False), (index, True))
        return
    reading: list[tuple[float, int]] = []  # when a tensor will have been read, and which
    waiting: set[int] = set()
    now, taken = 0.0, 0
    for index in range(len(sizes) + threads):
        if index >= threads and reading:
            ready, read = heapq.heappop(reading)
            now = max(now, ready) + sizes[read] / _COPIED_PER_READ
            waiting.add(read)
        if index < len(sizes):
            heapq.heappush(reading, (now + sizes[index], index))
            yield index, False
        while taken in waiting:
            yield taken, True
            taken += 1


def _bytes_in_file(parameter: Any, dtype: torch.dtype) -> int:
    state = getattr(parameter, "quant_state", None)
    return int((parameter if state is None else state.shape).numel()) * dtype.itemsize


class _Loading:
    """Parameters on their way to the card: each staged in 16 bit, then quantized, kept, or cast to fp32 in the end."""

    def __init__(self, trace: MemoryTrace, parameters: list[Any], setup: MemorySetup, dtype: torch.dtype) -> None:
        self._trace, self._parameters, self._dtype = trace, parameters, dtype
        self._casts_up = setup.upcast
        self._staged: dict[int, Block] = {}

    def stage(self, index: int) -> None:
        """Put a parameter on the card as it is in the file."""
        parameter = self._parameters[index]
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            self._staged[id(parameter)] = self._allocate(state.shape.numel())
        elif self._casts_up and parameter.dtype == torch.float32 != self._dtype:
            self._staged[id(parameter)] = self._allocate(parameter.numel())
        else:
            self._trace.track(parameter.data, "weights")

    def finish(self, index: int) -> None:
        """Quantize a parameter where it is to be."""
        parameter = self._parameters[index]
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            _track_quantized(self._trace, parameter, state)
            self._trace.give_back(self._staged.pop(id(parameter)), "weights")

    def cast_up(self, order: Iterable[Any]) -> None:
        """Replace what is still staged by fp32, as `prepare_model_for_kbit_training` does."""
        for parameter in order:
            if id(parameter) in self._staged:
                self._trace.track(parameter.data, "weights")
                self._trace.give_back(self._staged.pop(id(parameter)), "weights")

    def _allocate(self, elements: int) -> Block:
        return self._trace.borrow(elements * self._dtype.itemsize, "weights")


def _quantize(model: Any, setup: MemorySetup, dtype: torch.dtype) -> None:
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=setup.quantization,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=setup.double,
    )
    kept = get_keys_to_not_convert(model)
    replace_with_bnb_linear(model, modules_to_not_convert=kept, quantization_config=quantization)
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            _quantize_module(module, setup, dtype)
    for experts, name in stacked_experts(model).values():
        shape = getattr(experts, name).shape
        packed = torch.empty((shape.numel() + 1) // 2, 1, dtype=torch.uint8, device="meta")
        put_in_4_bit(experts, name, torch.nn.Parameter(packed, requires_grad=False), _quant_state(shape, setup, dtype))
    model.is_loaded_in_4bit = True
    model.quantization_method = "bitsandbytes"
    model.config.quantization_config = quantization


def _quantize_module(module: Any, setup: MemorySetup, dtype: torch.dtype) -> None:
    rows, columns = module.out_features, module.in_features
    state = _quant_state(torch.Size((rows, columns)), setup, dtype)
    packed = torch.empty((rows * columns + 1) // 2, 1, dtype=torch.uint8, device="meta")
    module.weight = bnb.nn.Params4bit(
        packed, requires_grad=False, quant_state=state, blocksize=_BLOCK, compress_statistics=setup.double,
        quant_type=setup.quantization, bnb_quantized=True, module=module,
    )  # fmt: skip
    module.quant_state = state
    if module.bias is not None:
        module.bias = torch.nn.Parameter(torch.empty(rows, dtype=dtype, device="meta"), requires_grad=False)


def _quant_state(shape: torch.Size, setup: MemorySetup, dtype: torch.dtype) -> QuantState:
    blocks = -(-shape.numel() // _BLOCK)
    common: dict[str, Any] = {
        "shape": shape,
        "dtype": dtype,
        "blocksize": _BLOCK,
        "code": torch.empty(16, device="meta"),
        "quant_type": setup.quantization,
    }
    if not setup.double:
        return QuantState(absmax=torch.empty(blocks, device="meta"), **common)
    nested = QuantState(
        absmax=torch.empty(-(-blocks // _NESTED_BLOCK), device="meta"),
        blocksize=_NESTED_BLOCK,
        code=torch.empty(256, device="meta"),
        dtype=torch.float32,
    )
    scales = torch.empty(blocks, dtype=torch.uint8, device="meta")
    return QuantState(absmax=scales, offset=torch.empty((), device="meta"), state2=nested, **common)


def _adapt(model: Any, setup: MemorySetup) -> Any:
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=setup.rank,
        lora_alpha=setup.rank,
        lora_dropout=setup.dropout,
        target_modules=sorted(setup.targets),
        use_dora=setup.dora,
        bias="none",
        target_parameters=expert_targets(model) if setup.experts else None,
    )
    with torch.device("meta"), own_names(), wrappable_experts(model):
        adapted = get_peft_model(model, lora)
    small = torch.float32 if setup.adapter_bytes == 4 else torch.bfloat16
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            data = torch.empty_like(parameter.data, device="meta")
            parameter.data = data.to(torch.float32 if "magnitude" in name else small)
    return adapted


def _track_quantized(trace: MemoryTrace, parameter: Any, state: Any) -> None:
    tensors = [state.absmax, parameter.data, state.code, state.offset]
    if state.state2 is not None:
        tensors += [state.state2.absmax]
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            trace.track(tensor, "weights")


def _warmup_bytes(parameters: list[Any], dtype: torch.dtype) -> int:
    """Return what transformers' loader reserves in one piece before it loads."""
    total = 0
    for parameter in parameters:
        state = getattr(parameter, "quant_state", None)
        total += state.shape.numel() // 2 if state is not None else parameter.numel() * dtype.itemsize
    return total // 2 * 2


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
