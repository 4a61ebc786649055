"""Single rows as they are trained, token by token: through the functions that the training goes through."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.report import Neighbour, Part, RowPack, RowPreview, TokenPiece
from qlora_studio.engine.data.packed_rows import PackedRow, PackIndex
from qlora_studio.engine.data.tokenized_rows import IGNORED, TokenizedRow, problem_of, tokenize
from qlora_studio.engine.templates.rendering import RowRenderer, control_tokens
from qlora_studio.storage.datasets.reader import ReadRow


class RowPreviewer:
    """Shows rows as a renderer, a tokenizer and a max length make them."""

    def __init__(
        self,
        renderer: RowRenderer,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        names: Sequence[str] = ("",),
        packs: PackIndex | None = None,
    ) -> None:
        self._names, self._packs = names, packs
        self._renderer, self._tokenizer, self._max_length = renderer, tokenizer, max_length
        special = tokenizer.convert_tokens_to_ids(control_tokens(tokenizer))
        self._special = {*tokenizer.all_special_ids, *special}

    def previews(self, rows: Sequence[ReadRow], parts: Sequence[Part]) -> list[RowPreview]:
        """Return the rows token by token."""
        examples = [row.example for row in rows if row.example is not None]
        tokenized = iter(tokenize(self._renderer.render(examples), self._tokenizer))
        return [
            self._preview(row, part, next(tokenized) if row.example is not None else None)
            for row, part in zip(rows, parts, strict=True)
        ]

    def _preview(self, row: ReadRow, part: Part, tokens: TokenizedRow | None) -> RowPreview:
        return RowPreview(
            number=row.number,
            line=row.line,
            verdict=row.verdict.value,
            reason=row.reason,
            raw=row.raw,
            text=tokens.rendered.text if tokens else "",
            tokens=self._pieces(tokens) if tokens else (),
            part=part,
            problem=problem_of(tokens, tokens.trained(self._max_length)) if tokens else "",
            dataset=self._names[row.source],
            file=row.file,
            pack=self._pack(row.number),
        )

    def _pack(self, number: int) -> RowPack | None:
        """Return the pack of a row, as it stands in the file that is trained from."""
        index = self._packs.pack_of(number) if self._packs else None
        if self._packs is None or index is None:
            return None
        rows = self._packs.rows(index)
        at = next(place for place, row in enumerate(rows) if row.number == number)
        before, after = ([self._neighbour(row) for row in part] for part in (rows[:at], rows[at + 1 :]))
        tokens = sum(len(row.ids) for row in rows)
        return RowPack(number=index, packs=len(self._packs), tokens=tokens, before=tuple(before), after=tuple(after))

    def _neighbour(self, row: PackedRow) -> Neighbour:
        ids = row.ids.tolist()
        names = self._tokenizer.convert_ids_to_tokens(ids)
        pieces = [
            TokenPiece(
                id=token,
                string=string,
                token=str(name),
                trained=label != IGNORED,
                special=token in self._special,
                packed=True,
            )
            for token, label, name, string in zip(
                ids, row.labels.tolist(), names, strings_of(ids, self._tokenizer), strict=True
            )
        ]
        return Neighbour(number=row.number, tokens=tuple(pieces))

    def _pieces(self, row: TokenizedRow) -> tuple[TokenPiece, ...]:
        """Return the tokens with their pieces of the text: each character once, at the first token that has it."""
        names = self._tokenizer.convert_ids_to_tokens(row.ids)
        pieces = []
        done = 0
        for index, (token, label, (_, end), name) in enumerate(
            zip(row.ids, row.labels, row.offsets, names, strict=True)
        ):
            end = len(row.rendered.text) if index == len(row.ids) - 1 else max(done, end)
            pieces.append(
                TokenPiece(
                    id=token,
                    string=row.rendered.text[done:end],
                    token=str(name),
                    trained=label != IGNORED and index < self._max_length,
                    special=token in self._special,
                    cut=index >= self._max_length,
                )
            )
            done = end
        return tuple(pieces)


def strings_of(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """Return the text that each token adds. Where one character takes several tokens, the first has it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [str(tokenizer.decode([token])) for token in ids]
    stream = DecodeStream(skip_special_tokens=False)
    strings = [""] * len(ids)
    first = 0  # of the tokens that make the next piece
    for index, token in enumerate(ids):
        piece = stream.step(backend, token)
        if piece is not None:
            strings[first], first = piece, index + 1
    return strings
