"""A base as bitsandbytes stores it in 4 bits."""

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def in_4_bits(original: Path, folder: Path, *, kind: str = "nf4", double: bool = True) -> Path:
    """Store a model as the repositories named bnb-4bit do: by transformers itself, with the tokenizer."""
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.float16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        original, quantization_config=settings, dtype=torch.bfloat16, device_map={"": "cpu"}
    )
    model.save_pretrained(folder)
    for path in (*original.glob("*token*"), *original.glob("*.jinja")):
        shutil.copyfile(path, folder / path.name)
    return folder
