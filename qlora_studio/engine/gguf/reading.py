"""GGUF files read back: a second opinion on every one that is written here, by transformers for what it reads."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.model.gguf_family import family_of_gguf, gguf_traits
from qlora_studio.engine.gguf.text_part import settings_of
from qlora_studio.engine.gguf.unpacking import unpacked
from qlora_studio.engine.memory.architecture import config_of
from qlora_studio.engine.memory.load_failure import gguf_failure, told
from qlora_studio.engine.model.loading import cause_told
from qlora_studio.storage.models.gguf_header import GgufHeader, gguf_config
from qlora_studio.storage.models.location import sound_gguf
from qlora_studio.storage.models.lone_file import lone_file


def load_gguf(path: Path, base: Path, *, dtype: torch.dtype, device: str = "cpu") -> Any:
    """Return the model in a GGUF file, its weights unpacked into `dtype`.

    Its settings come from the base's config: transformers reads only some of them from a GGUF.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    config: Any = config_of(base)
    header = sound_gguf(path)
    said = settings_of(config)
    model: Any
    if "wrapper" in said or not gguf_traits(said).transformers_reads:
        with told(partial(gguf_failure, path)):
            model = unpacked(path, base, _as_written(config, header), dtype)
        return model.to(device).eval()
    with warnings.catch_warnings(), told(partial(gguf_failure, path)), cause_told(), lone_file(path) as alone:
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(
            alone.parent,
            gguf_file=alone.name,
            config=_as_written(_as_read(config, header), header),
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
        )
    return model.to(device).eval()


def _as_read(config: Any, header: GgufHeader) -> Any:
    """The config as transformers reads such a file: Mistral is a Llama there."""
    from transformers import AutoConfig

    family = family_of_gguf(str(header.value("general.architecture")))
    if config.model_type == family:
        return config
    values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    return AutoConfig.for_model(family, **values)


def _as_written(config: Any, header: GgufHeader) -> Any:
    """The config with what a merge may have changed."""
    config.tie_word_embeddings = "output.weight" not in header.tensors
    text = config.get_text_config()
    text.vocab_size = int(gguf_config(header).get("vocab_size", text.vocab_size))
    return config
