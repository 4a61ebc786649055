"""Rows of token ids and labels as a padded batch: the same for preview and training."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling


@dataclass
class RowCollator(DataCollatorForLanguageModeling):
    """trl's collator, which also carries the row numbers along, so that a broken batch can be named."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `labels`, `attention_mask`, each int64 of shape (rows, longest), and `rows` (rows,)."""
        batch = super().torch_call(examples)
        if "row" in examples[0]:
            batch["rows"] = torch.tensor([example["row"] for example in examples])
        return batch


def collator(tokenizer: PreTrainedTokenizerBase) -> RowCollator:
    """Return the collator of a run."""
    return RowCollator(pad_token_id=int(tokenizer.pad_token_id))  # type: ignore[arg-type]
