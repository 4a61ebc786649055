"""Experts of a mixture, which transformers stacks into 3-D parameters: quantized one by one as they are loaded.

transformers' 4-bit quantizer knows linear layers alone. Here it knows stacked experts too: each parameter is quantized
as soon as the loader has put it together, so that no more than one stands in 16 bit, and is unpacked when its layer
asks for it, once in a forward pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bitsandbytes as bnb
from bitsandbytes.functional import quantize_4bit
from peft.tuners.lora.layer import ParamWrapper
from peft.utils import transformers_weight_conversion as renaming
from torch import nn
from transformers.integrations.bitsandbytes import Bnb4bitDeserialize, Bnb4bitQuantize
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from qlora_studio.core.config.run_config import LoraSection
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.experts import is_read_as_it_is, put_in_4_bit, stacked_experts
from qlora_studio.engine.memory.text_part import text_model_name
from qlora_studio.engine.model.targets import adapted_modules
from qlora_studio.engine.ranks.share import WHOLE, Share, decoder_layers

_BLOCK = 64  # numbers that share a scale
_ROUTERS = frozenset({"gate", "router"})  # in a module's full name


def quantize_experts_when_loading() -> None:
    """Make `from_pretrained` in 4 bit quantize stacked experts too, in this process."""
    AUTO_QUANTIZER_MAPPING["bitsandbytes_4bit"] = _Quantizer


@contextmanager
def keeping(share: Share) -> Iterator[None]:
    """Make that keep a share of each 4-bit weight of the layers, cut as soon as it is there."""
    _Quantizer.share = share
    try:
        yield
    finally:
        _Quantizer.share = WHOLE


def dense_targets(model: Any, wanted: str) -> list[str]:
    """Return what `lora.target_modules` stands for in a mixture of experts, among its dense linear layers.

    By default adapters go on all of these but routers and head. Each is named with the module around it: a bare
    `down_proj` is a stack of experts too. Raises StudioError where a name stands for experts, or nothing.
    """
    paths = _dense_paths(model)
    if wanted == "auto":
        text = text_model_name(model)
        return sorted({_with_parent(path) for path in paths if not text or path.startswith(f"{text}.")})
    names = [name.strip() for name in wanted.split(",")]
    found = {name: {path for path in paths if f".{path}".endswith(f".{name}")} for name in names}
    if missing := [name for name in names if not found[name]]:
        raise _refused(missing)
    return sorted({name if "." in name else _with_parent(path) for name in names for path in found[name]})


def require_possible_experts(model: Any, lora: LoraSection) -> None:
    """Raise StudioError where adapters on experts are wished for and cannot be."""
    if lora.experts and not stacked_experts(model):
        raise StudioError(
            say("Adapters on routed experts are wished for, and this model has none."),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Set lora.experts = false."),
        )
    if lora.experts and lora.dora:
        raise StudioError(
            say("DoRA cannot be trained on routed experts."),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Set lora.dora = false, or lora.experts = false."),
        )


def say_as_plain_peft(adapted: Any) -> None:
    """Write into an adapter's config what plain peft must read to find the same modules."""
    config = adapted.peft_config["default"]
    taken = _names_of_experts(adapted.get_base_model().config.model_type)
    linear = [
        name
        for name in adapted_modules(adapted)
        if not isinstance(adapted.base_model.model.get_submodule(name), ParamWrapper)
    ]
    targets = set(linear) if isinstance(config.target_modules, str) else set(config.target_modules)
    weights = {name for name in targets if name.rsplit(".", 1)[-1] in taken}
    if weights:
        config.target_modules = targets - weights
        config.target_parameters = sorted({*(config.target_parameters or ()), *(f"{name}.weight" for name in weights)})
        config.lora_dropout = 0.0  # the layers have theirs; peft refuses another one when it loads them


def tell_number_of_experts(model: Any) -> None:
    """Give a model's config the name under which trl looks for the number of experts, or tell it that there are none.

    WORKAROUND trl 1.16: where a family has another name alone, as Granite, its loss that keeps experts evenly used
    ends in an AttributeError; where a model of a family with experts has none itself, as Doge, in an IndexError.
    """
    config = model.config.get_text_config()
    if hasattr(config, "router_aux_loss_coef") and not stacked_experts(model) and not getattr(config, "is_moe", False):
        config.router_aux_loss_coef = 0.0
    if not hasattr(config, "num_experts") and hasattr(config, "num_local_experts"):
        config.num_experts = config.num_local_experts


def _names_of_experts(model_type: str) -> set[str]:
    """Return the names that peft takes for those of experts: in some families these were linear layers once."""
    patterns: dict[str, str] = vars(renaming)["_MODEL_TO_CONVERSION_PATTERN"]  # transformers', as peft has it
    return set(renaming._MOE_TARGET_MODULE_MAPPING.get(patterns.get(model_type, ""), {}))


def _dense_paths(model: Any) -> list[str]:
    head = model.get_output_embeddings()
    kinds = (nn.Linear, bnb.nn.Linear4bit)  # and not what is made from them, as some routers are
    return [
        path
        for path, module in model.named_modules()
        if type(module) in kinds and module is not head and not _ROUTERS & set(path.split("."))
    ]


def _with_parent(path: str) -> str:
    return ".".join(path.rsplit(".", 2)[-2:])


def _refused(names: list[str]) -> StudioError:
    return StudioError(
        say("Adapters cannot be attached to {names} of this mixture of experts.", names=", ".join(names)),
        kind=FailureKind.INVALID_CONFIG,
        advice=say(
            "Set the target modules to auto, which adapts attention, shared experts and dense "
            "layers, or to q_proj, k_proj, v_proj, o_proj. Routed experts get adapters by "
            "lora.experts = true."
        ),
    )


def _require_size(name: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if stored != wanted:
        raise StudioError(
            say(
                "The experts of this model cannot be loaded: {name} is {stored} in its files, and "
                "{wanted} by its config.json.",
                name=name,
                stored=stored,
                wanted=wanted,
            ),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("Take config.json and all files of weights from one place."),
        )


class _Quantizer(Bnb4BitHfQuantizer):
    """transformers' own, for experts too. Their states are kept here until all is loaded."""

    share = WHOLE  # what is kept of a layer's weights

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.states: dict[str, Any] = {}
        self._experts: dict[str, tuple[nn.Module, str, tuple[int, ...]]] | None = None
        self._layers: tuple[str, ...] | None = None

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        if self._experts is None:
            found = {} if self.pre_quantized else stacked_experts(model)
            self._experts = {
                name: (module, own, tuple(getattr(module, own).shape)) for name, (module, own) in found.items()
            }
        return param_name in self._experts or super().param_needs_quantization(model, param_name, **kwargs)

    @staticmethod
    def get_modules_to_not_convert(model: Any, *args: Any, **kwargs: Any) -> list[str]:
        """Return the names of what stays in 16 bit."""
        kept: list[str] = Bnb4BitHfQuantizer.get_modules_to_not_convert(model, *args, **kwargs)
        return kept + [name for name, _ in model.named_modules() if is_read_as_it_is(name)]

    def get_quantize_ops(self) -> Any:
        return _Quantize(self)  # type: ignore[no-untyped-call]  # transformers' own constructor

    def get_load_operations(self) -> Any:
        return {"deserialize": _Deserialize}

    def cut(self, model: Any, name: str, packed: Any) -> None:
        """Leave of a weight that was just packed this rank's part, where it is one of a decoder layer's."""
        if self.share.is_whole:
            return
        if self._layers is None:
            self._layers = tuple(f"{layer}." for layer in decoder_layers(model))
        if name.startswith(self._layers):
            packed.data = self.share.of(packed.data)

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        for name, (module, own, shape) in (self._experts or {}).items():  # in order, which peft's files keep
            if name in self.states:
                _require_size(name, tuple(self.states[name].shape), shape)
                put_in_4_bit(module, own, getattr(module, own), self.states[name])
        self.states.clear()
        return super()._process_model_after_weight_loading(model, **kwargs)


class _Quantize(Bnb4bitQuantize):
    """Quantizes one parameter that the loader has put together."""

    def convert(self, input_dict: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the parameters to be set, by their full names."""
        experts = self.hf_quantizer._experts or {}
        dense = {name: value for name, value in input_dict.items() if name not in experts}
        found: dict[str, Any] = super().convert(dense, *args, **kwargs) if dense else {}
        for name, packed in found.items():
            self.hf_quantizer.cut(kwargs["model"], name, packed)
        for name in input_dict.keys() & experts.keys():
            value = input_dict[name]
            packed, self.hf_quantizer.states[name] = quantize_4bit(
                (value[0] if isinstance(value, list) else value).contiguous(),
                blocksize=_BLOCK,
                compress_statistics=self.hf_quantizer.quantization_config.bnb_4bit_use_double_quant,
                quant_type=self.hf_quantizer.quantization_config.bnb_4bit_quant_type,
            )
            found[name] = nn.Parameter(packed, requires_grad=False)
        return found


class _Deserialize(Bnb4bitDeserialize):
    """Takes one weight that is stored in 4 bits."""

    def convert(self, input_dict: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return it, as much of it as is kept here."""
        found: dict[str, Any] = super().convert(input_dict, *args, **kwargs)
        for packed in found.values():
            if hasattr(packed, "quant_state"):
                self.hf_quantizer.cut(kwargs["model"], kwargs["full_layer_name"], packed)
        return found
