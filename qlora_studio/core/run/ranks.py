"""Several cards that train one run: each takes its share of a step's batches, and all of them take the same step.

A rank is a process with a card of its own. Rank 0 is the run's worker.
"""

from qlora_studio.core.config.run_config import ALL_CARDS, RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say

# Of a worker's environment: what each rank may see of cards, separated by commas; the worker's own comes first.
VARIABLE = "QLORA_STUDIO_RANKS"


def require_shares(config: RunConfig, ranks: int) -> None:
    """Raise StudioError where the batches of a step cannot be dealt evenly to so many ranks."""
    if message := uneven(config, ranks):
        raise StudioError(message, kind=FailureKind.INVALID_CONFIG, advice=_advice(config, ranks))


def uneven(config: RunConfig, ranks: int) -> str:
    """Return why the batches of a step cannot be dealt evenly to so many ranks; nothing where they can."""
    batches = config.training.gradient_accumulation
    if batches % ranks == 0:
        return ""
    return say(
        "The gradient accumulation of this run, {batches}, cannot be dealt evenly to {ranks} cards.",
        batches=batches,
        ranks=ranks,
    )


def even_shares(config: RunConfig, ranks: int) -> tuple[int, int] | None:
    """Return the batch and accumulation that come out even with as many rows in a step; None where none does."""
    rows = config.effective_batch
    most = min(rows // ranks, config.training.batch_size)  # more at once might not fit the cards
    for batch in range(most, 0, -1):
        if rows % (batch * ranks) == 0:
            return batch, rows // batch
    return None


def mended_shares(config: RunConfig, ranks: int) -> tuple[int, int]:
    """Return a batch and accumulation that come out even: with as many rows in a step, or else some more."""
    training = config.training
    return even_shares(config, ranks) or (training.batch_size, -(-training.gradient_accumulation // ranks) * ranks)


def cards_of(wish: str) -> int:
    """Return how many cards a `hardware.gpus` names; all are two at least."""
    return 2 if wish == ALL_CARDS else wish.count(",") + 1


def sharing(config: RunConfig) -> int:
    """Return how many cards share the base out, where the config says so; one that has it alone shares it with none."""
    return cards_of(config.hardware.gpus) if config.hardware.sharding == "on" and _can_be_cut(config) else 1


def _can_be_cut(config: RunConfig) -> bool:
    return config.quantization.method != "none"


def _advice(config: RunConfig, ranks: int) -> str:
    """Return what keeps the rows of a step as they are, where something does."""
    if shares := even_shares(config, ranks):
        return say(
            "Set training.batch_size={batch} and training.gradient_accumulation={accumulation}: a step has as many "
            "rows then. Or choose another number of cards.",
            batch=shares[0],
            accumulation=shares[1],
        )
    return say("Make training.gradient_accumulation a multiple of {ranks}, or choose fewer cards.", ranks=ranks)
