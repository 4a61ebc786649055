"""The models that a verification compares, one at a time in memory."""

from pathlib import Path
from typing import Any

import torch

from qlora_studio.engine.memory.architecture import auto_class, config_of
from qlora_studio.engine.merge.stored_names import stored_names
from qlora_studio.engine.merge.weights import MergedWeights


def load_plain(folder: Path, *, dtype: torch.dtype, device: str) -> Any:
    """Return the model in a folder, unquantized."""
    model: Any = auto_class(config_of(folder)).from_pretrained(
        folder, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )
    return model.to(device).eval()


def load_with_adapter(base: Path, adapter: Path, *, dtype: torch.dtype, device: str) -> Any:
    """Return a base with its adapter, unmerged; the adapter stays in fp32."""
    from qlora_studio.engine.model.saved_adapter import with_saved_adapter

    return with_saved_adapter(load_plain(base, dtype=dtype, device=device), adapter).eval()


def load_merged(weights: MergedWeights, *, dtype: torch.dtype, device: str) -> Any:
    """Return merged weights as a model, without a file between."""
    config = config_of(weights.base.path)
    for part in (config, config.get_text_config()):
        part.tie_word_embeddings = weights.is_tied
    if weights.vocabulary is not None:
        config.get_text_config().vocab_size = weights.vocabulary
    model: Any = auto_class(config).from_config(config, dtype=dtype, trust_remote_code=False)
    places = model.state_dict()
    stored = stored_names(config, weights.tensors).stored
    with torch.no_grad():
        for name, place in places.items():
            if (source := stored.get(name, name)) in weights.tensors:
                place.copy_(weights.tensor(source))
    return model.to(device).eval()
