"""Rendered rows as token ids with the tokens that are trained."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.example import Example
from qlora_studio.engine.data.byte_lengths import ByteLengths
from qlora_studio.engine.templates.rendering import RenderedRow, RowRenderer

IGNORED = -100  # the label of a token that no loss is taken on
BATCH_ROWS = 512

T = TypeVar("T")


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
    """A row before it is cut. `runs` are the trained tokens, from and up to.

    The first token of a row is never trained: nothing predicts it.
    """

    rendered: RenderedRow
    ids: list[int]
    runs: list[tuple[int, int]]
    encoding: Encoding | None = None

    @property
    def labels(self) -> list[int]:
        """Each token's id, or IGNORED where it is not trained."""
        labels = [IGNORED] * len(self.ids)
        for first, last in self.runs:
            labels[first:last] = self.ids[first:last]
        return labels

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Each token's characters in the text, from and up to."""
        return self.encoding.offsets if self.encoding is not None else []

    def trained(self, length: int | None = None) -> int:
        """Return how many tokens are trained, or how many of the first `length`."""
        limit = len(self.ids) if length is None else length
        return sum([min(last, limit) - first for first, last in self.runs if first < limit])


def tokenize(rows: Sequence[RenderedRow], tokenizer: PreTrainedTokenizerBase) -> list[TokenizedRow]:
    """Return each rendered row with its tokens; a row that could not be rendered has none.

    The text has every special token in it already, written by the template, so none is added.
    """
    good = [row for row in rows if row.text]
    encoded = iter(encode([row.text for row in good], tokenizer))
    return [_tokenized(row, next(encoded)) if row.text else TokenizedRow(row, [], []) for row in rows]


def tokenize_fast(
    rows: Sequence[RenderedRow], tokenizer: PreTrainedTokenizerBase, lengths: ByteLengths | None
) -> list[TokenizedRow]:
    """Return the same as `tokenize`, without offsets where the lengths of the tokens tell as much."""
    if lengths is None:
        return tokenize(rows, tokenizer)
    good = [row for row in rows if row.text]
    encoded = iter(encode([row.text for row in good], tokenizer, with_offsets=False))
    found = [_measured(row, next(encoded).ids, lengths) if row.text else TokenizedRow(row, [], []) for row in rows]
    missing = [index for index, row in enumerate(found) if row is None]
    others = dict(zip(missing, tokenize([rows[index] for index in missing], tokenizer), strict=True))
    return [others[index] if row is None else row for index, row in enumerate(found)]


def tokenize_stream(
    batches: Iterable[tuple[T, Sequence[Example]]], renderer: RowRenderer, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[T, list[TokenizedRow]]]:
    """Yield each batch tokenized. The next is meanwhile encoded in a thread, and the one after it rendered."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    lengths = ByteLengths.of(backend) if backend is not None else None
    with ThreadPoolExecutor(1) as thread:
        encoding: tuple[T, Future[list[TokenizedRow]]] | None = None
        for what, rendered in _rendered(batches, renderer):
            following = what, thread.submit(tokenize_fast, rendered, tokenizer, lengths)
            if encoding is not None:
                yield encoding[0], encoding[1].result()
            encoding = following
        if encoding is not None:
            yield encoding[0], encoding[1].result()


def _rendered(
    batches: Iterable[tuple[T, Sequence[Example]]], renderer: RowRenderer
) -> Iterator[tuple[T, list[RenderedRow]]]:
    """Yield each batch rendered; the next one is at work in the child before that."""
    waiting: T | None = None
    for what, examples in batches:
        done = renderer.collect() if waiting is not None else []
        renderer.submit(examples)
        if waiting is not None:
            yield waiting, done
        waiting = what
    if waiting is not None:
        yield waiting, renderer.collect()


def problem_of(row: TokenizedRow, kept: int) -> str:
    """Return why a row that was read well cannot be trained, or ""; `kept` are its trained tokens after the cut."""
    if row.rendered.error or not row.ids:
        return row.rendered.error or "its text is empty"
    if kept:
        return ""
    return "its answer begins beyond the max length" if row.trained() else "no token of it would be trained"


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


def runs_of(encoding: Encoding, count: int, spans: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Return the tokens, of `count`, that have a character in one of the spans of a text of `length` characters."""
    runs: list[tuple[int, int]] = []
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


def runs_by_offsets(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same by looking at every token: where a character has no token, or shares one with the next span."""
    starts = [start for start, _ in offsets]
    runs: list[tuple[int, int]] = []
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


def _measured(row: RenderedRow, ids: list[int], lengths: ByteLengths) -> TokenizedRow | None:
    runs = lengths.runs(ids, row.spans, row.text)
    return None if runs is None else TokenizedRow(row, ids, runs)


def _tokenized(row: RenderedRow, encoding: Encoding) -> TokenizedRow:
    """Label every token that has a character in a trained span."""
    ids = encoding.ids
    return TokenizedRow(row, ids, runs_of(encoding, len(ids), row.spans, len(row.text)), encoding)


@dataclass(frozen=True, slots=True)
class _Offsets:
    """What a tokenizer that has no backend tells. Its tokens are always found by their offsets."""

    ids: list[int]
    offsets: list[tuple[int, int]]

    def char_to_token(self, char_pos: int) -> None:
        return None

    def token_to_chars(self, token_index: int) -> tuple[int, int]:
        return self.offsets[token_index]
