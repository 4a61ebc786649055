"""How sentencepiece ranks its pieces: from `tokenizer.model` where there is one, else from the merges' order."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import read_bytes

_LARGEST = 64 << 20  # bytes; those of 260,000 words have 5 million
_NOT_A_MERGE = -1e6


def piece_scores(folder: Path, tokens: list[str], model: dict[str, Any]) -> list[float]:
    """Return a score for each token: of two merges the one with the higher score is made first.

    A BPE tokenizer's merges are listed in that very order, so a rank serves where the original file is not there.
    """
    scores = _scores_of_merges(tokens, model)
    original = folder / "tokenizer.model"
    if original.is_file():
        try:
            known = dict(_pieces(read_bytes(original, limit=_LARGEST)))
        except (LookupError, ValueError, struct.error) as error:
            raise StudioError(
                say(
                    "{name} of {folder} is damaged: it is no model of sentencepiece.",
                    name=original.name,
                    folder=folder.name,
                ),
                kind=FailureKind.MODEL_REFUSED,
                advice=say("Take that file from where the model was published."),
                detail=str(error),
            ) from error
        if known and all(token in known for token in model["vocab"]):
            return [known.get(token, score) for token, score in zip(tokens, scores, strict=True)]
    return scores


def _scores_of_merges(tokens: list[str], model: dict[str, Any]) -> list[float]:
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge if isinstance(merge, list) else merge.split(" ")
        ranks.setdefault(left + right, rank)
    return [-float(ranks[token]) if token in ranks else _NOT_A_MERGE for token in tokens]


def _pieces(data: bytes) -> Iterator[tuple[str, float]]:
    """Yield (piece, score) of a sentencepiece model: field 1 of a protobuf, with the text in 1 and the score in 2."""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            entry = dict(_fields(value))
            text, score = entry.get(1, b""), entry.get(2, b"\0\0\0\0")
            if isinstance(text, bytes) and isinstance(score, bytes):
                yield text.decode("utf-8", "replace"), struct.unpack("<f", score)[0]


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(data, position)
        else:
            length = {1: 8, 5: 4}[wire]
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise ValueError("a number without end")
        if not byte & 0x80:
            return value, position
