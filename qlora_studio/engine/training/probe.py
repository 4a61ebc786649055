"""Before the first step on a card: one real step on the longest rows, undone; what it takes, and what that teaches."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.memory.probe_record import ProbeRecord, newest_for, record_of
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Probed
from qlora_studio.core.run.reports import RunEstimateReported
from qlora_studio.engine.context import Reporter
from qlora_studio.engine.data.collator import take_facts
from qlora_studio.engine.data.row_files import row_lengths
from qlora_studio.engine.model.adapted import release_memory
from qlora_studio.engine.model.device import current_card, library_versions
from qlora_studio.engine.training.optimizer_state import paged_bytes
from qlora_studio.engine.training.trainer import StudioTrainer
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.runs.probe_records import probe_records, remember_probe


def probe(trainer: StudioTrainer) -> Probed:
    """Take two optimizer steps on the longest rows, and one evaluation batch, as training does; then undo them.

    The second step has the optimizer's state beside it, and gradients that accumulate. Adapters, gradients, optimizer
    and random states are afterwards as they were; paged memory waits for the run's own optimizer. Raises what the card
    raises.
    """
    started = time.monotonic()
    batch, rows, tokens = _longest_batch(trainer, trainer.train_dataset, trainer.args.per_device_train_batch_size)
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    kept = [parameter.detach().to("cpu", copy=True) for parameter in trained]
    was_training, managed = trainer.model.training, 0
    held: dict[str, Any] = {}
    try:
        with torch.random.fork_rng(devices=_devices()):
            training, reserved = _peak(lambda: _steps(trainer, batch))
            managed = paged_bytes(trainer.optimizer)
            held = _held_outside(managed) if torch.cuda.is_available() else {}
            evaluation, reserved_after = _peak(lambda: _evaluate(trainer, batch))
    finally:
        for parameter, value in zip(trained, kept, strict=True):
            parameter.data.copy_(value)
            parameter.grad = None
        if trainer.optimizer is not None:
            trainer.paged.keep(trainer.optimizer)
        trainer.optimizer = None
        trainer.model.train(was_training)
        release_memory()
    return Probed(
        rows=rows,
        tokens=tokens,
        allocated_bytes=max(training, evaluation),
        reserved_bytes=max(reserved, reserved_after),
        training_bytes=training,
        evaluation_bytes=evaluation,
        managed_bytes=managed,
        seconds=time.monotonic() - started,
        **held,
    )


def _held_outside(managed: int) -> dict[str, Any]:
    """Return the fields of Probed on what the process holds beside torch's pool, and on which card that is so."""
    card = current_card()
    return {
        "process_bytes": card.process_bytes,
        "context_bytes": max(0, card.process_bytes - torch.cuda.memory_reserved() - managed),
        "card": card.name,
        "card_uuid": card.uuid,
        "driver": card.driver,
        "versions": library_versions(),
    }


def _longest_batch(trainer: StudioTrainer, dataset: Any, size: int) -> tuple[dict[str, Any], int, int]:
    """Return the batch of the longest rows of a dataset, its rows and the tokens of its longest."""
    lengths = row_lengths(dataset)
    chosen = numpy.argsort(-lengths, kind="stable")[:size].tolist()
    batch = trainer.data_collator([dataset[index] for index in chosen])
    take_facts(batch)
    return batch, len(chosen), int(lengths[chosen[0]])


def _steps(trainer: StudioTrainer, batch: dict[str, Any]) -> None:
    trainer.create_optimizer()
    trainer.model.train()
    for batches in (1, min(2, trainer.args.gradient_accumulation_steps)):  # a third adds nothing
        for _ in range(batches):
            with trainer.accelerator.autocast(), trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(trainer.model, dict(trainer._prepare_inputs(batch)))
            loss.backward()
            del loss
        trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)


def _evaluate(trainer: StudioTrainer, training_batch: dict[str, Any]) -> None:
    """Measure the longest held-out rows, with the optimizer's state in memory as during a run."""
    batch = training_batch
    if trainer.eval_dataset is not None:
        batch, _, _ = _longest_batch(trainer, trainer.eval_dataset, trainer.args.per_device_eval_batch_size)
    trainer.model.eval()
    trainer.loss_without_learning(dict(trainer._prepare_inputs(batch)))


def _peak(work: Callable[[], None]) -> tuple[int, int]:
    """Do the work; return the most bytes that were allocated and reserved meanwhile, 0 without a card."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    work()
    return (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()) if cuda else (0, 0)


def _devices() -> list[int]:
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []


def measure_card(trainer: StudioTrainer, base: Path, config: RunConfig, reporter: Reporter) -> None:
    """Tell what the run should take, try a step and tell that too; keep what it taught about the card."""
    card = current_card()
    longest = int(row_lengths(trainer.train_dataset).max())
    known = newest_for(probe_records(), card.uuid, card.driver)
    expected = expected_memory(base, config, card.name, longest, known)
    reporter.emit(RunEstimateReported(report=expected.to_report()))
    reporter.phase(Activity.PROBING)
    trainer.memory.enter("")
    probed = probe(trainer)
    reporter.emit(probed)
    keep_probe(probed, expected_memory(base, config, card.name, longest).reserved_bytes, reporter)


def expected_memory(
    base: Path, config: RunConfig, card: str, longest: int, record: ProbeRecord | None = None
) -> Estimate:
    """Return the estimate of a run on a card, its rows up to `longest` tokens, with what an earlier probe taught."""
    shape = shape_from_config(read_config(base))
    return estimate(config, shape, row_tokens=longest, gpu=find_gpu(card), probe=record)


def keep_probe(probed: Probed, estimated_reserved_bytes: int, reporter: Reporter) -> None:
    """Keep what a probe taught; a full disk costs later estimates some precision, and this run nothing."""
    record = record_of(probed, estimated_reserved_bytes)
    try:
        if record is not None:
            remember_probe(record)
    except StudioError as error:
        reporter.warn("probe_not_kept", error.message)
