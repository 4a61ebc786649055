"""A rank, as `python -m`: holds a base that it shares with another one beside a whole one, to the last bit.

Arguments: where the two meet, the own number, and folders of models. It prints the families that were the same.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.engine.memory.checkpointing import checkpoint_layers
from qlora_studio.engine.model.adapted import attach_adapters, cast_adapters, load_base
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.ranks.group import Ranks
from qlora_studio.engine.ranks.meeting import Meeting
from qlora_studio.engine.ranks.sharding import gather_by_layers
from qlora_studio.engine.ranks.share import WHOLE, Share

_DEVICE = Device("cpu", torch.float32, "adamw_torch", True)


def _model(base: Path, share: Share) -> Any:
    torch.manual_seed(1)
    model = attach_adapters(load_base(base, RunConfig(), _DEVICE, share=share), RunConfig())
    cast_adapters(model, torch.float32)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    if not share.is_whole:
        gather_by_layers(model, "cpu", share)
    return model


def _found(model: Any, *, trains: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return loss and gradients of two rows, with the same draws for what a model drops."""
    torch.manual_seed(2)
    ids = torch.arange(40).reshape(2, 20) + 5
    model.train(trains)
    model.zero_grad()
    with torch.set_grad_enabled(trains):
        loss = model(input_ids=ids, labels=ids).loss
    if not trains:
        return loss, torch.zeros(1)
    loss.backward()
    gradients = [item.grad.flatten() for item in model.parameters() if item.requires_grad and item.grad is not None]
    return loss.detach(), torch.cat(gradients)


def _compare(base: Path, ranks: Ranks) -> None:
    cut, whole = _model(base, ranks.share), _model(base, WHOLE)
    for checkpointing in (False, True):
        if checkpointing and whole.supports_gradient_checkpointing:
            checkpoint_layers(cut)
            checkpoint_layers(whole)
        for trains in (False, True, False, True):
            one, other = (_found(model, trains=trains) for model in (cut, whole))
            assert torch.equal(one[0], other[0]), f"loss {one[0]} {other[0]}"
            assert torch.equal(one[1], other[1]), "gradients"
            assert bool(one[1].any()) is trains


if __name__ == "__main__":
    meeting, number, *bases = sys.argv[1:]
    both = Ranks(int(number), 2)
    both.share_base()
    both.meet(Meeting(file=Path(meeting)), on_card=False)
    for folder in bases:
        _compare(Path(folder), both)
        print(Path(folder).name, flush=True)
    both.part()
