"""How GGUF lays a model out: which tensors there are, what they are called, and their rows as they are written.

Only families that are tested end to end are written; others are refused rather than guessed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from qlora_studio.core.model.gguf_family import gguf_traits, not_written
from qlora_studio.core.words import say
from qlora_studio.engine.gguf.expert_tensors import is_stack
from qlora_studio.engine.gguf.rearrangement import rearranged
from qlora_studio.engine.gguf.text_part import is_text, text_name
from qlora_studio.engine.merge.merged_tensor import MergedTensor
from qlora_studio.engine.merge.weights import MergedWeights

_NOT_WEIGHTS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias", ".attention.bias")
_AHEAD = ("mtp.", "model.mtp.")  # layers that guess further tokens; llama.cpp does without
_HEADS = ("lm_head.weight", "embed_out.weight")
_RENAMED = {".dt_bias": ".dt_proj.bias", "e_score_correction_bias": "e_score_correction.bias"}
_LAYER = re.compile(r"\blayers\.(\d+)\.")
# Of each in files; of all in a GGUF.
_STACKED = re.compile(r"(\.experts|\.altup_\w*projections)\.\d+(?=\.)|\.norms\.\d+(?=\.)")


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of the file. `part` names what its source is rearranged into; "" where rows stay as they are."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[MergedTensor, ...]
    part: str = ""


class GgufLayout:
    """The tensors of a model as a GGUF holds them. `config` is the model's, with all defaults."""

    def __init__(self, config: Mapping[str, Any], layers: int) -> None:
        import gguf

        self._config, self._layers = config, layers
        self.traits = gguf_traits(config)
        architecture = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == self.traits.architecture)
        self._names: Any = gguf.get_tensor_name_map(architecture, layers)

    def tensors(self, weights: MergedWeights, *, is_tied: bool) -> dict[str, GgufTensor]:
        """Return the file's tensors by name, in the order of the base's. Raises StudioError where one has no place."""
        found: dict[str, GgufTensor] = {}
        for tensor in weights.tensors.values():
            plain = text_name(tensor.name)
            if plain.startswith(_AHEAD) or plain.endswith(_NOT_WEIGHTS) or (is_tied and plain in _HEADS):
                continue
            if self._is_ahead(plain) or ("wrapper" in self._config and not is_text(tensor.name)):
                continue
            for planned in self._planned(tensor):
                known = found.get(planned.name)
                if known and not _STACKED.search(tensor.name):
                    raise not_written(
                        say("{name} has the same place as {other}.", name=tensor.name, other=known.sources[0].name)
                    )
                found[planned.name] = _stacked(known, planned) if known or _STACKED.search(tensor.name) else planned
        return found

    def blocks(self, weights: MergedWeights, tensor: GgufTensor) -> Iterator[torch.Tensor]:
        """Yield a tensor's rows; what is rearranged comes at once, what is stacked one after another."""
        for source in tensor.sources:
            if not tensor.part:
                yield from weights.blocks(source)
                continue
            whole = weights.blocks(source) if is_stack(source.name, source.shape) else [weights.tensor(source.name)]
            for block in whole:
                yield self.part_of(self.rearranged(source.name, block) or {}, tensor).contiguous()

    def part_of(self, parts: dict[str, torch.Tensor], tensor: GgufTensor) -> torch.Tensor:
        """Return of what a source is rearranged into what a tensor of the file holds."""
        return parts[_stack_name(tensor.part)]

    def by_columns(self, tensor: GgufTensor, values: torch.Tensor) -> torch.Tensor | None:
        """Return what holds of each input of a layer by the columns of its tensor; None where it does not fit.

        `values` are of shape (inputs,), positive, up to a factor. They go the tensor's own way: as a matrix with one in
        each row, or in each column where the base stores (inputs, outputs).
        """
        source, found = tensor.sources[0], None
        ways = [values] if len(values) == source.shape[-1] else []
        ways += [values[:, None]] if tensor.part and len(values) == source.shape[0] else []
        for way in ways:
            parts = self.rearranged(source.name, way.expand(source.shape)) if tensor.part else None
            matrix = way.expand(source.shape) if parts is None else parts[_stack_name(tensor.part)]
            if matrix.shape[-1] == len(values) and torch.equal(matrix[0], matrix[-1]):
                found = matrix[0].contiguous()
        return found

    def rearranged(self, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor] | None:
        """Return what becomes of a tensor by the name of its stack; None where it stays as it is."""
        parts = rearranged(text_name(name), tensor, self._config, self.traits)
        return None if parts is None else {_stack_name(key): part for key, part in parts.items()}

    def name_of(self, name: str) -> str:
        """Return GGUF's name for a tensor. Raises StudioError where it has none."""
        name = text_name(name)
        if name.startswith("blk."):
            return name
        for ending, new in _RENAMED.items():
            name = name.removesuffix(ending) + new if name.endswith(ending) else name
        for known in (_stack_name(name), _stack_name(name).removeprefix("transformer.")):
            if found := self._names.get_name(known, try_suffixes=(".weight", ".bias")):
                return str(found)
        raise not_written(say("{name} has no place in a GGUF of this family.", name=name))

    def _is_ahead(self, name: str) -> bool:
        """Whether a tensor is of a layer behind the last one, that guesses further tokens."""
        layer = _LAYER.search(name)
        return layer is not None and int(layer[1]) >= self._layers

    def _planned(self, tensor: MergedTensor) -> Iterator[GgufTensor]:
        parts = self.rearranged(tensor.name, torch.empty(tensor.shape, device="meta"))
        if parts is None:
            yield GgufTensor(self.name_of(tensor.name), tensor.shape, (tensor,))
            return
        for key, part in parts.items():
            yield GgufTensor(self.name_of(key), tuple(part.shape), (tensor,), key)


def _stacked(known: GgufTensor | None, tensor: GgufTensor) -> GgufTensor:
    sources = (*known.sources, *tensor.sources) if known else tensor.sources
    sources = tuple(sorted(sources, key=lambda source: [int(part) for part in re.findall(r"\d+", source.name)]))
    shape = known.shape[1:] if known else tensor.shape
    return GgufTensor(tensor.name, (len(sources), *shape), sources, tensor.part)


def _stack_name(name: str) -> str:
    return _STACKED.sub(r"\1", name)
