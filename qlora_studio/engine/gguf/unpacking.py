"""The weights of a GGUF that was written here, put back where transformers has them.

For families that transformers does not read from a GGUF itself. What laid the tensors out is asked where each number
went: what was rounded on the way is seen, a wrong layout is not. For that there is llama.cpp.
"""

from pathlib import Path
from typing import Any

import torch

from qlora_studio.engine.gguf.expert_tensors import is_stack
from qlora_studio.engine.gguf.layout import GgufLayout, GgufTensor
from qlora_studio.engine.gguf.numbers import gguf_numbers
from qlora_studio.engine.gguf.text_part import settings_of
from qlora_studio.engine.memory.architecture import meta_model
from qlora_studio.engine.merge.merged_tensor import MergedTensor
from qlora_studio.engine.merge.weights import MergedWeights

_Tensors = tuple[torch.Tensor, ...]


def unpacked(path: Path, base: Path, config: Any, dtype: torch.dtype) -> Any:
    """Return the model in a GGUF file, its weights in `dtype`, on the processor."""
    weights, said = MergedWeights(base, None, dtype=torch.float32), settings_of(config)
    layout = GgufLayout(said, int(gguf_numbers(said)["block_count"]))  # type: ignore[arg-type]
    stored = _dequantized(path)
    planned = layout.tensors(weights, is_tied=config.tie_word_embeddings)
    found: dict[str, torch.Tensor] = {}
    for tensor in planned.values():
        for number, source in enumerate(tensor.sources):
            whole = stored[tensor.name]
            part = whole[number] if len(tensor.sources) > 1 else whole
            if tensor.part:
                target = found.setdefault(source.name, torch.empty(source.shape))
                for piece, of_piece in zip(*_pieces(source, target, part), strict=True):
                    _put_back(piece, of_piece, source.name, tensor, layout)
            else:
                found[source.name] = part
    if "output.weight" in stored and "output.weight" not in planned:  # a head that a merge has untied
        found["lm_head.weight"] = stored["output.weight"]
    kept = {name: weights.tensor(name) for name in weights.tensors if name not in found}  # that only the base has
    kind: Any = type(meta_model(config))
    own = config if isinstance(config, kind.config_class) else config.get_text_config()  # Qwen3.5's text part alone
    return kind.from_pretrained(None, config=own, state_dict={**kept, **found}, dtype=dtype)


def _pieces(source: MergedTensor, target: torch.Tensor, part: torch.Tensor) -> tuple[_Tensors, _Tensors]:
    """Stacked experts one by one: what lays out one lays out all."""
    if not is_stack(source.name, source.shape):
        return (target,), (part,)
    return target.split(1), part.split(1)


def _put_back(target: torch.Tensor, part: torch.Tensor, name: str, tensor: GgufTensor, layout: GgufLayout) -> None:
    """Fill in the numbers of a tensor that a part of it in the GGUF has."""

    def laid_out(values: torch.Tensor) -> torch.Tensor:
        parts = layout.rearranged(name, values) or {}
        return layout.part_of(parts, tensor).double().flatten()

    shape = target.shape
    zero, one, two = (laid_out(torch.full(shape, value, dtype=torch.float64)) for value in (0.0, 1.0, 2.0))
    is_decay = not torch.allclose(two - zero, 2 * (one - zero))  # minus e to the power of what is stored

    def plain(values: torch.Tensor) -> torch.Tensor:
        return torch.log(-values) if is_decay else values

    offset = plain(zero)
    factor = plain(one) - offset
    places = torch.arange(target.numel(), dtype=torch.float64).reshape(shape) / (target.numel() if is_decay else 1)
    numbers = (plain(laid_out(places)) - offset) / factor * (target.numel() if is_decay else 1)
    target.view(-1)[numbers.round().long()] = ((plain(part.double().flatten()) - offset) / factor).to(target.dtype)


def _dequantized(path: Path) -> dict[str, torch.Tensor]:
    import gguf

    reader = gguf.GGUFReader(path)
    return {
        tensor.name: torch.from_numpy(
            gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy().reshape(*reversed(tensor.shape.tolist()))
        )
        for tensor in reader.tensors
    }
