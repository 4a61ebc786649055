"""Another rank than the run's worker, from the worker's order to the end of training."""

import threading
from collections.abc import Callable

from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.engine.context import RankContext
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.card_check import require_usable_card
from qlora_studio.engine.model.device import choose_device, with_checkpointing
from qlora_studio.engine.ranks.group import Ranks
from qlora_studio.engine.ranks.order import RankAnswer, RankOrder
from qlora_studio.engine.training.job import load_trainer, train
from qlora_studio.engine.training.memory_space import require_memory, with_spare_memory_used


def train_along(order: RankOrder, context: RankContext, answer: Callable[[RankAnswer], None]) -> None:
    """Load what the worker loads, and train this rank's share; `answer` tells the worker that this one is ready."""
    config = order.config
    require_usable_card(config)
    tokenizer = tokenizer_of(order.base)
    device = choose_device(config, context)
    require_memory(order.base, config, device)
    data = prepare_datasets(config, tokenizer, context.folder, context)
    config = with_spare_memory_used(order.base, config, device, data.training)
    device = with_checkpointing(config, device)
    ranks = Ranks(order.rank, order.count)
    made_from = Fingerprints()  # the worker keeps what is trained
    trainer = load_trainer(order.base, tokenizer, data, config, device, context, made_from, order.going_on, ranks)

    def meet() -> None:
        answer(RankAnswer(compute_dtype=str(device.compute_dtype)))
        ranks.meet(order.meeting, on_card=device.is_cuda)

    train(trainer, order.going_on, config, order.base, context, meet)
    threading.Event().wait()  # until the worker lets go: who leaves first breaks a connection that another waits on
