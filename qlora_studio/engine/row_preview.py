"""Single rows as they are trained, token by token: through the functions that the training goes through."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data_report import Part, RowPreview, TokenPiece
from qlora_studio.engine.rendering import RowRenderer, control_tokens
from qlora_studio.engine.tokenized_rows import IGNORED, TokenizedRow, problem_of, tokenize
from qlora_studio.storage.dataset_reader import ReadRow


class RowPreviewer:
    """Shows rows as a renderer, a tokenizer and a max length make them."""

    def __init__(
        self, renderer: RowRenderer, tokenizer: PreTrainedTokenizerBase, max_length: int, names: Sequence[str] = ("",)
    ) -> None:
        self._names = names
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
            problem=problem_of(tokens, self._max_length) if tokens else "",
            dataset=self._names[row.source],
            file=row.file,
        )

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
