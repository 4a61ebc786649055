"""What autograd really saves in a layer, on the CPU, against the closed formula: to the byte."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig

from qlora_studio.core.memory.layer import LayerMemory
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.engine.model.row_attention import attend_by_rows

SEVEN = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
WIDE = {
    "hidden_size": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 688,
}
DEEP = {
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 1408,
}


@pytest.mark.parametrize(
    ("sizes", "batch", "tokens", "rank", "targets"),
    [(WIDE, 2, 64, 8, SEVEN), (DEEP, 1, 128, 16, SEVEN), (WIDE, 2, 64, 8, frozenset({"q_proj", "v_proj"}))],
    ids=["two rows", "one row, fewer key heads", "two modules"],
)
def test_a_layer_saves_exactly_what_the_formula_says(
    sizes: dict[str, int], batch: int, tokens: int, rank: int, targets: frozenset[str]
) -> None:
    ids = torch.randint(0, 512, (batch, tokens))
    saved = [_saved_bytes(_model(sizes, layers, rank, targets), ids) for layers in (2, 3)]
    shape = shape_from_config(_config(sizes, 2).to_dict())
    setup = MemorySetup(targets=targets, rank=rank, batch=batch, row_tokens=tokens, double=False)
    assert saved[1] - saved[0] == LayerMemory(shape, setup, shape.layer_shapes[0]).per_token * setup.tokens


def test_rows_end_to_end_save_exactly_what_the_formula_says() -> None:
    sizes, lengths = {**WIDE, "num_key_value_heads": 8}, (40, 3, 21)
    positions = torch.cat([torch.arange(size) for size in lengths])[None]
    saved = []
    for layers in (2, 3):
        model = _model(sizes, layers, 8, SEVEN)
        attend_by_rows(model)
        saved.append(_saved_bytes(model, torch.randint(0, 512, (1, 64)), position_ids=positions))
    shape = shape_from_config(_config(sizes, 2).to_dict())
    setup = MemorySetup(targets=SEVEN, rank=8, batch=2, row_tokens=32, double=False, attention="efficient")
    assert saved[1] - saved[0] == LayerMemory(shape, setup, shape.layer_shapes[0]).per_token * setup.tokens


def _config(sizes: dict[str, Any], layers: int) -> Any:
    return LlamaConfig(num_hidden_layers=layers, vocab_size=512, max_position_embeddings=512, **sizes)


def _model(sizes: dict[str, int], layers: int, rank: int, targets: frozenset[str]) -> Any:
    """Return a model with random weights in real NF4 and bf16 adapters, in training mode."""
    import bitsandbytes as bnb
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    model = AutoModelForCausalLM.from_config(_config(sizes, layers), dtype=torch.bfloat16, attn_implementation="sdpa")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    replace_with_bnb_linear(model, modules_to_not_convert=get_keys_to_not_convert(model), quantization_config=nf4)
    for name, module in model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            layer: Any = module
            packed: Any = bnb.nn.Params4bit(
                weights[f"{name}.weight"],
                requires_grad=False,
                quant_type="nf4",
                compress_statistics=False,
                module=module,
            )
            layer.weight = packed.to("cpu")
            layer.quant_state = layer.weight.quant_state
    model.is_loaded_in_4bit = True
    model.quantization_method = "bitsandbytes"
    model.config.quantization_config = nf4
    adapted = get_peft_model(model, LoraConfig(r=rank, target_modules=sorted(targets), task_type="CAUSAL_LM"))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    adapted.train()
    return adapted


def _saved_bytes(model: Any, ids: Tensor, **more: Any) -> int:
    """Return the bytes of all that autograd saves but the model's own. `ids` is int64 of shape (batch, tokens)."""
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    for parameter in model.parameters():
        if (state := getattr(parameter, "quant_state", None)) is not None:
            own |= {tensor.untyped_storage()._cdata for tensor in (state.absmax, state.code)}
    seen: dict[int, tuple[int, Any]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage.nbytes(), storage  # kept alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.get_base_model().model(input_ids=ids, use_cache=False, **more).last_hidden_state
    assert hidden.requires_grad
    return sum(size for size, _ in seen.values())
