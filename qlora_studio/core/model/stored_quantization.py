"""How a model's weights are stored where that is in fewer than 16 bits, as its `config.json` says. Pure.

A run quantizes the base by itself while it loads, and a merge needs the weights that they were made from; so every base
that is stored quantized is refused by name, and the original proposed where it is known.
"""

import re
from collections.abc import Mapping
from typing import Any

_TITLES = {
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
    text = config.get("text_config")
    parts = [config, text] if isinstance(text, Mapping) else [config]
    for part in parts:
        for key in ("quantization_config", "compression_config"):
            if isinstance(found := part.get(key), Mapping) and found:
                return _words(found)
    return ""


def is_hub_id(name: object) -> bool:
    """Whether a text has the form of a repository's name on the hub."""
    return isinstance(name, str) and _HUB_ID.fullmatch(name) is not None


def without_quantization(name: str) -> str:
    """Return a repository's own name without what says that it is quantized: `X` for `somebody/X-bnb-4bit`."""
    return _SUFFIX.sub("", name.rsplit("/", 1)[-1])


def _words(found: Mapping[str, Any]) -> str:
    method = str(found.get("quant_method") or "").lower()
    if not method and (found.get("load_in_4bit") or found.get("load_in_8bit")):
        method = "bitsandbytes"
    bits = found.get("bits") or found.get("w_bit")
    if method == "bitsandbytes":
        bits = 8 if found.get("load_in_8bit") else 4
    title = _TITLES.get(method, method or "an unknown method")
    return f"{title} in {bits} bits" if isinstance(bits, int) else title
