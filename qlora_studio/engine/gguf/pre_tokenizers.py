"""How llama.cpp splits text before byte-level BPE, by the names it knows, and as the tokenizers library writes it.

A wrong name gives other tokens for some texts and a model that is a little worse without a word: what is not recognized
is refused. Of several names for one way of splitting the first of llama.cpp's is taken.
"""

import json
import re
from typing import Any

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_QWEN35 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SEED = _QWEN2.replace(r"\p{N}|", r"\p{N}{1}|").replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+")
_CASES = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
    r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = _CASES % ("", "", "")
_GPT4O = _CASES % (f"{_CONTRACTIONS}?", f"{_CONTRACTIONS}?", "{1,3}")
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHINESE, _KANA = "[一-龥ࠀ-一가-퟿]+", "[一-龥぀-ゟ゠-ヿ]+"
_IGNORE_MERGES = {"llama-bpe", "tekken"}  # take a word that is a token as it is

_WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES = {**_WORDS, "use_regex": False}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _digits(*, individual: bool) -> dict[str, Any]:
    return {"type": "Digits", "individual_digits": individual}


_STEPS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_WORDS],
    "smollm": [_digits(individual=True), _WORDS],
    "falcon": [
        {"type": "Punctuation", "behavior": "Contiguous"},
        _WORDS,
        _digits(individual=False),
        _split("[0-9][0-9][0-9]"),
    ],
    "bloom": [_split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), _BYTES],
    "llama-bpe": [_split(_LLAMA3), _BYTES],
    "dbrx": [_split(_LLAMA3), _BYTES],
    "qwen2": [_split(_QWEN2), _BYTES],
    "qwen35": [_split(_QWEN35), _BYTES],
    "seed-coder": [_split(_SEED), _BYTES],
    "tekken": [_split(_TEKKEN), _BYTES],
    "gpt-4o": [_split(_GPT4O), _BYTES],
    "deepseek-coder": [
        _split("[\r\n]"),
        _split(r"\s?\p{L}+"),
        _split(r"\s?\p{P}+"),
        _split(_CHINESE),
        _digits(individual=True),
        _BYTES,
    ],
    "deepseek-v3": [_split(r"\p{N}{1,3}"), _split(_KANA), _split(_DEEPSEEK3), _BYTES],
}
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    name: {"type": "Sequence", "pretokenizers": steps} for name, steps in _STEPS.items()
}


def pre_tokenizer_name(tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name for the splitting in a `tokenizer.json`, or None where it is not known."""
    if tokenizer.get("normalizer") not in (None, {"type": "NFC"}):
        return None
    wanted = _essence(tokenizer.get("pre_tokenizer"))
    ignores = bool(tokenizer["model"].get("ignore_merges"))
    names = [name for name, known in PRE_TOKENIZERS.items() if _essence(known) == wanted]
    return next((name for name in names if (name in _IGNORE_MERGES) == ignores), None)


def _essence(value: Any) -> Any:
    """What matters of a pre-tokenizer: not how offsets are trimmed, not how a list of one is written."""
    if not isinstance(value, dict):
        return value
    return [
        (
            step.get("type"),
            _pattern(step.get("pattern")),
            _behavior(step),
            step.get("individual_digits"),
            bool(step.get("add_prefix_space")),
            step.get("use_regex", True) if step.get("type") == "ByteLevel" else None,
        )
        for step in value.get("pretokenizers", [value])
    ]


def _behavior(step: dict[str, Any]) -> Any:
    """Keeping what matches and dropping the rest is splitting, where a pattern leaves nothing out."""
    keeps_matches = step.get("behavior") == "Removed" and step.get("invert")
    return ("Isolated", False) if keeps_matches else (step.get("behavior"), bool(step.get("invert")))


def _pattern(pattern: Any) -> str:
    """A pattern without what changes nothing in it: what never gives back, and another order of contractions."""
    text = json.dumps(pattern, sort_keys=True, ensure_ascii=False)
    text = text.replace("'(?i:[sdmt]|ll|ve|re)", _CONTRACTIONS).replace("\\\\s*[\\\\r\\\\n]|", "\\\\s*[\\\\r\\\\n]+|")
    return re.sub(r"([?+*])\+", r"\1", text)
