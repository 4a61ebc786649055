"""Examples as the tokens that are trained: rendered and masked, then tokenized. Preview and training both enter here.

The mask comes as spans of characters and becomes runs of tokens. The tokens of a byte-level tokenizer, which drops and
changes no byte, are the text when they are laid end to end: the sum of the lengths before a token says where it begins.
That saves the tokenizer a fifth of its work, which it spends on offsets. Wherever the sum is not the length of the
text, or a token at a border is not what stands there, the offsets are asked for instead.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

import numpy
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.example import Example
from qlora_studio.engine.templates.loss_mask import Learned
from qlora_studio.engine.templates.rendering import RenderedRow, RowRenderer

IGNORED = -100  # the label of a token that no loss is taken on

T = TypeVar("T")
Runs = list[tuple[int, int]]


class Encoding(Protocol):
    """A text as tokens, as the `tokenizers` library tells it: nothing is copied to Python that is not asked for."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    def char_to_token(self, char_pos: int) -> int | None: ...
    def token_to_chars(self, token_index: int) -> tuple[int, int] | None: ...


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """A row before it is cut. `runs` are the trained tokens, from and up to; `dropped` counts the tokens of reasoning
    that the template leaves out.

    The first token of a row is never trained: nothing predicts it.
    """

    rendered: RenderedRow
    ids: list[int]
    runs: Runs
    dropped: int = 0

    @property
    def labels(self) -> list[int]:
        """Each token's id, or IGNORED where it is not trained."""
        labels = [IGNORED] * len(self.ids)
        for first, last in self.runs:
            labels[first:last] = self.ids[first:last]
        return labels

    def trained(self, length: int | None = None) -> int:
        """Return how many tokens are trained, or how many of the first `length`."""
        limit = len(self.ids) if length is None else length
        return sum([min(last, limit) - first for first, last in self.runs if first < limit])

    def refusal(self, kept: int) -> str:
        """Return why a row that was read well cannot be trained, or ""; `kept` are its trained tokens after the cut."""
        if kept:
            return ""
        cut = "its answer begins beyond the max length" if self.runs else "no token of it would be trained"
        return self.rendered.error or (cut if self.ids else "its text is empty")


class RowPipeline:
    """The one way from an example to its trained tokens: render, mask, tokenize.

    The renderer's child does the first two, the row tokenizer the third. A context manager: it holds that child.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        loss_on: Learned,
        now: datetime,
        joins: bool = False,
        keeps: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.loss_on = loss_on
        self._renderer = RowRenderer(tokenizer, loss_on=loss_on, now=now, joins=joins, keeps=keeps, variables=variables)
        self._row_tokenizer = RowTokenizer(tokenizer)

    def __enter__(self) -> "RowPipeline":
        return self

    def __exit__(self, *exception: object) -> None:
        self._renderer.__exit__(*exception)

    def reads(self) -> set[str]:
        """Return the variables that the templates read."""
        return self._renderer.reads()

    def rows(self, examples: Sequence[Example]) -> list[TokenizedRow]:
        """Return a row for each example, in order."""
        return self._row_tokenizer.tokenize(self._renderer.render(examples))

    def stream(self, batches: Iterable[tuple[T, Sequence[Example]]]) -> Iterator[tuple[T, list[TokenizedRow]]]:
        """Yield each batch as `rows` returns it. The next is meanwhile tokenized in a thread, and one more rendered."""
        with ThreadPoolExecutor(1) as thread:
            at_work: tuple[T, Future[list[TokenizedRow]]] | None = None
            for what, rendered in self._rendered(batches):
                following = what, thread.submit(self._row_tokenizer.tokenize, rendered)
                if at_work is not None:
                    yield at_work[0], at_work[1].result()
                at_work = following
            if at_work is not None:
                yield at_work[0], at_work[1].result()

    def _rendered(self, batches: Iterable[tuple[T, Sequence[Example]]]) -> Iterator[tuple[T, list[RenderedRow]]]:
        """Yield each batch rendered; the next one is at work in the child before that."""
        waiting: T | None = None
        for what, examples in batches:
            done = self._renderer.collect() if waiting is not None else []
            self._renderer.submit(examples)
            if waiting is not None:
                yield waiting, done
            waiting = what
        if waiting is not None:
            yield waiting, self._renderer.collect()


class RowTokenizer:
    """Makes tokens of rendered rows, and of their spans the runs of tokens that are trained.

    The texts have every special token in them already, written by the template, so none is added.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._lengths = ByteLengths.of(backend) if backend is not None else None

    def tokenize(self, rows: Sequence[RenderedRow]) -> list[TokenizedRow]:
        """Return each rendered row with its tokens; a row that could not be rendered has none."""
        good = [row for row in rows if row.text]
        found = iter(self._by_offsets(good) if self._lengths is None else self._by_lengths(good, self._lengths))
        tokenized = [next(found) if row.text else TokenizedRow(row, [], []) for row in rows]
        return [
            replace(row, dropped=self._count(row.rendered.dropped)) if row.rendered.dropped else row
            for row in tokenized
        ]

    def _count(self, texts: Sequence[str]) -> int:
        return sum([len(encoding.ids) for encoding in encode(list(texts), self._tokenizer, with_offsets=False)])

    def _by_lengths(self, rows: Sequence[RenderedRow], lengths: "ByteLengths") -> list[TokenizedRow]:
        encodings = encode([row.text for row in rows], self._tokenizer, with_offsets=False)
        ids = [encoding.ids for encoding in encodings]
        runs = [lengths.runs(own, row.spans, row.text) for row, own in zip(rows, ids, strict=True)]
        others = iter(self._by_offsets([row for row, found in zip(rows, runs, strict=True) if found is None]))
        return [
            next(others) if found is None else TokenizedRow(row, own, found)
            for row, own, found in zip(rows, ids, runs, strict=True)
        ]

    def _by_offsets(self, rows: Sequence[RenderedRow]) -> list[TokenizedRow]:
        encodings = encode([row.text for row in rows], self._tokenizer)
        return [
            TokenizedRow(row, ids := encoding.ids, runs_of(encoding, len(ids), row.spans, len(row.text)))
            for row, encoding in zip(rows, encodings, strict=True)
        ]


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


def encode(texts: list[str], tokenizer: Any, *, with_offsets: bool = True) -> Sequence[Encoding]:
    """Return texts as tokens, with no special token added, by the tokenizer's backend where it has one."""
    if not texts:
        return []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        told = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [_Offsets(*pair) for pair in zip(told["input_ids"], told["offset_mapping"], strict=True)]
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    encode_batch = backend.encode_batch if with_offsets else backend.encode_batch_fast
    encodings: Sequence[Encoding] = encode_batch(texts, add_special_tokens=False)
    return encodings


def runs_of(encoding: Encoding, count: int, spans: Sequence[tuple[int, int]], length: int) -> Runs:
    """Return the tokens, of `count`, that have a character in one of the spans of a text of `length` characters."""
    runs: Runs = []
    done = 1
    for start, end in spans:
        first, last = _first(encoding, start), _last(encoding, end, count, length)
        if first is None or last is None:
            return runs_by_offsets(encoding.offsets, spans)
        first = max(first, done)
        if first < last:
            runs.append((first, last))
            done = last
    return runs


def runs_by_offsets(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> Runs:
    """Return the same by looking at every token: where a character has no token, or shares one with the next span."""
    starts = [start for start, _ in offsets]
    runs: Runs = []
    done = 1
    for span_start, span_end in spans:
        first = bisect_left(starts, span_start)
        while first and offsets[first - 1][1] > span_start:
            first -= 1
        first, last = max(first, done), bisect_left(starts, span_end)
        if first < last:
            runs.append((first, last))
            done = last
    return runs


def _first(encoding: Encoding, start: int) -> int | None:
    token = encoding.char_to_token(start)
    if token and _place(encoding, token - 1)[1] > start:
        return None
    return token


def _last(encoding: Encoding, end: int, count: int, length: int) -> int | None:
    """Return the first token that begins at or after `end`, or None where it is not certain at a glance."""
    token = count if end >= length else encoding.char_to_token(end)
    if not token or (token < count and _place(encoding, token)[0] < end):
        return None
    return token if _place(encoding, token - 1)[0] < end else None


def _place(encoding: Encoding, token: int) -> tuple[int, int]:
    return encoding.token_to_chars(token) or (0, 0)


def _alphabet() -> dict[int, str]:
    """Return the character that stands for each byte in the vocabulary of a byte-level tokenizer (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in printable]
    return {value: chr(value) for value in printable} | {value: chr(256 + n) for n, value in enumerate(others)}


@dataclass(frozen=True, slots=True)
class _Offsets:
    """What a tokenizer that has no backend tells. Its tokens are always found by their offsets."""

    ids: list[int]
    offsets: list[tuple[int, int]]

    def char_to_token(self, char_pos: int) -> None:
        return None

    def token_to_chars(self, token_index: int) -> tuple[int, int]:
        return self.offsets[token_index]
