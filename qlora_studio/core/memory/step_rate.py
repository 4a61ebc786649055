"""How fast a run will be on a card, predicted: over the batches that the rows of a step are split into. Pure.

The rows of a step are taken to be as mixed as those of the data: as many quantiles of their lengths as a step has
rows. Where a model has its rows padded they are sorted, as a run sorts them, so that what a batch is padded to is
known; elsewhere they lie end to end, in batches of about as many tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import LengthStatistics
from qlora_studio.core.memory.fit import split_batch
from qlora_studio.core.memory.gpu_catalogue import GpuSpec
from qlora_studio.core.memory.rate import ERROR_SHARE, batch_seconds, unknown_because
from qlora_studio.core.memory.setup import MemorySetup, setup_for
from qlora_studio.core.memory.together import gathering_seconds, joining_seconds, trained_numbers
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import duration_text
from qlora_studio.core.words import say

_ROWS = 64  # of a step that are reckoned with: of a larger one as many batches as hold them


@dataclass(frozen=True)
class StepRate:
    """A step as predicted, by `cards` together: its seconds, its real tokens, and the seconds of a held-out row.

    `gathering` of the seconds are those in which a base that the cards share out is on its way, as if nothing were
    computed meanwhile: FSDP gathers a layer while another one works, so that a step takes less by up to as much.
    """

    seconds: float
    tokens: int
    row_seconds: float  # forward alone
    cards: int = 1
    gathering: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, padding left out, as a run tells them."""
        return self.tokens / self.seconds

    @property
    def words(self) -> str:
        """The rate for people."""
        if self.gathering:
            return say("about {rounded:,} tokens/s or more", rounded=rounded(self.tokens_per_second))
        return say("about {rounded:,} tokens/s", rounded=rounded(self.tokens_per_second))


def step_rate(
    config: RunConfig,
    shape: ModelShape,
    card: GpuSpec | None,
    lengths: LengthStatistics | None = None,
    *,
    cards: int = 1,
) -> StepRate | None:
    """Return how fast a run is whose checkpointing is resolved; None where nothing is known of that.

    Without lengths every row is as long as `max_length`. Of several `cards`, each takes an equal share of a step, and
    all wait until the gradients are added up; of a base that they share out, each gathers the layers for each batch.
    """
    rows = _rows_of_step(config, lengths)
    setups = [*_batches(config, shape, card, rows, lengths.trained_share if lengths else 1.0)]
    times = {setup: batch_seconds(shape, setup, card) for setup in set(setups)}
    mean = replace(setups[0], row_tokens=max(1, sum(rows) // len(rows)))
    forward = batch_seconds(shape, mean, card, trains=False)
    if forward is None:
        return None
    whole = config.effective_batch / len(rows)
    seconds, tokens = sum(times[setup] or 0.0 for setup in setups), sum(rows)
    gathered = gathering_seconds(config, shape)
    gathering = 2 * gathered * whole * len(setups) / cards
    joining = joining_seconds(trained_numbers(config, shape), cards)
    return StepRate(
        whole * seconds / cards + joining + gathering,
        round(whole * tokens),
        (forward + gathered) / mean.batch / cards,
        cards,
        gathering,
    )


def _batches(
    config: RunConfig, shape: ModelShape, card: GpuSpec | None, rows: Sequence[int], trained: float
) -> Iterator[MemorySetup]:
    """Yield the setup of each batch of a step. Padded rows of one length need no mask, which others are under."""
    batch = config.training.batch_size
    masked = replace(setup_for(config, shape, gpu=card), trained_share=trained)
    plain = replace(masked, attention=setup_for(split_batch(config, 1), shape, gpu=card).attention, masked=False)
    if batch > 1 and not masked.masked:
        yield from [replace(masked, row_tokens=max(1, sum(rows) // len(rows)))] * (len(rows) // batch)
        return
    for start in range(0, len(rows), batch):
        longest, shortest = rows[start], rows[start + batch - 1]
        is_even = longest == shortest and not config.training.packing
        yield replace(plain if is_even else masked, row_tokens=longest)


def rate_note(rate: StepRate | None, config: RunConfig, shape: ModelShape, card: GpuSpec | None) -> str:
    """Return a predicted rate as a sentence, with its error and what it is for; where there is none, why."""
    if rate is None:
        why = unknown_because(shape, setup_for(config, shape, gpu=card), card)
        return say("No speed is predicted: {why}.", why=why)
    mean = round(rate.tokens / config.effective_batch)
    seconds = _seconds_text(rate.seconds)
    if rate.gathering:
        return say(
            "Predicted for {cards} cards that share the base out, never measured: {words}, a step of "
            "{effective_batch:,} × {mean:,} tokens in {seconds} at most. {gathering} of these the base is on its way; "
            "how much of that hides behind the work is not known.",
            cards=rate.cards,
            words=rate.words,
            effective_batch=config.effective_batch,
            mean=mean,
            seconds=seconds,
            gathering=_seconds_text(rate.gathering),
        )
    if rate.cards > 1:
        return say(
            "Predicted for {cards} cards together, never measured: {words}, a step of {effective_batch:,} × {mean:,} "
            "tokens in {seconds}.",
            cards=rate.cards,
            words=rate.words,
            effective_batch=config.effective_batch,
            mean=mean,
            seconds=seconds,
        )
    return say(
        "Predicted: {words} (± {error_share:.0%}), a step of {effective_batch:,} × {mean:,} tokens in {seconds}.",
        words=rate.words,
        error_share=ERROR_SHARE,
        effective_batch=config.effective_batch,
        mean=mean,
        seconds=seconds,
    )


def _seconds_text(seconds: float) -> str:
    return duration_text(seconds) if seconds >= 10 else say("{seconds:.1f} s", seconds=seconds)


def rounded(rate: float) -> int:
    """Return a predicted number with two figures: it has no more."""
    return int(float(f"{rate:.2g}"))


def _rows_of_step(config: RunConfig, lengths: LengthStatistics | None) -> list[int]:
    """Return the tokens of each sequence of a step, the longest first; of a large step those of some batches."""
    training = config.training
    count = training.batch_size * min(training.gradient_accumulation, max(1, _ROWS // training.batch_size))
    if lengths is None or training.packing or not any(lengths.counts) or len(lengths.edges) <= len(lengths.counts):
        return [training.max_length] * count
    return [min(row, training.max_length) for row in _quantiles(lengths.edges, lengths.counts, count)][::-1]


def _quantiles(edges: Sequence[int], counts: Sequence[int], count: int) -> list[int]:
    """Return so many lengths of a histogram, equally far apart in rank, the shortest first."""
    sums, found, bin_number = [*accumulate(counts)], [], 0
    for number in range(count):
        rank = (number + 0.5) / count * sums[-1]
        while sums[bin_number] < rank:
            bin_number += 1
        low, high = edges[bin_number], edges[bin_number + 1]
        within = 1 - (sums[bin_number] - rank) / counts[bin_number]
        found.append(max(1, round(low + within * (high - low))))
    return found
