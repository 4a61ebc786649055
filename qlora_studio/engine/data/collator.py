"""Rows of token ids and labels as a padded batch: the same for preview and training."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import pad


@dataclass
class RowCollator(DataCollatorForLanguageModeling):
    """trl's collator, which also carries the row numbers along, so that a broken batch can be named.

    Where the model attends by rows, all of a batch lie end to end in one sequence without padding. Elsewhere they are
    padded to the longest, packs too: SDPA takes packs with a mask of every token against every token of its sequence,
    and the work of one long sequence grows with the square of the batch.
    """

    end_to_end: bool = False

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `labels`, `attention_mask`, each int64 of shape (rows, longest), and `rows`, a list.

        Packs have `position_ids` in place of `attention_mask`: they begin at 0 with each row, and from them the model
        makes the mask that keeps the rows of a pack apart. `rows` are then those of all packs together. So it is with
        what lies end to end, of shape (1, tokens of all). What no model knows is no tensor: it would travel to the
        card, and reading it back would wait for the batch before.
        """
        batch = self._end_to_end(examples) if self.end_to_end else super().torch_call(examples)
        batch["tokens"] = sum(len(example["input_ids"]) for example in examples)
        if "seq_lengths" in examples[0] and not self.end_to_end:
            del batch["attention_mask"]  # with a mask of its own a model does not look at the positions
            positions = self.get_position_ids_from_packed_seq_lengths([example["seq_lengths"] for example in examples])
            batch["position_ids"] = pad(positions, padding_value=0)
        if "seq_lengths" in examples[0]:
            batch["rows"] = [number for example in examples for number in example["row"]]
        elif "row" in examples[0]:
            batch["rows"] = [example["row"] for example in examples]
        return batch

    def _end_to_end(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        ids, labels = (
            torch.cat([torch.tensor(example[name]) for example in examples])[None] for name in ("input_ids", "labels")
        )
        sizes = [size for example in examples for size in example.get("seq_lengths", [len(example["input_ids"])])]
        positions = torch.cat([torch.arange(size) for size in sizes])[None]
        return {"input_ids": ids, "labels": labels, "position_ids": positions}


def collator(tokenizer: PreTrainedTokenizerBase, *, end_to_end: bool = False) -> RowCollator:
    """Return the collator of a run."""
    return RowCollator(pad_token_id=int(tokenizer.pad_token_id), end_to_end=end_to_end)


def joined(batches: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Return batches that lie end to end as fewer of at most `limit` tokens, or one batch, each; the largest first.

    They are followed by as many empty ones as keep the number: what counts batches goes on counting.
    """
    groups: list[list[dict[str, Any]]] = []
    size = limit + 1
    for batch in batches:
        size += batch["input_ids"].shape[1]
        if size > limit:
            groups.append([])
            size = batch["input_ids"].shape[1]
        groups[-1].append(batch)
    whole = sorted((_end_to_end(group) for group in groups), key=lambda batch: -batch["input_ids"].shape[1])
    return whole + [emptied(batches[0]) for _ in range(len(batches) - len(whole))]


def emptied(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch without rows that stands in the place of one."""
    return {name: value[..., :0] if torch.is_tensor(value) else type(value)() for name, value in batch.items()}


def idle(batch: dict[str, Any]) -> dict[str, Any]:
    """Return two tokens that count for nothing: for a rank that has no rows left, and must go through the model."""
    few = {name: value[:1, :2] if torch.is_tensor(value) else type(value)() for name, value in batch.items()}
    return few | {"labels": few["input_ids"].clone()}


def _end_to_end(batches: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: torch.cat([batch[name] for batch in batches], dim=-1)
        if torch.is_tensor(value)
        else sum((batch[name] for batch in batches), type(value)())
        for name, value in batches[0].items()
    }


def take_facts(batch: dict[str, Any]) -> tuple[list[int], int]:
    """Take what no model knows out of a batch; return its row numbers, and its tokens without padding."""
    rows, tokens = batch.pop("rows", []), batch.pop("tokens", None)
    return rows, batch["input_ids"].numel() if tokens is None else tokens
