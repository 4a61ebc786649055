"""The models that a verification compares, one at a time in memory."""

from pathlib import Path
from typing import Any

import torch

from qlora_studio.engine.merge.weights import MergedWeights


def load_plain(folder: Path, *, dtype: torch.dtype, device: str) -> Any:
    """Return the model in a folder, unquantized."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )
    return model.to(device).eval()


def load_with_adapter(base: Path, adapter: Path, *, dtype: torch.dtype, device: str) -> Any:
    """Return a base with its adapter, unmerged; the adapter stays in fp32."""
    from qlora_studio.engine.model.saved_adapter import with_saved_adapter

    return with_saved_adapter(load_plain(base, dtype=dtype, device=device), adapter).eval()


def load_merged(weights: MergedWeights, *, dtype: torch.dtype, device: str) -> Any:
    """Return merged weights as a model, without a file between."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(weights.base.path, trust_remote_code=False, local_files_only=True)
    config.tie_word_embeddings = weights.is_tied
    if weights.vocabulary is not None:
        config.vocab_size = weights.vocabulary
    model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    places = model.state_dict()
    with torch.no_grad():
        for name in weights.tensors:
            if name in places:
                places[name].copy_(weights.tensor(name))
    return model.to(device).eval()
