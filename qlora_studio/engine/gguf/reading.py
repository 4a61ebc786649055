"""GGUF files read back by transformers: a second opinion on every one that is written here."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.model.gguf_family import family_of_gguf
from qlora_studio.engine.gguf.pre_tokenizers import PRE_TOKENIZERS
from qlora_studio.storage.models.gguf_header import gguf_config, read_gguf_header


def load_gguf(path: Path, base: Path, *, dtype: torch.dtype, device: str = "cpu") -> Any:
    """Return the model in a GGUF file, its weights unpacked into `dtype`.

    Its settings come from the base's config: transformers reads only some of them from a GGUF.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            config=_config(path, base),
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
        )
    return model.to(device).eval()


def load_gguf_tokenizer(path: Path) -> Any:
    """Return the tokenizer that a GGUF's metadata describes, splitting text as llama.cpp does."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name, trust_remote_code=False, local_files_only=True
    )
    name = read_gguf_header(path).metadata.get("tokenizer.ggml.pre", "")
    if splitting := PRE_TOKENIZERS.get(str(name)):
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        backend["pre_tokenizer"] = splitting
        tokenizer.backend_tokenizer.pre_tokenizer = Tokenizer.from_str(json.dumps(backend)).pre_tokenizer
    return tokenizer


def _config(path: Path, base: Path) -> Any:
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    header = read_gguf_header(path)
    family = family_of_gguf(str(header.value("general.architecture")))
    if config.model_type != family:  # llama.cpp has no such family: Mistral is a Llama there
        values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
        config = AutoConfig.for_model(family, **values)
    config.tie_word_embeddings = "output.weight" not in header.tensors
    config.vocab_size = int(gguf_config(header).get("vocab_size", config.vocab_size))
    return config
