"""How llama.cpp splits text before byte-level BPE, by the names it knows, and as the tokenizers library writes it.

A wrong name gives other tokens for some texts and a model that is a little worse without a word: what is not recognized
is refused.
"""

import json
from typing import Any

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_CASES = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
    r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = _CASES % ("", "", "")
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = _CASES % (_CONTRACTIONS, _CONTRACTIONS, "{1,3}")


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }


_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTE_LEVEL,
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    },
    "llama-bpe": _split(_LLAMA3),
    "qwen2": _split(_QWEN2),
    "tekken": _split(_TEKKEN),
    "gpt-4o": _split(_GPT4O),
}


def pre_tokenizer_name(tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name for the splitting in a `tokenizer.json`, or None where it is not known.

    `llama-bpe` also takes a word that is a token as it is; a vocabulary that merges first goes by another name.
    """
    wanted = _essence(tokenizer.get("pre_tokenizer"))
    if tokenizer.get("normalizer") not in (None, {"type": "NFC"}):
        return None
    name = next((name for name, known in PRE_TOKENIZERS.items() if _essence(known) == wanted), None)
    if name == "llama-bpe" and not tokenizer["model"].get("ignore_merges"):
        return "dbrx"
    return name


def as_library(name: str) -> str | None:
    """Return the JSON of the tokenizers library for one of llama.cpp's names, or None where it is not known."""
    known = PRE_TOKENIZERS.get("llama-bpe" if name == "dbrx" else name)
    return json.dumps(known) if known else None


def _essence(value: Any) -> Any:
    """What matters of a pre-tokenizer: not how offsets are trimmed, not how a list of one is written."""
    if not isinstance(value, dict):
        return value
    steps = value.get("pretokenizers", [value])
    return [
        (
            step.get("type"),
            json.dumps(step.get("pattern"), sort_keys=True),
            step.get("behavior"),
            bool(step.get("invert")),
            step.get("individual_digits"),
            bool(step.get("add_prefix_space")),
            step.get("use_regex", True) if step.get("type") == "ByteLevel" else None,
        )
        for step in steps
    ]
