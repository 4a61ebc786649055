"""Rendered rows as token ids with the tokens that are trained."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.example import Example
from qlora_studio.engine.rendering import RenderedRow, RowRenderer

IGNORED = -100  # the label of a token that no loss is taken on
BATCH_ROWS = 512

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """A row before it is cut: `ids` and `labels` of equal length, `offsets` each token's characters in the text.

    `runs` are the trained tokens, from and up to. The first token of a row is never trained: nothing predicts it.
    """

    rendered: RenderedRow
    ids: list[int]
    labels: list[int]
    offsets: list[tuple[int, int]]
    runs: list[tuple[int, int]]

    def trained(self, length: int | None = None) -> int:
        """Return how many tokens are trained, or how many of the first `length`."""
        limit = len(self.ids) if length is None else length
        return sum(max(0, min(last, limit) - first) for first, last in self.runs)


def tokenize(rows: Sequence[RenderedRow], tokenizer: PreTrainedTokenizerBase) -> list[TokenizedRow]:
    """Return each rendered row with its tokens; a row that could not be rendered has none.

    The text has every special token in it already, written by the template, so none is added.
    """
    good = [row for row in rows if row.text]
    encoded = iter(_encode([row.text for row in good], tokenizer))
    return [_tokenized(row, *next(encoded)) if row.text else TokenizedRow(row, [], [], [], []) for row in rows]


def tokenize_stream(
    batches: Iterable[tuple[T, Sequence[Example]]], renderer: RowRenderer, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[T, list[TokenizedRow]]]:
    """Yield each batch tokenized; the next one is rendered in the child meanwhile."""
    waiting: tuple[T, list[RenderedRow]] | None = None
    for what, examples in batches:
        renderer.submit(examples)
        if waiting is not None:
            yield waiting[0], tokenize(waiting[1], tokenizer)
        waiting = what, renderer.collect()
    if waiting is not None:
        yield waiting[0], tokenize(waiting[1], tokenizer)


def problem_of(row: TokenizedRow, max_length: int) -> str:
    """Return why a row that was read well cannot be trained, or ""."""
    if row.rendered.error or not row.ids:
        return row.rendered.error or "its text is empty"
    if row.trained(max_length):
        return ""
    return "its answer begins beyond the max length" if row.trained() else "no token of it would be trained"


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[tuple[int, int]]]]:
    if not texts:
        return []
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def _tokenized(row: RenderedRow, ids: list[int], offsets: list[tuple[int, int]]) -> TokenizedRow:
    """Label every token that has a character in a trained span."""
    labels = [IGNORED] * len(ids)
    starts = [start for start, _ in offsets]
    runs: list[tuple[int, int]] = []
    done = 1
    for span_start, span_end in row.spans:
        first = bisect_left(starts, span_start)
        while first and offsets[first - 1][1] > span_start:
            first -= 1
        first, last = max(first, done), bisect_left(starts, span_end)
        if first < last:
            labels[first:last] = ids[first:last]
            runs.append((first, last))
            done = last
    return TokenizedRow(row, ids, labels, offsets, runs)
