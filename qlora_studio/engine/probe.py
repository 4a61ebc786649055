"""One real step on the longest rows before a run, undone: what it takes on this card, known before hours are spent."""

import time
from typing import Any

import numpy
import torch

from qlora_studio.core.events import Probed
from qlora_studio.engine.adapted_model import release_memory
from qlora_studio.engine.collator import take_facts
from qlora_studio.engine.row_file import row_lengths
from qlora_studio.engine.trainer import StudioTrainer


def probe(trainer: StudioTrainer) -> Probed:
    """Take forward, backward and an optimizer step on the longest rows, and one evaluation batch; then undo them.

    Adapters, gradients, optimizer and random states are afterwards as they were. Raises what the card raises.
    """
    started = time.monotonic()
    batch, rows, tokens = _longest_batch(trainer)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    kept = [parameter.detach().to("cpu", copy=True) for parameter in trained]
    devices = [torch.cuda.current_device()] if cuda else []
    with torch.random.fork_rng(devices=devices):
        try:
            _step(trainer, batch)
        finally:
            for parameter, value in zip(trained, kept, strict=True):
                parameter.data.copy_(value)
                parameter.grad = None
            trainer.optimizer = None
    peak = torch.cuda.max_memory_allocated() if cuda else 0
    reserved = torch.cuda.max_memory_reserved() if cuda else 0
    release_memory()
    return Probed(
        rows=rows, tokens=tokens, allocated_bytes=peak, reserved_bytes=reserved, seconds=time.monotonic() - started
    )


def _longest_batch(trainer: StudioTrainer) -> tuple[dict[str, Any], int, int]:
    """Return the batch of the longest rows, its rows and the tokens of its longest."""
    lengths = row_lengths(trainer.train_dataset)
    chosen = numpy.argsort(-lengths, kind="stable")[: trainer.args.per_device_train_batch_size].tolist()
    batch = trainer.data_collator([trainer.train_dataset[index] for index in chosen])
    take_facts(batch)
    return batch, len(chosen), int(lengths[chosen[0]])


def _step(trainer: StudioTrainer, batch: dict[str, Any]) -> None:
    trainer.create_optimizer()
    trainer.model.train()
    inputs = trainer._prepare_inputs(batch)
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, dict(inputs))
    loss.backward()
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        trainer.compute_loss(trainer.model, dict(inputs))
    trainer._metrics["train"].clear()
    trainer._metrics["eval"].clear()
    trainer._total_train_tokens = 0
