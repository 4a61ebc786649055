"""Before the first step on a card: what the run should take there, what a real step takes, and what that teaches."""

from pathlib import Path

from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.estimate import MEMORY_ESTIMATE, Estimate
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.memory.probe_record import ProbeRecord, newest_for, record_of
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.run.events import Probed, Reported
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.row_files import row_lengths
from qlora_studio.engine.model.card import current_card
from qlora_studio.engine.training.probe import probe
from qlora_studio.engine.training.trainer import StudioTrainer
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.runs.probe_records import probe_records, remember_probe


def measure_card(trainer: StudioTrainer, base: Path, config: RunConfig, context: JobContext) -> None:
    """Tell what the run should take, try a step and tell that too; keep what it taught about the card."""
    card = current_card()
    longest = int(row_lengths(trainer.train_dataset).max())
    known = newest_for(probe_records(), card.uuid, card.driver)
    expected = expected_memory(base, config, card.name, longest, known)
    context.emit(Reported(kind=MEMORY_ESTIMATE, report=expected.to_report()))
    context.phase("probing")
    trainer.memory.enter("")
    probed = probe(trainer)
    context.emit(probed)
    keep_probe(probed, expected_memory(base, config, card.name, longest).reserved_bytes, context)


def expected_memory(
    base: Path, config: RunConfig, card: str, longest: int, record: ProbeRecord | None = None
) -> Estimate:
    """Return the estimate of a run on a card, its rows up to `longest` tokens, with what an earlier probe taught."""
    shape = shape_from_config(read_config(base))
    return estimate(config, shape, row_tokens=longest, gpu=find_gpu(card), probe=record)


def keep_probe(probed: Probed, estimated_reserved_bytes: int, context: JobContext) -> None:
    """Keep what a probe taught; a full disk costs later estimates some precision, and this run nothing."""
    record = record_of(probed, estimated_reserved_bytes)
    try:
        if record is not None:
            remember_probe(record)
    except StudioError as error:
        context.warn("probe_not_kept", error.message)
