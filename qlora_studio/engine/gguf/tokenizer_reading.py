"""The tokenizer that a GGUF file describes, read by llama.cpp's rules: a second opinion on the one that was written.

Nothing here is shared with what writes: patterns are llama.cpp's own (src/llama-vocab.cpp), merges of sentencepiece are
what its scores amount to.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.memory.load_failure import gguf_failure, told
from qlora_studio.storage.installation import install_command
from qlora_studio.storage.models.gguf_header import read_gguf_header

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_ENDINGS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+%s"
    r"|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*%s"
    rf"|\p{{N}}%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
)


def _modern(letters: str, digits: str, signs: str) -> str:
    return rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?{letters}|{digits}| ?{signs}|{_REST}"


_THREE = _modern(r"\p{L}+", r"\p{N}{1,3}", r"[^\s\p{L}\p{N}]+[\r\n]*")
_PATTERNS: dict[str, tuple[str, ...]] = {
    "gpt-2": (_WORDS,),
    "smollm": (r"\p{N}", _WORDS),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _WORDS, "[0-9][0-9][0-9]"),
    "bloom": (" ?[^(\\s|.,!?…。，、।۔،)]+",),
    "llama-bpe": (_THREE,),
    "dbrx": (_THREE,),
    "qwen2": (_modern(r"\p{L}+", r"\p{N}", r"[^\s\p{L}\p{N}]+[\r\n]*"),),
    "qwen35": (_modern(r"[\p{L}\p{M}]+", r"\p{N}", r"[^\s\p{L}\p{M}\p{N}]+[\r\n]*"),),
    "seed-coder": (_modern(r"\p{L}+", r"\p{N}{1}", r"[^\s\p{L}\p{N}\r\n]+"),),
    "tekken": (_CASED % ("", "", ""),),
    "gpt-4o": (_CASED % (f"{_ENDINGS}?", f"{_ENDINGS}?", "{1,3}"),),
    "deepseek-coder": ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_REST}",
    ),
}
_WHOLE_WORDS = ("llama-bpe", "tekken")  # taken as they are where they are tokens


def load_gguf_tokenizer(path: Path) -> Any:
    """Return the tokenizer that a GGUF's metadata describes.

    Raises StudioError where it splits in an unknown way, or where what the file says makes no tokenizer.
    """
    read_gguf_header(path)
    with told(partial(gguf_failure, path)):
        return _tokenizer(path)


def _tokenizer(path: Path) -> Any:
    import gguf
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    fields = gguf.GGUFReader(path).fields
    said = {name.removeprefix("tokenizer."): field.contents() for name, field in fields.items() if "tokenizer." in name}
    tokens: list[str] = said["ggml.tokens"]
    types: list[int] = said["ggml.token_type"]
    backend = _of_bytes(said, tokens, path) if said["ggml.model"] == "gpt2" else _of_pieces(said, tokens)
    marked = {text: kind for text, kind in zip(tokens, types, strict=True) if kind in (_CONTROL, _USER_DEFINED)}
    added = [AddedToken(text, normalized=False, special=kind == _CONTROL) for text, kind in marked.items()]
    backend.add_tokens([token for token in added if not token.special])
    backend.add_special_tokens([token for token in added if token.special])
    _add_ends(backend, said, tokens)
    named = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
    special = {
        name: tokens[said[f"ggml.{key}_token_id"]] for key, name in named.items() if f"ggml.{key}_token_id" in said
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.chat_template = said.get("chat_template")
    ends = (said.get(f"ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    tokenizer.stop_ids = [int(number) for number in ends if number is not None]
    return tokenizer


def _of_bytes(said: dict[str, Any], tokens: list[str], path: Path) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    name = str(said.get("ggml.pre", ""))
    if name not in _PATTERNS:
        raise StudioError(
            say("{name} splits text in a way that is not known here: {way}.", name=path.name, way=name),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("With llama.cpp that is asked: {command}", command=install_command("xllamacpp")),
        )
    merges = [tuple(merge.split(" ", 1)) for merge in said["ggml.merges"]]
    vocabulary = {text: number for number, text in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=name in _WHOLE_WORDS))
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _PATTERNS[name]]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    return backend


def _of_pieces(said: dict[str, Any], tokens: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    unknown = said.get("ggml.unknown_token_id")
    if "ggml.merges" in said:  # Gemma 4's kind: scores rank nothing there
        merges = [tuple(merge.split(" ", 1)) for merge in said["ggml.merges"]]
    else:
        merges = list(_merges(tokens, said["ggml.scores"], said["ggml.token_type"]))
    backend = Tokenizer(
        models.BPE(
            vocab={text: number for number, text in enumerate(tokens)},
            merges=merges,
            unk_token=None if unknown is None else tokens[unknown],
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    has_prefix = said.get("ggml.add_space_prefix", True)
    before = [normalizers.Prepend("▁")] if has_prefix else []
    backend.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    after = [decoders.Strip(" ", 1, 0)] if has_prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *after])
    return backend


def _merges(tokens: list[str], scores: list[float], types: list[int]) -> Iterator[tuple[str, str]]:
    """Yield each pair of pieces whose joint is a piece, those of higher scores first: what llama.cpp joins first."""
    known = {text for text, kind in zip(tokens, types, strict=True) if kind != _UNUSED}
    ranked = sorted(range(len(tokens)), key=lambda number: -scores[number])
    for text in (tokens[number] for number in ranked if tokens[number] in known):
        for place in range(1, len(text)):
            if text[:place] in known and text[place:] in known:
                yield text[:place], text[place:]


def _add_ends(backend: Any, said: dict[str, Any], tokens: list[str]) -> None:
    """Put the beginning and the end around a text, where the file says so."""
    from tokenizers import processors

    ends = {
        key: (tokens[number], number) if said.get(f"ggml.add_{key}_token") and number is not None else None
        for key in ("bos", "eos")
        for number in [said.get(f"ggml.{key}_token_id")]
    }
    if not any(ends.values()):
        return
    first, last = ([text[0]] if (text := ends[key]) else [] for key in ("bos", "eos"))
    around = processors.TemplateProcessing(
        single=[*first, "$A", *last], special_tokens=[end for end in ends.values() if end]
    )
    backend.__setattr__("post_processor", around)
