"""The base model in 4 bit with trainable adapters: loaded frugally, prepared for k-bit training, never upcast.

`prepare_model_for_kbit_training` does four things: it freezes the base, casts every other 16-bit parameter to fp32,
asks for input gradients, and turns checkpointing on. The cast costs an 8B model 2.9 GB and a quarter of its speed and
changes nothing that training sees (tests/engine/model/test_kbit_preparation.py shows the equality), so the other three
are done here and the cast is not.
"""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BitsAndBytesConfig

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.family import FAMILIES
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.model.stored_quantization import stored_in_4_bits
from qlora_studio.core.run.events import ModelLoaded
from qlora_studio.core.words import say
from qlora_studio.engine.context import QUIET, Reporter
from qlora_studio.engine.expert_adapters import expert_targets, own_names, wrappable_experts
from qlora_studio.engine.experts import stacked_experts
from qlora_studio.engine.memory.architecture import attention_of_text, auto_class, config_of, knows_sdpa, meta_model
from qlora_studio.engine.memory.checkpointing import layer_counts
from qlora_studio.engine.memory.text_part import unused_parts, without_parts
from qlora_studio.engine.merge.adapter_delta import load_adapter
from qlora_studio.engine.model.device import Device, current_card
from qlora_studio.engine.model.experts import (
    dense_targets,
    keeping,
    quantize_experts_when_loading,
    require_possible_experts,
    say_as_plain_peft,
    tell_number_of_experts,
)
from qlora_studio.engine.model.kept_base import quantized_base
from qlora_studio.engine.model.loading import from_files, keep_scale
from qlora_studio.engine.model.row_attention import attends_by_rows
from qlora_studio.engine.model.targets import adapted_beside, keeps_transposed, targeted, targets_of
from qlora_studio.engine.ranks.share import WHOLE, Share
from qlora_studio.storage.models.folder import read_config

# Their code takes these layers' weights past their forward, where no adapter is: peft refuses the first by name; the
# second would be trained without effect.
_HYBRIDS = tuple(name for name, family in FAMILIES.items() if family.fused_out_proj)
_MAMBA = ("falcon_mamba", "mamba", "mamba2", *_HYBRIDS)
_FUSED_IN_MAMBA = ("out_proj", "dt_proj")


def load_base(
    folder: Path,
    config: RunConfig,
    device: Device,
    adapter: Path | None = None,
    reporter: Reporter = QUIET,
    share: Share = WHOLE,
) -> Any:
    """Return the base model on the device, quantized as the config says.

    What sees or hears beside a language model is left out, unless the config or an `adapter` adapts it. The load dtype
    equals the compute dtype: it is what embeddings, norms and head keep, and what a 4-bit weight is dequantized to in
    the backward pass. Left open, libraries choose fp32 there. Of its layers' 4-bit weights a `share` is kept.
    """
    quantize_experts_when_loading()
    is_stored = stored_in_4_bits(read_config(folder)) is not None
    packed = None if is_stored else quantization(config, device)
    kind = _trained_class(folder, config, adapter)
    how: dict[str, Any] = {
        "dtype": device.compute_dtype,
        "device_map": {"": device.name},
        "attn_implementation": attention_of_text(config_of(folder), attention_of(folder)),
    }
    with keeping(share):
        model = (
            quantized_base(kind, folder, packed, reporter, share, **how) if packed else from_files(kind, folder, **how)
        )
    make_trainable(model, device)
    release_memory()
    return model


def make_trainable(model: Any, device: Device) -> None:
    """Have a base that was loaded, or is yet to be, compute as training wants it."""
    model.config.use_cache = model.config.get_text_config().use_cache = False  # the text part asks its own config
    keep_scale(model)
    if model.base_model is model and hasattr(model, "model"):
        model.base_model_prefix = "model"  # WORKAROUND: Llama 4's text class names a module that it has not; trl asks
    tell_number_of_experts(model)
    keep_differentiable(model)
    _compute_in(model, device.compute_dtype)


def attention_of(folder: Path) -> str:
    """Return the attention that a model can be trained with: SDPA, or eager where it knows no other.

    That is so where it caps or sinks its scores, where its class was never taught SDPA, and where it has no attention.
    """
    return (
        "sdpa" if knows_sdpa(config_of(folder)) and not shape_from_config(read_config(folder)).eager_only else "eager"
    )


def _trained_class(folder: Path, config: RunConfig, adapter: Path | None) -> Any:
    """Return the class of a base as it is trained: of a model that also sees or hears, without what is not used."""
    found = config_of(folder)
    if found.get_text_config() is found:
        return auto_class(found)
    whole = meta_model(found)
    used = adapted_beside(whole, config.lora.target_modules)
    used += load_adapter(adapter).changes if adapter else []
    names = unused_parts(whole, used)
    return without_parts(type(whole), names) if names else auto_class(found)


def with_possible_checkpointing(model: Any, device: Device, reporter: Reporter) -> Device:
    """Return the device, without checkpointing where the model's class has none; that is told."""
    if not device.gradient_checkpointing or model.supports_gradient_checkpointing:
        return device
    name = type(model).__name__
    reporter.warn(
        "no_checkpointing",
        say("{name} has no gradient checkpointing: each step keeps all of its activations.", name=name),
    )
    return replace(device, gradient_checkpointing=False)


def keep_differentiable(model: Any) -> None:
    """Keep 4-bit layers on the CPU in the layout that has a backward pass.

    WORKAROUND bitsandbytes 0.50: on processors with AVX512-BF16 the first call in evaluation mode repacks the weights
    for inference. Training after an evaluation then loses every gradient that should pass through the base, with no
    more than a warning: the loss simply stops falling.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _compute_in(model: Any, dtype: torch.dtype) -> None:
    """Have 4-bit layers compute in the run's dtype; those of a stored base would in the one that its config names."""
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype


def quantization(config: RunConfig, device: Device) -> BitsAndBytesConfig | None:
    """Return the 4-bit storage of the base, or None for a 16-bit one."""
    if config.quantization.method == "none":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantization.method,
        bnb_4bit_use_double_quant=config.quantization.double,
        bnb_4bit_compute_dtype=device.compute_dtype,
    )


def attach_adapters(model: Any, config: RunConfig) -> PeftModel:
    """Freeze the base and attach fresh adapters to every linear layer but the head, or to the modules named.

    Routers get none; routed experts do by choice.
    """
    names = config.lora.target_modules
    wanted, experts = names, None
    if stacked_experts(model):
        wanted = ",".join(dense_targets(model, names))
        experts = expert_targets(model) if config.lora.experts else None
    require_possible_experts(model, config.lora)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.used_dropout,
        target_modules=targets_of(model, wanted),
        target_parameters=experts,
        use_rslora=config.lora.rslora,
        use_dora=config.lora.dora,
        bias="none",
        fan_in_fan_out=keeps_transposed(model),
        exclude_modules=_excluded(model) if names == "auto" else None,
    )
    try:
        with own_names(), wrappable_experts(model):
            adapted = get_peft_model(model, lora)
    except ValueError as error:
        raise StudioError(
            say("The adapters cannot be attached to {names}.", names=names),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Set the target modules to auto, or to names of linear layers of this model."),
            detail=str(error),
        ) from error
    say_as_plain_peft(adapted)
    if model.supports_gradient_checkpointing:  # what has none may write into its embeddings, which a leaf forbids
        adapted.enable_input_require_grads()
    return adapted


def _excluded(model: Any) -> list[str] | None:
    """Return what gets no adapters by itself: layers that share a weight would have one each, not to be merged."""
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
    shared = {name.removesuffix(".weight") for name in [*tied.keys(), *tied.values()]}
    linear = {name for name, module in model.named_modules() if name in shared and isinstance(module, torch.nn.Linear)}
    head = {name for name, module in model.named_modules() if module is model.get_output_embeddings()}
    fused = set(_FUSED_IN_MAMBA) if getattr(model.config, "model_type", "") in _MAMBA else set()
    return sorted(fused | (linear - head)) or None


def cast_adapters(model: Any, dtype: torch.dtype) -> None:
    """Give the trainable parameters their dtype. DoRA's magnitudes stay in fp32: bf16 would swallow their updates."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32 if "magnitude" in name else dtype)


def facts_of(model: Any, config: RunConfig, device: Device, text_model: str = "") -> ModelLoaded:
    """Return what was loaded. Parameters of 4-bit weights are counted as the layer's own shape, not as packed bytes."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    base = sum(_numel(parameter) for parameter in model.parameters() if not parameter.requires_grad)
    inner = model.get_base_model()
    return ModelLoaded(
        architecture=type(inner).__name__,
        parameters=base,
        trainable=trainable,
        footprint_bytes=sum(_bytes(item) for item in [*model.parameters(), *model.buffers()]),
        quantization=config.quantization.method,
        compute_dtype=str(device.compute_dtype).removeprefix("torch."),
        optimizer=device.optimizer,
        device=torch.cuda.get_device_name(0) if device.is_cuda else "CPU",
        card=current_card().uuid if device.is_cuda else "",
        target_modules=targeted(model),
        text_model=text_model,
        rows_end_to_end=attends_by_rows(model),
        **layer_counts(model),
    )


def _numel(parameter: Any) -> int:
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else int(parameter.numel())


def _bytes(tensor: Any) -> int:
    """Return what a tensor takes here: of one that ranks share the own part."""
    return int(getattr(tensor, "_local_tensor", tensor).nbytes)


def release_memory() -> None:
    """Give what loading left behind back to the driver."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
