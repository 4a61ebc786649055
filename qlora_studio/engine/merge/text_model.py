"""The language model inside one that also sees or hears, as a model of its own.

Its tensors get the names, and its config the values, that transformers writes for the text model's own class.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, revert_weight_conversion
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.memory.architecture import config_of, meta_models
from qlora_studio.engine.merge.stored_names import loaded_names
from qlora_studio.engine.merge.weights import MergedWeights

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def text_class(config: Any) -> Any:
    """Return transformers' class of the language model alone. Raises StudioError where there is none."""
    text = config.get_text_config()
    name = next(iter(config.architectures or ()), config.model_type)
    if text is config:
        raise _refused(say("{name} is a language model and nothing else", name=name), say("Export it as safetensors."))
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(text), None)
    if kind is None:
        raise _refused(
            say(
                "the one inside {name} ({model_type}) has no class of its own in transformers",
                name=name,
                model_type=text.model_type,
            ),
            say("Export the merged model as it is, which keeps the whole."),
        )
    return kind


def text_class_name(folder: Path) -> str:
    """Return the name of that class, for a base; nothing where there is none."""
    try:
        return str(text_class(config_of(folder)).__name__)
    except StudioError:
        return ""


def text_alone(weights: MergedWeights) -> MergedWeights:
    """Make merged weights those of the language model alone, and return them. Raises StudioError where it has none."""
    config = config_of(weights.base.path)
    kind = text_class(config)
    with torch.device("meta"):
        text = kind._from_config(config.get_text_config())
    is_tied = weights.is_tied
    names = _text_names(config, text, weights.tensors)
    weights.config = _text_config(weights.config, text) | {"tie_word_embeddings": is_tied}
    kept = [
        [replace(item, name=names[item.name]) for item in shard if item.name in names]
        for shard in weights.shards.values()
    ]
    kept = [shard for shard in kept if shard]
    weights.shards = {_shard_name(number, len(kept)): shard for number, shard in enumerate(kept, 1)}
    return weights


def _text_names(config: Any, text: Any, names: Iterable[str]) -> dict[str, str]:
    """Return the names in the text model's own files of those tensors of the whole that are its own."""
    names = list(names)
    tensors, found = text.state_dict(), {}
    conversions = get_model_conversion_mapping(text, add_legacy=False)
    text._weight_conversions = [item for item in conversions if not isinstance(item, PrefixChange)] or None
    for whole in meta_models(config):
        places = {_name_of(whole, whole.get_decoder()): _name_of(text, text.get_decoder())}
        places[_name_of(whole, whole.get_output_embeddings())] = _name_of(text, text.get_output_embeddings())
        for name, loaded, _ in loaded_names(whole, names):
            own = next((new + loaded[len(old) :] for old, new in places.items() if loaded.startswith(f"{old}.")), "")
            if own in tensors and name not in found:
                found[name] = _file_name(text, own, tensors[own], name)
    return found


def _file_name(text: Any, own: str, tensor: torch.Tensor, name: str) -> str:
    """Return what a file calls a tensor of the text model, or that one of its experts which `name` is."""
    if text._weight_conversions is None:
        return own
    found: list[str] = list(revert_weight_conversion(text, {own: tensor}))
    ending = name[name.rfind(".layers.") :]
    return next((item for item in found if item.endswith(ending)), found[0])


def _text_config(whole: dict[str, Any], text: Any) -> dict[str, Any]:
    """Return the text model's `config.json`: what the whole's says of it, its kind, and what ends an answer."""
    said = whole.get("text_config") or {}
    shared = {key: whole[key] for key in (*_TOKENS, "dtype", "torch_dtype") if whole.get(key) is not None}
    own = {"architectures": [type(text).__name__], "model_type": text.config.model_type}
    return shared | {key: value for key, value in said.items() if value is not None or key not in shared} | own


def _shard_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _name_of(model: Any, module: Any) -> str:
    return next(str(name) for name, item in model.named_modules() if item is module)


def _refused(why: str, advice: str) -> StudioError:
    return StudioError(
        say("A language model cannot be exported alone here: {why}.", why=why),
        kind=FailureKind.INVALID_CONFIG,
        advice=advice,
    )
