"""How long a run would train with other settings, by how long it took itself. Pure."""

from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.config.run_config import RunConfig

# What changes how fast a row is trained, or which rows there are: of a run that has these otherwise nothing is told.
_OF_THE_PACE = (
    "model",
    "quantization",
    "data",
    "hardware",
    "lora.target_modules",
    "lora.experts",
    "lora.dora",
    "lora.start_from",
    "training.max_length",
    "training.packing",
    "training.gradient_checkpointing",
    "training.checkpointed_layers",
)


def expected_seconds(config: RunConfig, record: RunRecord) -> float | None:
    """Return how long a run with this config would train; None where what was trained does not tell it."""
    own, state = record.config, record.state
    if not record.tokens or not record.seconds or not state.step:
        return None
    if any(config.value(path) != own.value(path) for path in _OF_THE_PACE):
        return None
    rows = _rows(config, record)
    return None if rows is None else record.seconds / (state.step * own.effective_batch) * rows


def _rows(config: RunConfig, record: RunRecord) -> float | None:
    """Return how many rows the run would see."""
    if config.training.max_steps:
        return float(config.training.max_steps * config.effective_batch)
    dataset = record.state.dataset
    per_epoch = (dataset.rows_per_epoch or dataset.training_rows) if dataset else 0
    return config.training.epochs * per_epoch or None
