"""A tokenizer as GGUF metadata: its vocabulary, how it splits and merges, its special tokens and chat template."""

import json
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.gguf.pre_tokenizers import pre_tokenizer_name
from qlora_studio.engine.gguf.sentencepiece_scores import piece_scores
from qlora_studio.engine.model.base import plain_tokenizer
from qlora_studio.storage.models.folder import generation_config, read_config

_WORD_START = "\u2581"  # a space, in sentencepiece; llama.cpp looks for added tokens in text that has spaces still
_ADDED, _PADDING = -1000.0, -10000.0  # scores of what is never put together of pieces
_UNRANKED = -1000.0  # what llama.cpp's converter writes where scores rank nothing
_SEEN = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>')
_CONTROLS = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")


class TokenType(IntEnum):
    """Kinds of tokens, by GGUF's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass
class GgufTokenizer:
    """What a GGUF file says of its tokenizer.

    `model` is gpt2 (byte-level BPE), llama (sentencepiece by its scores), or a family's own (sentencepiece by merges).
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    special: dict[str, int] = field(default_factory=dict)
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    chat_template: str | None = None

    def add_to(self, writer: Any) -> None:
        """Add everything to a gguf.GGUFWriter."""
        writer.add_tokenizer_model(self.model)
        if self.pre:
            writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        for name, token in self.special.items():
            getattr(writer, f"add_{name}_token_id")(token)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        if self.model != "gpt2":
            writer.add_add_space_prefix(self.add_space_prefix)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def gguf_tokenizer(folder: Path, rows: int, by_merges: str = "") -> GgufTokenizer:
    """Return the tokenizer of a folder for an embedding of `rows` rows. Raises StudioError where there is none.

    `by_merges` is llama.cpp's name for the family's own kind of sentencepiece, which goes by its merges.
    """
    tokenizer: Any = plain_tokenizer(folder)
    if not getattr(tokenizer, "is_fast", False):
        raise _refused(say("It has no tokenizer.json."))
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if content["model"].get("type") != "BPE":
        raise _refused(
            say("It is of the kind {model}; byte-pair encoding can be written.", model=content["model"].get("type"))
        )
    is_sentencepiece = bool(content["model"].get("byte_fallback"))
    found = _sentencepiece(folder, content, rows) if is_sentencepiece else _byte_level(content, rows)
    if is_sentencepiece and by_merges:
        found = _by_merges(found, content, by_merges)
    found.special = _special_tokens(tokenizer, folder)
    bare, wrapped = tokenizer("a", add_special_tokens=False).input_ids, tokenizer("a").input_ids
    found.add_bos = len(wrapped) > len(bare) and wrapped[0] == tokenizer.bos_token_id
    found.add_eos = len(wrapped) > len(bare) and wrapped[-1] == tokenizer.eos_token_id
    found.chat_template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
    return found


def _byte_level(content: dict[str, Any], rows: int) -> GgufTokenizer:
    pre = pre_tokenizer_name(content)
    if pre is None:
        raise _refused(say("The way it splits text is none of those that llama.cpp is known to have."))
    tokens, types = _vocabulary(content, rows)
    return GgufTokenizer("gpt2", pre, tokens, types, merges=_merges(content))


def _sentencepiece(folder: Path, content: dict[str, Any], rows: int) -> GgufTokenizer:
    tokens, types = _vocabulary(content, rows)
    unknown = content["model"].get("unk_token")
    for token, number in content["model"]["vocab"].items():
        if token == unknown and types[number] == TokenType.NORMAL:
            types[number] = TokenType.UNKNOWN
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[number] = TokenType.BYTE
    steps = json.dumps([content.get("normalizer"), content.get("pre_tokenizer")])
    has_prefix = '"Prepend"' in steps or ('"Metaspace"' in steps and '"prepend_scheme": "never"' not in steps)
    scores = piece_scores(folder, tokens, content["model"])
    for number in (token["id"] for token in content.get("added_tokens", [])):
        scores[number] = _ADDED
    scores = [_PADDING if kind == TokenType.UNUSED else score for kind, score in zip(types, scores, strict=True)]
    return GgufTokenizer("llama", "default", tokens, types, scores=scores, add_space_prefix=has_prefix)


def _by_merges(found: GgufTokenizer, content: dict[str, Any], kind: str) -> GgufTokenizer:
    """The same pieces, joined by the listed merges; what frames reasoning and calls is text that is seen.

    Here llama.cpp has no spaces any more where it looks for added tokens: those of spaces are pieces like others.
    """
    tokens, types = [*found.tokens], [*found.types]
    for text, number in content["model"]["vocab"].items():
        if _WORD_START in text:
            tokens[number], types[number] = text, TokenType.NORMAL
        elif text in _SEEN:
            types[number] = TokenType.USER_DEFINED
    merges, scores = _merges(content), [_UNRANKED] * len(tokens)
    return replace(
        found,
        model=kind,
        pre="",
        tokens=tokens,
        types=types,
        scores=scores,
        merges=merges,
        add_space_prefix=False,
    )


def _vocabulary(content: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Return token texts and types for each row; rows beyond the vocabulary are padding that is never produced."""
    vocabulary: dict[str, int] = content["model"]["vocab"]
    added = content.get("added_tokens", [])
    largest = max([*vocabulary.values(), *(token["id"] for token in added)], default=-1)
    if largest >= rows:
        raise _refused(
            say("It has the token {largest}, and the model knows {rows:,} tokens.", largest=largest, rows=rows)
        )
    tokens = [f"[PAD{number}]" for number in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    for text, number in vocabulary.items():
        tokens[number], types[number] = text, TokenType.NORMAL
    for token in added:
        is_control = token.get("special") or _looks_special(token["content"])
        text = token["content"] if is_control else token["content"].replace(_WORD_START, " ")
        tokens[token["id"]] = text
        types[token["id"]] = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
    return tokens, types


def _looks_special(text: str) -> bool:
    """Whether llama.cpp's converter takes an added token for a control token, whatever the tokenizer says of it."""
    ends = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return text in _CONTROLS or any(text.startswith(start) and text.endswith(end) for start, end in ends)


def _merges(content: dict[str, Any]) -> list[str]:
    """The merges as text, two tokens with a space between; a space within one as byte-level BPE writes it."""
    pairs = (merge if isinstance(merge, list) else merge.split(" ") for merge in content["model"]["merges"])
    return [" ".join(part.replace(" ", "\u0120") for part in pair) for pair in pairs]


def _special_tokens(tokenizer: Any, folder: Path) -> dict[str, int]:
    """Special tokens by GGUF's names. A second token that ends answers becomes the end of turn."""
    names = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unk_token_id", "pad": "pad_token_id"}
    found = {name: getattr(tokenizer, key) for name, key in names.items()}
    config = read_config(folder) if (folder / "config.json").is_file() else {}
    found = {name: config.get(names[name]) if token is None else token for name, token in found.items()}
    special = {name: token for name, token in found.items() if isinstance(token, int)}
    ends = generation_config(folder).get("eos_token_id")
    others = [token for token in (ends if isinstance(ends, list) else []) if token != special.get("eos")]
    return special | ({"eot": int(others[0])} if others else {})


def _refused(why: str) -> StudioError:
    return StudioError(
        say("This model's tokenizer cannot be written into a GGUF. {why}", why=why),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Export as safetensors, and convert with llama.cpp's own script."),
    )
