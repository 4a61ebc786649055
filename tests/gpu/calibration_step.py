"""The child of calibrate_vram.py: takes two real steps of every plan and prints what each took, a JSON object a line.

python -m tests.gpu.calibration_step DEVICE USED_BEFORE SECONDS EXPANDABLE
"""

import gc
import json
import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, cast

import bitsandbytes as bnb
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert
from trl.trainer.utils import add_fused_lm_head

from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import shape_from_config
from tests.gpu.calibration_plan import Measurement, Plan, plans

_STEPS = 2
_WORKSPACE, _HOPPER_WORKSPACE = 8_519_680, 33_554_432


def main(device: str, used_before: int, seconds: float, expandable: bool) -> None:
    """Measure as many plans as there is time for."""
    warnings.simplefilter("ignore")
    end = time.monotonic() + seconds
    for plan in plans(tiny=device == "cpu"):
        if plan.expandable != expandable:
            continue
        if time.monotonic() > end:
            result = Measurement(plan.name, note="no time left")
        else:
            try:
                result = _measure(plan, device, used_before)
            except torch.OutOfMemoryError:
                result = Measurement(plan.name, note="does not fit on this card")
            except (RuntimeError, ValueError, AttributeError) as error:
                result = Measurement(plan.name, note=f"failed: {str(error).splitlines()[0][:120]}")
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        print(json.dumps(asdict(result)), flush=True)


def _measure(plan: Plan, device: str, used_before: int) -> Measurement:
    setup = plan.setup(shape_from_config(plan.model))
    model = _model(plan.model, setup, device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = _optimizer(trained, setup.optimizer, device)
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    batch = _batch(plan, setup, device)
    for _ in range(_STEPS):
        for _ in range(setup.accumulation):
            with torch.autocast(device, torch.bfloat16) if device == "cuda" else nullcontext():
                loss = _loss(model, batch, setup)
            loss.backward()
            del loss
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if device == "cpu":
        return Measurement(plan.name, note="dry run")
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    hopper = torch.cuda.get_device_capability() == (9, 0)
    return Measurement(
        plan.name,
        allocated=torch.cuda.max_memory_allocated(),
        reserved=torch.cuda.max_memory_reserved(),
        process=total - free - used_before,
        workspace_bytes=_HOPPER_WORKSPACE if hopper else _WORKSPACE,
    )


def _model(raw: dict[str, Any], setup: MemorySetup, device: str) -> Any:
    """Return a model with random weights on the device, its base quantized, its adapters in bf16."""
    config = AutoConfig.for_model(**raw)
    implementation = "eager" if setup.attention == "eager" else "sdpa"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=implementation)
    if setup.quantization != "none":
        _quantize(model, setup, device)
    model.config.use_cache = False
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=setup.rank,
        lora_alpha=setup.rank,
        lora_dropout=setup.dropout,
        target_modules=sorted(setup.targets),
        use_dora=setup.dora,
    )
    adapted = get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32 if "magnitude" in name else torch.bfloat16)
    if setup.checkpointing:
        # older transformers know only the older name
        enable = getattr(adapted, "activation_checkpointing_enable", None) or adapted.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    adapted.enable_input_require_grads()
    if setup.loss == "fused":
        add_fused_lm_head(cast(Any, adapted.get_base_model()), outputs=("log_probs", "entropy", "is_top1"))
    adapted.train()
    return adapted


def _quantize(model: Any, setup: MemorySetup, device: str) -> None:
    """Quantize the linear layers, one at a time, from the random weights that they have."""
    weights = {name: module.weight for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    biases = {name: module.bias for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=setup.quantization,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=setup.double,
    )
    kept = get_keys_to_not_convert(model)
    replace_with_bnb_linear(model, modules_to_not_convert=kept, quantization_config=quantization)
    for name, module in model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            packed: Any = bnb.nn.Params4bit(
                weights.pop(name).data.cpu(), requires_grad=False, quant_type=setup.quantization,
                compress_statistics=setup.double, module=module,
            )  # fmt: skip
            module.weight = packed.to(device)
            module.quant_state = cast(Any, module.weight).quant_state
            module.bias = biases[name]
            if module.bias is not None:
                module.bias.requires_grad = False
            module.support_avx512bf16_for_cpu = False
    model.is_loaded_in_4bit = True
    model.quantization_method = "bitsandbytes"
    model.config.quantization_config = quantization


def _optimizer(trained: list[Any], name: str, device: str) -> Any:
    if device == "cpu" or name == "adamw_torch_fused":
        return torch.optim.AdamW(trained, lr=1e-4, fused=device == "cuda")
    paged: dict[str, Any] = {
        "paged_adamw_32bit": bnb.optim.PagedAdamW32bit,
        "paged_adamw_8bit": bnb.optim.PagedAdamW8bit,
    }
    return paged[name](trained, lr=1e-4)


def _batch(plan: Plan, setup: MemorySetup, device: str) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `labels` and `attention_mask`, each int64 of shape (batch, row_tokens); padded if masked."""
    shape = setup.batch, setup.row_tokens
    ids = torch.randint(0, plan.model["vocab_size"], shape, device=device)
    mask = torch.ones_like(ids)
    if setup.masked:
        mask[0, -8:] = 0
    labels = ids.clone()
    labels[:, : round(setup.row_tokens * (1 - setup.trained_share))] = -100
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def _loss(model: Any, batch: dict[str, torch.Tensor], setup: MemorySetup) -> Any:
    if setup.loss == "plain":
        return model(**batch, use_cache=False).loss
    return model(**batch, use_cache=False, fused_lm_head=True).loss


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "1")
