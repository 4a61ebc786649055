"""Whether the libraries can train a model at all: asked with one row of the run before its first step.

Some classes fail in their own code, or in trl's, once they are quantized, adapted or given rows alone. That is found
here and told in its own words, not after a while as a crash.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.data.collator import take_facts
from qlora_studio.engine.faults import is_card_lost, is_out_of_memory


def require_trainable(trainer: Any) -> None:
    """Compute loss and gradients of a row as a step would, and step nowhere. Raises StudioError where that fails."""
    with refused_where_it_fails(trainer.model), torch.random.fork_rng():  # what is trained draws as if this never was
        _compute_loss(trainer)


@contextmanager
def refused_where_it_fails(model: Any) -> Iterator[None]:
    """Raise StudioError where the model's own code fails. A card that is lost or full stays what it is."""
    try:
        yield
    except StudioError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or is_card_lost(error):
            raise
        name = type(model.get_base_model()).__name__
        raise StudioError(
            say("{name} cannot be trained by the installed libraries: they fail on a row.", name=name),
            kind=FailureKind.MODEL_REFUSED,
            advice=say(
                "Choose another model, or a 16-bit base (quantization.method = none) where quantizing is the cause."
            ),
            detail=f"{type(error).__name__}: {error}",
        ) from error


def _compute_loss(trainer: Any) -> None:
    was_training = trainer.model.training
    try:
        for is_training in (False, True):  # some rescale their weights on the way from one to the other
            trainer.model.train(is_training)
            batch = trainer.data_collator([trainer.train_dataset[0]])
            take_facts(batch)
            with torch.set_grad_enabled(is_training), trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
            if is_training:
                loss.backward()
    finally:
        trainer.model.zero_grad()
        trainer.model.train(was_training)
