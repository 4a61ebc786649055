"""How a model's weights are stored where that is in fewer than 16 bits, as its `config.json` says. Pure.

A run quantizes the base by itself while it loads, and a merge needs the weights that they were made from. What
bitsandbytes stored in 4 bits is what a run would make of those weights: it is trained as it is, where the original is
known. MXFP4, in which gpt-oss comes, is written out in 16 bits without a loss. Every other way is refused by name, and
the original proposed where it is known.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from qlora_studio.core.model.family import FAMILIES, LLAMA

TITLES = {
    "aqlm": "AQLM",
    "auto-round": "AutoRound",
    "awq": "AWQ",
    "bitnet": "BitNet",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed tensors",
    "eetq": "EETQ",
    "fbgemm_fp8": "FP8",
    "fp8": "FP8",
    "gptq": "GPTQ",
    "higgs": "HIGGS",
    "hqq": "HQQ",
    "modelopt": "ModelOpt",
    "mxfp4": "MXFP4",
    "mxfp8": "MXFP8",
    "nvfp4": "NVFP4",
    "quanto": "Quanto",
    "quark": "Quark",
    "torchao": "torchao",
    "vptq": "VPTQ",
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SUFFIX = re.compile(
    r"[-_.](unsloth-bnb-4bit|(bnb|awq|gptq|hqq|fp8|nvfp4|mxfp4|quark)([-_.]?(4|8)[-_]?bits?)?|(int|w)[48](a(8|16))?"
    r"|gptq-int[48]|fp8-(dynamic|block)|quantized\.w\d+a\d+)$",
    re.IGNORECASE,
)


def stored_quantization(config: Mapping[str, Any]) -> str:
    """Return in which way the weights of a model are quantized, in words; nothing where they are stored whole."""
    found = _settings(config)
    return _words(found) if found else ""


def stored_in_4_bits(config: Mapping[str, Any]) -> tuple[Literal["nf4", "fp4"], bool] | None:
    """Return in which 4 bits bitsandbytes stored a model, and whether doubly; None where it did not."""
    found = _settings(config)
    if not found or found.get("load_in_8bit") or not (found.get("load_in_4bit") or found.get("_load_in_4bit")):
        return None
    return "nf4" if found.get("bnb_4bit_quant_type") == "nf4" else "fp4", bool(found.get("bnb_4bit_use_double_quant"))


def is_hub_id(name: object) -> bool:
    """Whether a text has the form of a repository's name on the hub."""
    return isinstance(name, str) and _HUB_ID.fullmatch(name) is not None


def without_quantization(name: str) -> str:
    """Return a repository's own name without what says that it is quantized: `X` for `somebody/X-bnb-4bit`."""
    return _SUFFIX.sub("", name.rsplit("/", 1)[-1])


def is_unpacked(config: Mapping[str, Any]) -> bool:
    """Whether a model is stored in a way that is written out in 16 bits before it is used: gpt-oss in MXFP4."""
    family = FAMILIES.get(str(config.get("model_type")), LLAMA)
    return family.published_in_mxfp4 and _settings(config).get("quant_method") == "mxfp4"


def _settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    text = config.get("text_config")
    parts = [config, text] if isinstance(text, Mapping) else [config]
    keys = ("quantization_config", "compression_config")
    found = (part[key] for part in parts for key in keys if isinstance(part.get(key), Mapping))
    return next(filter(None, found), {})


def _words(found: Mapping[str, Any]) -> str:
    method = str(found.get("quant_method") or "").lower()
    if not method and (found.get("load_in_4bit") or found.get("load_in_8bit")):
        method = "bitsandbytes"
    bits = found.get("bits") or found.get("w_bit")
    if method == "bitsandbytes":
        bits = 8 if found.get("load_in_8bit") else 4
    title = TITLES.get(method, method or "an unknown method")
    return f"{title} in {bits} bits" if isinstance(bits, int) else title
