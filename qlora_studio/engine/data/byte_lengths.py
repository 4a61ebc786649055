"""Where tokens stand in a text, by their lengths alone: for byte-level tokenizers, which drop and change no byte.

Their tokens laid end to end are the text, so that the sum of the lengths before a token says where it begins. That
saves the tokenizer a fifth of its work, which it spends on offsets. Wherever the sum is not the length of the text, or
a token at a border is not what stands there, the offsets are asked for instead.
"""

from collections.abc import Sequence
from typing import Any

import numpy

Runs = list[tuple[int, int]]


class ByteLengths:
    """The bytes of each token of a byte-level tokenizer. Build it with `of`."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = tokens
        self._lengths = numpy.array([len(token) for token in tokens], dtype=numpy.int64)

    @classmethod
    def of(cls, backend: Any) -> "ByteLengths | None":
        """Return the lengths of a backend's tokens, None where it is not byte-level."""
        if backend.normalizer is not None or "ByteLevel" not in repr(backend.pre_tokenizer):
            return None
        byte_of = {character: value for value, character in _alphabet().items()}
        added = {index: token.content.encode() for index, token in backend.get_added_tokens_decoder().items()}
        names = {index: name for name, index in backend.get_vocab(with_added_tokens=True).items()}
        tokens = [
            added[index] if index in added else bytes(byte_of.get(character, 0) for character in names.get(index, ""))
            for index in range(max(names, default=-1) + 1)
        ]
        return cls(tokens)

    def runs(self, ids: Sequence[int], spans: Sequence[tuple[int, int]], text: str) -> Runs | None:
        """Return the tokens that have a character in one of the spans, None where the lengths do not tell it."""
        ends = self._lengths[ids].cumsum()
        plain = text.isascii()
        whole = b"" if plain else text.encode()
        if not len(ends) or ends[-1] != (len(text) if plain else len(whole)):
            return None
        whole = whole or text.encode()
        runs: Runs = []
        done = 1
        for start, end in spans:
            low, high = (start, end) if plain else (len(text[:start].encode()), len(text[:end].encode()))
            first = int(ends.searchsorted(low, side="right"))
            last = int(ends.searchsorted(high, side="left")) + 1  # the token that ends at or behind the span's end
            if not (self._stands(ids, ends, first, whole) and self._stands(ids, ends, last - 1, whole)):
                return None
            first = max(first, done)
            if first < last:
                runs.append((first, last))
                done = last
        return runs

    def _stands(self, ids: Sequence[int], ends: Any, index: int, whole: bytes) -> bool:
        """Whether a token is what stands in the text at its place."""
        if index >= len(ids):
            return False
        token, end = self._tokens[ids[index]], int(ends[index])
        return whole[end - len(token) : end] == token


def _alphabet() -> dict[int, str]:
    """Return the character that stands for each byte in the vocabulary of a byte-level tokenizer (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in printable]
    return {value: chr(value) for value in printable} | {value: chr(256 + n) for n, value in enumerate(others)}
