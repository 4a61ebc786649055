"""Models beside each other by their last states: losses, divergences and likeliest words, summed tile by tile."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from qlora_studio.engine.verification.head import Head
from qlora_studio.engine.verification.measurement import RowLoss, Rows

_TOKENS = 256  # whose logits stand in memory at a time, for a part of the vocabulary
_BATCH_TOKENS = 1024


@dataclass(frozen=True)
class Batch:
    """Rows of one length, (rows, tokens), with their place among all rows, and the token wanted after each; or -100."""

    numbers: tuple[int, ...]
    ids: torch.Tensor
    wanted: torch.Tensor


@dataclass(frozen=True)
class Outcome:
    """What a model made of batches: for each its last states, (rows, tokens, hidden), and the head they go into."""

    states: Sequence[torch.Tensor]
    head: Head


@dataclass(frozen=True)
class Pair:
    """One model beside another: mean divergence in nats a token, the share of tokens whose likeliest is the same, how
    many were compared, and by how much another one leads where it is not, as a difference of probabilities.
    """

    divergence: float
    agreement: float
    tokens: int
    lead: float


@dataclass(frozen=True)
class Comparison:
    """The losses of each row by model, pairs of models by their names, and each model's probabilities of ends."""

    losses: Mapping[str, list[RowLoss]]
    pairs: Mapping[tuple[str, str], Pair]
    ends: Mapping[str, list[float]]


def batches_of(prompts: Sequence[Sequence[int]], rows: Rows) -> list[Batch]:
    """Return prompts and rows in batches of equal length, so that nothing is padded and no mask is needed."""
    blank = [(tuple(ids), (-100,) * len(ids)) for ids in prompts]
    numbered = sorted(enumerate([*blank, *rows.rows]), key=lambda item: len(item[1][0]))
    found: list[list[tuple[int, tuple[tuple[int, ...], tuple[int, ...]]]]] = []
    for item in numbered:
        length = len(item[1][0])
        last = found[-1] if found else []
        if last and len(last[0][1][0]) == length and (len(last) + 1) * length <= _BATCH_TOKENS:
            last.append(item)
        elif length:
            found.append([item])
    return [
        Batch(
            tuple(number for number, _ in group),
            torch.tensor([ids for _, (ids, _) in group]),
            torch.tensor([[*labels[1:], -100] for _, (_, labels) in group]),
        )
        for group in found
    ]


def compare(
    models: Mapping[str, Outcome],
    pairs: Sequence[tuple[str, str]],
    batches: Sequence[Batch],
    *,
    rows: int,
    ends: Sequence[int] = (),
) -> Comparison:
    """Compare models by what they made of the batches; `rows` is how many rows the batches hold together.

    `ends` are tokens that end an answer: how probable each is, where one is wanted, is told by itself.
    """
    wanted = torch.cat([batch.wanted.reshape(-1) for batch in batches])
    tallies = {name: _Tally(wanted) for name in models}
    beside = {pair: _Beside(len(wanted)) for pair in pairs}
    with torch.inference_mode():
        for start, stop in _tiles(models):
            tiles = {name: outcome.head.tile(start, stop) for name, outcome in models.items()}
            for part, states in _chunks(models):
                logits = {
                    name: outcome.head.logits(states[name], tiles[name], start, stop).cpu()
                    for name, outcome in models.items()
                    if start < outcome.head.vocabulary
                }
                shares = {name: tallies[name].add(part, found, start) for name, found in logits.items()}
                for (one, other), item in beside.items():
                    if one in logits and other in logits:
                        item.add(part, logits[one], logits[other], shares[one])
    is_end = torch.isin(wanted, torch.tensor(list(ends), dtype=wanted.dtype))
    numbers = torch.cat([torch.tensor(batch.numbers).repeat_interleave(batch.ids.shape[1]) for batch in batches])
    return Comparison(
        {name: tally.losses(numbers, rows) for name, tally in tallies.items()},
        {pair: item.result(tallies[pair[0]], tallies[pair[1]]) for pair, item in beside.items()},
        {name: torch.exp(-tally.nats[is_end]).tolist() for name, tally in tallies.items()},
    )


def _tiles(models: Mapping[str, Outcome]) -> Iterator[tuple[int, int]]:
    """Yield pieces of the vocabulary; where one model has more words than others, a piece ends with the shorter one."""
    step = min(outcome.head.step for outcome in models.values())
    ends = sorted({outcome.head.vocabulary for outcome in models.values()})
    start = 0
    for end in ends:
        while start < end:
            yield start, min(start + step, end)
            start = min(start + step, end)


def _chunks(models: Mapping[str, Outcome]) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
    """Yield pieces of the tokens, with each model's states, (tokens, hidden)."""
    place = 0
    for group in zip(*(outcome.states for outcome in models.values()), strict=True):
        flat = [states.reshape(-1, states.shape[-1]) for states in group]
        for start in range(0, len(flat[0]), _TOKENS):
            part = [states[start : start + _TOKENS] for states in flat]
            yield slice(place, place + len(part[0])), dict(zip(models, part, strict=True))
            place += len(part[0])


@dataclass(frozen=True)
class _Shares:
    """Of a tile: each word's weight beside the likeliest so far, by what earlier sums shrink, the new likeliest."""

    weights: torch.Tensor
    shrink: torch.Tensor
    is_better: torch.Tensor
    best: torch.Tensor


class _Tally:
    """One model's tokens: their likeliest words so far, the sum over all words, and the logit of the one wanted."""

    def __init__(self, wanted: torch.Tensor) -> None:
        self.counted = wanted != -100
        self._wanted = wanted
        self.top = torch.full(wanted.shape, -math.inf, dtype=torch.float64)
        self.mass = torch.zeros(wanted.shape, dtype=torch.float64)
        self.best = torch.zeros_like(wanted)
        self._found = torch.zeros(wanted.shape, dtype=torch.float64)

    def add(self, part: slice, logits: torch.Tensor, start: int) -> _Shares:
        """Add the logits of words from `start` on, fp32, (tokens, words)."""
        tops, best = logits.max(dim=-1)
        before, top = self.top[part], torch.maximum(self.top[part], tops.double())
        is_better = tops.double() > before
        weights = (logits - top.float()[:, None]).exp_()
        shrink = torch.exp(before - top).nan_to_num(nan=0.0, posinf=0.0)
        self.mass[part] = self.mass[part] * shrink + weights.sum(dim=-1, dtype=torch.float64)
        self.top[part] = top
        self.best[part] = torch.where(is_better, best + start, self.best[part])
        place = self._wanted[part] - start
        here = (place >= 0) & (place < logits.shape[1])
        found = logits.gather(1, place.clamp(0, logits.shape[1] - 1)[:, None])[:, 0].double()
        self._found[part] = torch.where(here, found, self._found[part])
        return _Shares(weights, shrink, is_better, best)

    @property
    def log_sum(self) -> torch.Tensor:
        """Log of the sum over all words."""
        return self.top + self.mass.log()

    @property
    def nats(self) -> torch.Tensor:
        """The loss of each token; 0 where it does not count."""
        return torch.where(self.counted, self.log_sum - self._found, 0.0)

    def losses(self, numbers: torch.Tensor, rows: int) -> list[RowLoss]:
        """Return the summed loss of each row, and how many tokens count in it."""
        sums = torch.zeros(rows, dtype=torch.float64).index_add_(0, numbers, self.nats)
        counts = torch.zeros(rows, dtype=torch.long).index_add_(0, numbers, self.counted.long())
        return [(float(value), int(count)) for value, count in zip(sums, counts, strict=True) if count]


class _Beside:
    """Two models' tokens: the expected gap between their logits, and the other's logit of the first one's likeliest."""

    def __init__(self, tokens: int) -> None:
        self._gap = torch.zeros(tokens, dtype=torch.float64)
        self._common = torch.zeros(tokens, dtype=torch.float64)  # mass of words that both have
        self._at_best = torch.full((tokens,), -math.inf, dtype=torch.float64)

    def add(self, part: slice, one: torch.Tensor, other: torch.Tensor, shares: _Shares) -> None:
        """Add a tile of both models' logits."""
        gap = torch.where(shares.weights == 0, 0.0, shares.weights * (one - other)).sum(dim=-1, dtype=torch.float64)
        common = shares.weights.sum(dim=-1, dtype=torch.float64)
        self._gap[part] = self._gap[part] * shares.shrink + gap
        self._common[part] = self._common[part] * shares.shrink + common
        found = other.gather(1, shares.best[:, None])[:, 0].double()
        self._at_best[part] = torch.where(shares.is_better, found, self._at_best[part])

    def result(self, one: _Tally, other: _Tally) -> Pair:
        """Return the two models beside each other; likeliest words are compared where labels count, or everywhere."""
        lift = (self._common / one.mass) * (one.log_sum - other.log_sum)
        mean = float((self._gap / one.mass - lift).mean())
        chosen = one.counted if bool(one.counted.any()) else torch.ones_like(one.counted)
        same = (one.best == other.best)[chosen]
        leads = torch.exp(other.top - other.log_sum) - torch.exp(self._at_best - other.log_sum)
        apart = leads[chosen][~same]
        return Pair(
            divergence=max(0.0, mean) if math.isfinite(mean) else math.inf,
            agreement=float(same.double().mean()),
            tokens=int(chosen.sum()),
            lead=float(apart.max()) if len(apart) else 0.0,
        )
