"""What runs will take, by the estimator and by the run that they come from. Reads files: beside the event loop."""

from collections.abc import Sequence
from functools import cache

from qlora_studio.core.comparison.repetition import expected_seconds
from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import judge
from qlora_studio.core.memory.spare import estimate_with_spare
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.storage.models.location import locate_model, model_facts
from qlora_studio.storage.run_care.run_reading import RunReadings
from qlora_studio.storage.runs.parent_adapter import with_parent
from qlora_studio.ui.state.estimates import EstimatedCard
from qlora_studio.ui.sweep.view import Forecast


def forecasts(
    readings: RunReadings, path: str, configs: Sequence[RunConfig], card: EstimatedCard
) -> tuple[Forecast, ...]:
    """Return what each run will take, as far as it is known. Raises StudioError where the run cannot be read."""
    record = readings.read(path)
    shapes = cache(_shape)
    return tuple(
        _forecast(config, record, card, shapes(config.model.source, config.model.revision)) for config in configs
    )


def _forecast(config: RunConfig, record: RunRecord, card: EstimatedCard, shape: ModelShape | None) -> Forecast:
    found = _estimate(config, record, card, shape) if shape is not None else None
    return Forecast(
        config.name,
        found.total_bytes if found else None,
        judge(found, card.free_bytes).verdict if found and card.free_bytes is not None else None,
        expected_seconds(config, record),
    )


def _estimate(config: RunConfig, record: RunRecord, card: EstimatedCard, shape: ModelShape) -> Estimate | None:
    dataset = record.state.dataset
    longest = min(dataset.longest, config.training.max_length) if dataset and not config.training.packing else None

    def tried(wanted: RunConfig) -> Estimate:
        return estimate(wanted, shape, row_tokens=longest, gpu=card.spec, probe=card.probe)

    try:
        return estimate_with_spare(with_parent(config), shape, card.free_bytes, tried, card.cards)[1]
    except StudioError:  # no such adapter to go on from
        return None


def _shape(source: str, revision: str) -> ModelShape | None:
    try:
        location = locate_model(source, revision)
        return model_facts(location).shape if location.path is not None else None
    except (StudioError, OSError):
        return None
