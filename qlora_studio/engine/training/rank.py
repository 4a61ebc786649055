"""Another rank than the run's worker, from the worker's order to the end of training."""

import threading
from collections.abc import Callable

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.fingerprint import Fingerprint, Fingerprints, differences
from qlora_studio.core.words import say
from qlora_studio.engine.context import RankContext
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.card_check import require_usable_card
from qlora_studio.engine.model.device import choose_device, with_checkpointing
from qlora_studio.engine.ranks.group import Ranks
from qlora_studio.engine.ranks.order import RankAnswer, RankOrder
from qlora_studio.engine.training.job import load_trainer, train
from qlora_studio.engine.training.memory_space import require_memory, with_spare_memory_used
from qlora_studio.engine.training.saved_state import require_sound_state
from qlora_studio.storage.runs.fingerprint import fingerprint_folder


def train_along(order: RankOrder, context: RankContext, answer: Callable[[RankAnswer], None]) -> None:
    """Load what the worker loads, and train this rank's share; `answer` tells the worker that this one is ready."""
    config = order.config
    if order.made_from is not None and order.going_on.checkpoint is not None:  # it came from another machine
        require_sound_state(order.going_on.checkpoint, order.going_on.step)
    require_usable_card(config)
    tokenizer = tokenizer_of(order.base)
    device = choose_device(config, context)
    require_memory(order.base, config, device, order.count)
    data = prepare_datasets(config, tokenizer, context.folder, context)
    _require_same(order, Fingerprint.model_validate(data.fingerprint))
    config = with_spare_memory_used(order.base, config, device, data.training)
    device = with_checkpointing(config, device)
    ranks = Ranks(order.rank, order.count)
    made_from = Fingerprints()  # the worker keeps what is trained

    def meet() -> None:
        if torch.distributed.is_initialized():
            return
        answer(RankAnswer(compute_dtype=str(device.compute_dtype)))
        ranks.meet(order.meeting, on_card=device.is_cuda)

    trainer = load_trainer(order.base, tokenizer, data, config, device, context, made_from, order.going_on, ranks, meet)
    train(trainer, order.going_on, config, order.base, context, meet)
    threading.Event().wait()  # until the worker lets go: who leaves first breaks a connection that another waits on


def _require_same(order: RankOrder, rows: Fingerprint) -> None:
    """Raise StudioError where this machine's base or prepared rows are not those that the run is made from."""
    if order.made_from is None:
        return
    if differs := differences(order.made_from.base, fingerprint_folder(order.base)):
        raise _other(say("base model"), differs)
    if differs := differences(order.made_from.data, rows):
        raise _other(say("prepared rows"), differs)


def _other(what: str, differs: list[str]) -> StudioError:
    return StudioError(
        say("The {what} here are not those of machine 0: {differs}.", what=what, differs="; ".join(differs[:3])),
        kind=FailureKind.FINGERPRINT_MISMATCH,
        advice=say("Copy base model and data from there, and install the same versions of all packages."),
    )
