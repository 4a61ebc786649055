"""What models are compared by: held-out rows, their losses, greedy answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.engine.context import Channel
from qlora_studio.storage.runs.run_folder import RunFolder

RowLoss = tuple[float, int]  # nats, tokens
_POSITIONS = 256  # whose distributions are kept for comparison; a vocabulary of fp32 each


@dataclass(frozen=True)
class Rows:
    """Rows of (input ids, labels); a label of -100 is not counted."""

    rows: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]

    @property
    def tokens(self) -> int:
        """Number of labels that count."""
        return sum(label != -100 for _, labels in self.rows for label in labels[1:])


def held_out_rows(run: RunFolder, config: RunConfig, tokenizer: Any, channel: Channel, *, tokens: int) -> Rows:
    """Return the first held-out rows of a run that have so many tokens together; none where the data is gone."""
    from qlora_studio.engine.data.rows_again import rows_again

    data = rows_again(run, config, tokenizer, channel, "The held-out rows cannot be measured")
    if data is None:
        return Rows(())
    budget = tokens
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for row in data.evaluation or ():
        if budget <= 0:
            break
        found.append((tuple(row["input_ids"]), tuple(row["labels"])))
        budget -= len(row["input_ids"])
    return Rows(tuple(found))


def mean_loss(losses: Sequence[RowLoss]) -> float | None:
    """Return the mean over the tokens of all rows; None where there are none."""
    count = sum(tokens for _, tokens in losses)
    return sum(nats for nats, _ in losses) / count if count else None


def paired_difference(losses: Sequence[RowLoss], others: Sequence[RowLoss]) -> tuple[float, float]:
    """Return by how much the first loss is above the second, in nats a token, and its standard error over the rows.

    Of a ratio of sums over the same rows: the rows' own difficulty cancels. The error is infinite below two rows.
    """
    tokens = sum(count for _, count in losses)
    gaps = [(nats - other, count) for (nats, count), (other, _) in zip(losses, others, strict=True)]
    mean = sum(gap for gap, _ in gaps) / tokens if tokens else 0.0
    if len(gaps) < 2 or not tokens:
        return mean, math.inf
    spread = sum((gap - mean * count) ** 2 for gap, count in gaps)
    return mean, math.sqrt(spread * len(gaps) / (len(gaps) - 1)) / tokens


def distributions(model: Any, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return log-probabilities at the first positions of the sequences: (positions, vocabulary), fp32, on the CPU."""
    found, left = [], _POSITIONS
    with torch.inference_mode():
        for ids in sequences:
            if left <= 0:
                break
            logits = _logits(model, ids[:left])
            found.append(torch.log_softmax(logits, dim=-1).cpu())
            left -= len(logits)
    return torch.cat(found)


def divergence(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Return the mean KL divergence, in nats a token, of (positions, vocabulary) log-probabilities."""
    width = min(reference.shape[1], other.shape[1])  # one of the two may have rows of padding at its end
    reference, other = reference[:, :width], other[:, :width]
    return max(0.0, float((reference.exp() * (reference - other)).sum(dim=1).mean()))


def greedy(model: Any, prompt: Sequence[int], stops: Sequence[int], *, tokens: int) -> list[int]:
    """Return the greedy answer's ids, without the prompt."""
    inputs = torch.tensor([list(prompt)], device=model.device)
    with torch.inference_mode():
        output = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=list(stops) or None,
            pad_token_id=stops[0] if stops else 0,
            use_cache=True,
        )
    return [int(token) for token in output[0, len(prompt) :]]


def lead(model: Any, ids: Sequence[int], token: int) -> float:
    """Return by how much the likeliest next token leads `token`, as a difference of probabilities."""
    with torch.inference_mode():
        likely = torch.softmax(_logits(model, ids)[-1], dim=-1)
    return float(likely.max() - likely[token])


def _logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    inputs = torch.tensor([list(ids)], device=model.device)
    logits: torch.Tensor = model(input_ids=inputs, use_cache=False).logits[0]
    return logits.float()
