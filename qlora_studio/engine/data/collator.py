"""Rows of token ids and labels as a padded batch: the same for preview and training."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import pad


@dataclass
class RowCollator(DataCollatorForLanguageModeling):
    """trl's collator, which also carries the row numbers along, so that a broken batch can be named.

    Packs are padded to the longest pack and not laid end to end, as trl would: SDPA takes packs with a mask of every
    token against every token of its sequence, and the work of one long sequence grows with the square of the batch.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `labels`, `attention_mask`, each int64 of shape (rows, longest), and `rows`, a list.

        Packs have `position_ids` in place of `attention_mask`: they begin at 0 with each row, and from them the model
        makes the mask that keeps the rows of a pack apart. `rows` are then those of all packs together. What no model
        knows is no tensor: it would travel to the card, and reading it back would wait for the batch before.
        """
        batch = super().torch_call(examples)
        batch["tokens"] = sum(len(example["input_ids"]) for example in examples)
        if "seq_lengths" in examples[0]:
            del batch["attention_mask"]  # with a mask of its own a model does not look at the positions
            positions = self.get_position_ids_from_packed_seq_lengths([example["seq_lengths"] for example in examples])
            batch["position_ids"] = pad(positions, padding_value=0)
            batch["rows"] = [number for example in examples for number in example["row"]]
        elif "row" in examples[0]:
            batch["rows"] = [example["row"] for example in examples]
        return batch


def collator(tokenizer: PreTrainedTokenizerBase) -> RowCollator:
    """Return the collator of a run."""
    return RowCollator(pad_token_id=int(tokenizer.pad_token_id))


def take_facts(batch: dict[str, Any]) -> tuple[list[int], int]:
    """Take what no model knows out of a batch; return its row numbers, and its tokens without padding."""
    rows, tokens = batch.pop("rows", []), batch.pop("tokens", None)
    return rows, batch["input_ids"].numel() if tokens is None else tokens
