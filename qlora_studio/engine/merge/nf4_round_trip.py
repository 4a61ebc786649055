"""The base as the adapter saw it in training: 4 bits and back."""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.config.run_config import QuantizationSection
from qlora_studio.engine.experts import is_read_as_it_is, stacked_experts
from qlora_studio.engine.memory.architecture import config_of, meta_model
from qlora_studio.engine.merge.safetensors_file import WeightsFolder
from qlora_studio.engine.merge.stored_names import names_in


class Nf4RoundTrip:
    """Rounds what training quantizes: every linear layer but the head, and experts, stacked. Others are kept.

    Experts that lie apart in files are put together, rounded and taken apart again: the scales of a stack depend on all
    that is in it. The last stack is kept, since files hold its experts side by side.
    """

    def __init__(self, base: Path, quantization: QuantizationSection) -> None:
        self._method = quantization.method
        self._double = quantization.double
        self._base = WeightsFolder(base)
        self._model = meta_model(config_of(base))
        self._weights = quantized_weights(self._model, self._base.places)
        self._stacks = _stacks_of(self._model, self._base.places)
        self._held: tuple[str, dict[str, torch.Tensor]] = "", {}

    def __call__(self, name: str, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor after the round trip, in its own dtype."""
        if self._method == "none":
            return None
        stack = self._stacks.get(name)
        if stack is not None:
            return self._of_stack(stack, name)
        return self._rounded(tensor) if name in self._weights else None

    def _rounded(self, tensor: torch.Tensor) -> torch.Tensor:
        import bitsandbytes.functional as bnb

        device = "cuda" if torch.cuda.is_available() else "cpu"
        packed, state = bnb.quantize_4bit(
            tensor.to(device).contiguous(),
            blocksize=64,
            compress_statistics=self._double,
            quant_type=self._method,
        )
        rounded: torch.Tensor = bnb.dequantize_4bit(packed, state)
        return rounded.to(device="cpu", dtype=tensor.dtype).reshape(tensor.shape)

    def _of_stack(self, stack: "_Stack", name: str) -> torch.Tensor:
        held, parts = self._held
        if held != stack.name:
            self._held = "", {}  # let go of the last one first
            together = stack.joined({source: self._base.tensor(source) for source in stack.sources}, self._model)
            parts = stack.taken_apart(self._rounded(together), self._model)
            self._held = stack.name, parts
        return parts[name]


def quantized_weights(model: Any, places: Iterable[str]) -> set[str]:
    """Return the names, among those in a base's files, of the linear layers' weights that training keeps in 4 bits."""
    head = model.get_output_embeddings()
    stored = names_in([model], places).stored
    return {
        stored.get(f"{name}.weight", f"{name}.weight")
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear and module is not head and not is_read_as_it_is(name)  # routers stay, too
    }


class _Stack:
    """A parameter of stacked experts, and the tensors in files that transformers makes it of."""

    def __init__(self, name: str, converter: Any) -> None:
        self.name = name
        self.sources: dict[str, str] = {}  # by name: which of the converter's patterns it is of; in their order
        self._converter = converter

    def joined(self, tensors: dict[str, torch.Tensor], model: Any) -> torch.Tensor:
        """Return the parameter."""
        if self._converter is None:
            return tensors[next(iter(self.sources))]
        work = deepcopy(self._converter)
        for source, pattern in self.sources.items():
            work.add_tensor(self.name, source, pattern, tensors[source])
        value: Any = next(iter(work.convert(self.name, model=model, config=model.config).values()))
        joined: torch.Tensor = value[0] if isinstance(value, list) else value
        return joined

    def taken_apart(self, stacked: torch.Tensor, model: Any) -> dict[str, torch.Tensor]:
        """Return what files hold of the parameter, by their names."""
        from transformers.core_model_loading import revert_weight_conversion

        if self._converter is None:
            return {next(iter(self.sources)): stacked}
        parts: dict[str, torch.Tensor] = revert_weight_conversion(model, {self.name: stacked})
        return parts


def _stacks_of(model: Any, names: Iterable[str]) -> dict[str, _Stack]:
    """Return the stack that each file's tensor of an expert belongs to."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    stacked, places = stacked_experts(model), model.state_dict()
    mapping = get_model_conversion_mapping(model) if stacked else []
    renamings = [item for item in mapping if isinstance(item, WeightRenaming)]
    converters = [item for item in mapping if isinstance(item, WeightConverter)]
    stacks: dict[str, _Stack] = {}
    found: dict[str, _Stack] = {}
    for name in sorted(names, key=dot_natural_key):
        renamed, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, places)
        if renamed in stacked:
            converter = next((item for item in converters if pattern in item.source_patterns), None)
            found[name] = stacks.setdefault(renamed, _Stack(renamed, converter))
            found[name].sources[name] = pattern or name
    return found
