"""Several cards that train one run: each takes its share of a step's batches, and all of them take the same step.

A rank is a process with a card of its own. Rank 0 is the run's worker.
"""

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.core.words import say

# Of a worker's environment: what each rank may see of cards, separated by commas; the worker's own comes first.
VARIABLE = "QLORA_STUDIO_RANKS"


def require_shares(config: RunConfig, ranks: int) -> None:
    """Raise StudioError where the batches of a step cannot be dealt evenly to so many ranks."""
    training = config.training
    if training.gradient_accumulation % ranks == 0:
        return
    raise StudioError(
        say(
            "The gradient accumulation of this run, {batches}, cannot be dealt evenly to {ranks} cards.",
            batches=training.gradient_accumulation,
            ranks=ranks,
        ),
        kind=FailureKind.INVALID_CONFIG,
        advice=_advice(config, ranks),
    )


def _advice(config: RunConfig, ranks: int) -> str:
    """Return what keeps the rows of a step as they are, where something does."""
    rows = config.effective_batch
    for accumulation in range(ranks, rows + 1, ranks):
        if rows % accumulation == 0:
            return say(
                "Set training.batch_size={batch} and training.gradient_accumulation={accumulation}: a step has as many "
                "rows then. Or choose another number of cards.",
                batch=rows // accumulation,
                accumulation=accumulation,
            )
    return say("Make training.gradient_accumulation a multiple of {ranks}, or choose fewer cards.", ranks=ranks)
