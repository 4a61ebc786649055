"""What vLLM will do with an adapter, by its own rules: it applies modules, scales all of them alike, or refuses it.

The rules are those of its `lora/peft_helper.py`, `lora/lora_model.py` and `config/lora.py`; which families have
adapters at all, its page of supported models says.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qlora_studio.core.export.serving import VLLM_RANKS
from qlora_studio.engine.merge.adapter_change import Change
from qlora_studio.engine.merge.adapter_delta import AdapterDelta, adapter_weights, load_adapter, read_adapter_config
from qlora_studio.storage.models.folder import read_config

# By the class in `config.json`; one that vLLM does not know by itself runs on transformers' code, and has them.
_WITHOUT_ADAPTERS = {
    "ArcticForCausalLM",
    "BloomForCausalLM",
    "DbrxForCausalLM",
    "ExaoneMoeForCausalLM",
    "FalconForCausalLM",
    "FalconMambaForCausalLM",
    "FlexOlmoForCausalLM",
    "GPT2LMHeadModel",
    "GPTJForCausalLM",
    "GPTNeoXForCausalLM",
    "Gemma3nForCausalLM",
    "Gemma3nForConditionalGeneration",
    "Jais2ForCausalLM",
    "KimiLinearForCausalLM",
    "Mamba2ForCausalLM",
    "MambaForCausalLM",
    "MPTForCausalLM",
    "OlmoeForCausalLM",
    "StableLmForCausalLM",
    "Zamba2ForCausalLM",
}
_WITH_EMBEDDINGS = {"LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "GraniteForCausalLM"}
_EMBEDDINGS = ("embed_tokens", "lm_head")
_HALVES = (".lora_A.", ".lora_embedding_A")  # one in the file for each module


def vllm_facts(adapter: Path, base: Path) -> dict[str, Any]:
    """Return how many modules of an adapter vLLM applies as they were trained, of how many, and why not all."""
    names = [name for name in adapter_weights(adapter).places if any(half in name for half in _HALVES)]
    if read_adapter_config(adapter).get("target_parameters"):
        return _facts(0, len(names), "vLLM refuses it: it has experts laid out otherwise.")
    delta = load_adapter(adapter)
    modules = {name: change for name, change in delta.changes.items() if change.low_rank}
    if refusal := next(_refusals(delta, next(iter(read_config(base).get("architectures") or ()), "")), ""):
        return _facts(0, len(names), f"vLLM refuses it: {refusal}.")
    odd = [name for name, change in modules.items() if _is_scaled_apart(change, delta.config)]
    if not odd:
        return _facts(len(names), len(names), "")
    problem = f"{odd[0]} and {len(odd) - 1} others have" if len(odd) > 1 else f"{odd[0]} has"
    problem += " a rank or alpha of their own, and vLLM scales all modules alike."
    return _facts(len(names) - len(odd), len(names), problem)


def _facts(applied: int, modules: int, problem: str) -> dict[str, Any]:
    return {"vllm_applied": applied, "vllm_modules": modules, "vllm_problem": problem}


def _refusals(delta: AdapterDelta, architecture: str) -> Iterator[str]:
    """Yield why vLLM would not load an adapter at all."""
    config, changes = delta.config, delta.changes
    if config.get("use_dora"):
        yield "it has no DoRA"
    if config.get("lora_bias") or (config.get("bias") or "none") != "none":
        yield "it knows no biases of adapters"
    # Below an update of embedding or head peft keeps what it was made on, and vLLM passes that over.
    whole = [name for name, change in changes.items() if change.replacement is not None and change.low_rank is None]
    if config.get("modules_to_save") or whole:
        yield f"it holds whole modules ({(config.get('modules_to_save') or whole)[0]}), and not their update alone"
    if any(change.row_values for change in changes.values()):
        yield "it knows no tokens that are trained alone"
    largest = max((change.low_rank.a.shape[0] for change in changes.values() if change.low_rank), default=0)
    if largest > VLLM_RANKS[-1]:
        yield f"the rank is {largest}, and its --max-lora-rank ends at {VLLM_RANKS[-1]}"
    if architecture in _WITHOUT_ADAPTERS:
        yield f"it has no adapters for {architecture}"
    for name in changes:
        module = name.removesuffix(".weight").rpartition(".")[2]
        if module in _EMBEDDINGS and architecture not in _WITH_EMBEDDINGS:
            yield f"it takes no adapter on {module} of {architecture}"


def _is_scaled_apart(change: Change, config: dict[str, Any]) -> bool:
    """Whether an update's scale is not the one of all others."""
    assert change.low_rank is not None
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
    shared = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return not math.isclose(change.low_rank.scale, shared)
