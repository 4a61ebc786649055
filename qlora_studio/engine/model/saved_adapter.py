"""An adapter in PEFT's format, on a model: with its own numbers, and without matching any pattern that it brings.

peft would match the expressions in its config against every module for as long as that takes, pass over names that
wrappers left in the file, and refuse a vocabulary that grew. So its modules are named here as the file has them.
"""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.expert_adapters import own_names, wrappable_experts
from qlora_studio.engine.experts import stacked_experts
from qlora_studio.engine.merge.adapter_change import LowRank
from qlora_studio.engine.merge.adapter_delta import (
    AdapterDelta,
    adapter_weights,
    load_adapter,
    plain_names,
    read_adapter_config,
    scaling,
)
from qlora_studio.engine.model.experts import say_as_plain_peft
from qlora_studio.engine.model.targets import keeps_transposed

_PREFIX = "base_model.model."


def with_saved_adapter(model: Any, folder: Path, *, dropout: float = 0.0) -> PeftModel:
    """Return the model with the adapter in a folder, in fp32, and trainable. Raises StudioError where it does not fit.

    An embedding or head with other rows than the model's is taken as it is.
    """
    weights = adapter_weights(folder)
    tensors = {_PREFIX + plain: weights.tensor(name) for plain, name in plain_names(weights.places).items()}
    modules = {_without_layer(name) for name in tensors if ".lora_" in name}
    is_named_as_here = modules <= {name for name, _ in model.named_modules()}
    try:
        with own_names() if is_named_as_here else nullcontext():
            adapted: PeftModel = _adapted(model, folder, tensors, dropout)
            found: Any = set_peft_model_state_dict(adapted, tensors)
    except (ValueError, RuntimeError, KeyError) as error:
        raise _mismatch(str(error)) from error
    say_as_plain_peft(adapted)
    unknown = [name for name in found.unexpected_keys if "token_adapter" not in name and "lora_velora" not in name]
    if unknown:
        raise _mismatch(
            say(
                "The model has no {removeprefix} ({unknown} such).",
                removeprefix=unknown[0].removeprefix(_PREFIX),
                unknown=len(unknown),
            )
        )
    return adapted


def adapted_on_parameters(model: Any, config: dict[str, Any], tensors: dict[str, torch.Tensor], dropout: float) -> Any:
    """Return the model with adapters on parameters too, as those of experts are. Of `tensors` the shapes count."""
    with wrappable_experts(model):
        return get_peft_model(model, _config_of_parameters(model, config, tensors, dropout))


def low_rank_modules(delta: AdapterDelta) -> dict[str, LowRank]:
    """Return the modules that an adapter of low rank changes, by their full names."""
    return {name.removesuffix(".weight"): change.low_rank for name, change in delta.changes.items() if change.low_rank}


def alpha_of(update: LowRank, *, rslora: bool) -> float:
    """Return the alpha that gives an update's scale."""
    rank = update.a.shape[0]
    return update.scale * (rank**0.5 if rslora else rank)


def _without_layer(name: str) -> str:
    return name.removeprefix(_PREFIX).split(".lora_")[0].replace(".base_layer", "")


def _adapted(model: Any, folder: Path, tensors: dict[str, torch.Tensor], dropout: float) -> Any:
    """Return the model with adapters where a folder's are, yet without their numbers."""
    config = read_adapter_config(folder)
    if config.get("target_parameters"):
        return adapted_on_parameters(model, config, tensors, dropout)
    delta = load_adapter(folder)
    _resize(model, delta)
    return get_peft_model(model, peft_config(model, delta, dropout))


def _config_of_parameters(
    model: Any, config: dict[str, Any], tensors: dict[str, torch.Tensor], dropout: float
) -> LoraConfig:
    """Return peft's config of an adapter that is on parameters too: on experts, and on dense layers named by weight.

    peft nests the adapters of one module: the last parameter's is the outermost.
    """
    stacked: dict[str, list[str]] = {}
    for name in stacked_experts(model):
        if any(f".{name}".endswith(f".{wish}") for wish in config["target_parameters"]):
            stacked.setdefault(name.rpartition(".")[0], []).append(name)
    linear = {_without_layer(name) for name in tensors if ".lora_" in name} - stacked.keys()
    ranks = {name: tensors[f"{_PREFIX}{name}.lora_A.weight"].shape[0] for name in linear}
    for module, names in stacked.items():
        for depth, name in enumerate(reversed(names)):
            rows = tensors[f"{_PREFIX}{module}{'.base_layer' * depth}.lora_A.weight"].shape[0]
            ranks[name] = rows // _number_of_experts(model, name)
    rank, alpha, rslora = config.get("r", 8), config.get("lora_alpha", 8), bool(config.get("use_rslora"))
    alphas = {name: scaling(config, name, own) * (own**0.5 if rslora else own) for name, own in ranks.items()}
    parameters = [name for names in stacked.values() for name in names]
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0 if parameters else dropout,
        target_modules=sorted(linear),
        target_parameters=parameters or None,
        rank_pattern={re.escape(name): own for name, own in ranks.items() if own != rank},
        alpha_pattern={
            re.escape(name): _plain_number(own) for name, own in alphas.items() if _plain_number(own) != alpha
        },
        use_rslora=rslora,
        modules_to_save=config.get("modules_to_save"),
    )


def _number_of_experts(model: Any, name: str) -> int:
    module, own = stacked_experts(model)[name]
    return int(getattr(module, own).shape[0])


def peft_config(model: Any, delta: AdapterDelta, dropout: float) -> LoraConfig:
    """Return how peft is asked for an adapter's modules."""
    config, updates = delta.config, low_rank_modules(delta)
    rank, alpha, rslora = config.get("r", 8), config.get("lora_alpha", 8), bool(config.get("use_rslora"))
    ranks = {name: update.a.shape[0] for name, update in updates.items()}
    alphas = {name: _plain_number(alpha_of(update, rslora=rslora)) for name, update in updates.items()}
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=_targets(model, set(updates)),
        rank_pattern={re.escape(name): value for name, value in ranks.items() if value != rank},
        alpha_pattern={re.escape(name): value for name, value in alphas.items() if value != alpha},
        fan_in_fan_out=keeps_transposed(model),
        use_rslora=rslora,
        use_dora=bool(config.get("use_dora")),
        lora_bias=bool(config.get("lora_bias")),
        bias=config.get("bias") or "none",
        modules_to_save=config.get("modules_to_save"),
        trainable_token_indices=config.get("trainable_token_indices"),
        ensure_weight_tying=delta.keeps_ties,
    )


def rows_of_adapter(model: Any, delta: AdapterDelta) -> int | None:
    """Return how many rows an adapter has for embedding or head, where the model's has others."""
    modules = dict(model.named_modules())
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
    for name, change in delta.changes.items():
        module = modules.get(name.removesuffix(".weight"))
        if change.replacement is not None and module is not None and module in embeddings:
            rows = change.replacement.shape[0]
            if rows != module.weight.shape[0]:
                return rows
    return None


def _plain_number(value: float) -> Any:
    return round(value) if abs(value - round(value)) < 1e-9 * max(1.0, abs(value)) else value


def _targets(model: Any, modules: set[str]) -> list[str]:
    """Return the last parts of the modules' names where they mean just these modules, else the full names."""
    short = {name.rpartition(".")[2] for name in modules}
    meant = {name for name, module in model.named_modules() if name.rpartition(".")[2] in short}
    return sorted(short if meant == modules else modules)


def _resize(model: Any, delta: AdapterDelta) -> None:
    """Give embedding and head the rows of an adapter that was made after the vocabulary had grown."""
    rows = rows_of_adapter(model, delta)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)


def _mismatch(detail: str) -> StudioError:
    return StudioError(
        say("This adapter was not made for this base model."),
        kind=FailureKind.FINGERPRINT_MISMATCH,
        advice=say("Choose the base model that the adapter was trained on."),
        detail=detail,
    )
