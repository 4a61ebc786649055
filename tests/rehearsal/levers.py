"""Every way in which a step is made faster or smaller, each tried by the real trainer on one card, on the same rows.

    python -m tests.rehearsal.levers MODEL FOLDER

writes for each way FOLDER/WAY.npz: `losses` of the steps, the `gradient` of each (steps, numbers) before it was
applied, the `adapter` at the end, and the `held_out` loss before the first step; `passes` counts the batches,
`attended` the calls of flash attention. All begin with the same adapters, whose two halves are random.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any

import numpy
import torch
from transformers import TrainerCallback, set_seed
from trl import SFTTrainer

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.prepared import PreparedData, prepare_datasets
from qlora_studio.engine.model import kept_base
from qlora_studio.engine.model.adapted import attach_adapters, cast_adapters, load_base
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import Device, choose_device
from qlora_studio.engine.training.pack_isolation import lay_end_to_end
from qlora_studio.engine.training.setup import arguments, build_trainer
from qlora_studio.storage.models.kept_bases import kept_bases
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.rehearsal import flash_attention

_SETTINGS = (
    "training.batch_size=2",
    "training.gradient_accumulation=4",
    "training.max_steps=2",
    "training.max_length=160",
    "training.learning_rate=2e-3",
    "training.warmup_ratio=0",
    "training.gradient_checkpointing=off",
    "quantization.compute_dtype=float32",
)
_DROPOUT, _PACKED, _BF16 = "lora.dropout=0.1", "training.packing=true", "quantization.compute_dtype=bfloat16"


@dataclass(frozen=True)
class Way:
    """How a run is trained; what has no setting is switched off in the trainer that is made."""

    settings: tuple[str, ...] = ()
    end_to_end: bool = True
    switch_off: Callable[[Any], None] = lambda trainer: None
    by_plain_trl: bool = False
    kept: bool = False  # its base is read from the cache


def _sorting(trainer: Any) -> None:
    trainer._get_train_sampler = MethodType(SFTTrainer._get_train_sampler, trainer)


def _scoring_alone(trainer: Any) -> None:
    trainer.compute_loss = MethodType(SFTTrainer.compute_loss, trainer)


def _joining(trainer: Any) -> None:
    trainer._most_tokens = 0


WAYS = {
    "plain trl": Way(by_plain_trl=True),
    "as a run has it": Way(),
    "padded": Way(end_to_end=False),
    "padded, in any order": Way(end_to_end=False, switch_off=_sorting),
    "every position scored": Way(switch_off=_scoring_alone),
    "batches not joined": Way(switch_off=_joining),
    "one batch of eight": Way(("training.batch_size=8", "training.gradient_accumulation=1")),
    "eight batches of one": Way(("training.batch_size=1", "training.gradient_accumulation=8")),
    "dropout": Way((_DROPOUT,)),
    "dropout, one layer checkpointed": Way(
        (_DROPOUT, "training.gradient_checkpointing=auto", "training.checkpointed_layers=1")
    ),
    "dropout, all layers checkpointed": Way((_DROPOUT, "training.gradient_checkpointing=on")),
    "packs": Way((_PACKED,)),
    "packs, by a mask": Way((_PACKED,), end_to_end=False),
    "bf16": Way((_BF16,)),
    "bf16, padded": Way((_BF16,), end_to_end=False),
    "a base that is kept": Way(kept=True),
}


def main(model: Path, folder: Path) -> None:
    """Try them all. The first prepares the rows, those after it read them from the cache."""
    gc.freeze()  # each load looks for garbage among all that the libraries made
    rows = _write_rows(folder / "rows.jsonl")
    for name, way in WAYS.items():
        mapping = {"model": {"source": str(model)}, "data": {"path": str(rows)}}
        config, context = from_mapping(mapping, [*_SETTINGS, *way.settings]), JobContext(RunFolder(folder / name))
        numpy.savez(folder / f"{name}.npz", **_trained(way, config, model, context))
        context.close()


def _write_rows(path: Path) -> Path:
    """Write chats of which one in six is long, so that padding is much and short batches are joined."""
    chats = (
        [
            {"role": "user", "content": f"How much is {number}?"},
            {"role": "assistant", "content": f"It is {number}. " + "Steady on. " * (number % 4 if number % 6 else 30)},
        ]
        for number in range(40)
    )
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in chats), encoding="utf-8")
    return path


def _trained(way: Way, config: RunConfig, base: Path, context: JobContext) -> dict[str, Any]:
    device = choose_device(config, context)
    assert device.is_cuda
    data = prepare_datasets(config, _tokenizer(base), context.folder, context)
    set_seed(config.training.seed)
    if way.kept:
        _keep(base, config, device, context)
    model = attach_adapters(load_base(base, config, device, reporter=context), config)
    if way.kept:
        assert kept_bases()[0].stat().st_mtime > 0, "it was not read from the cache"
    assert not way.end_to_end or lay_end_to_end(model)
    trainer = (_plain_trl if way.by_plain_trl else _ours)(model, base, data, config, device, context)
    way.switch_off(trainer)
    _randomize(trainer.model)
    calls, gradients, passes = flash_attention.calls, _Gradients(), []
    trainer.add_callback(gradients)
    trainer.model.register_forward_pre_hook(lambda module, _: passes.append(1) if module.training else None)
    held_out = torch.nan if way.by_plain_trl else trainer.evaluate()["eval_loss"]
    trainer.train()
    return {
        "losses": [logged["loss"] for logged in trainer.state.log_history if "loss" in logged],
        "gradient": numpy.stack(gradients.found),
        "adapter": _flat(parameter.data for parameter in trainer.model.parameters() if parameter.requires_grad),
        "held_out": held_out,
        "passes": len(passes),
        "attended": flash_attention.calls - calls,
    }


def _ours(model: Any, base: Path, data: PreparedData, config: RunConfig, device: Device, context: JobContext) -> Any:
    return build_trainer(
        model=model,
        tokenizer=_tokenizer(base),
        training=data.training,
        evaluation=data.evaluation,
        config=config,
        device=device,
        context=context,
        made_from=Fingerprints(),
    )


def _plain_trl(
    model: Any, base: Path, data: PreparedData, config: RunConfig, device: Device, context: JobContext
) -> Any:
    """Return trl's own trainer, with its own collator, order, head and loss."""
    trainer = SFTTrainer(
        model=model,
        args=arguments(config, device, str(context.folder.path / "plain")),
        train_dataset=data.training.select_columns(["input_ids", "labels"]),
        processing_class=_tokenizer(base),
    )
    cast_adapters(trainer.model, device.adapter_dtype)
    return trainer


@cache
def _tokenizer(base: Path) -> Any:
    return tokenizer_of(base)


def _keep(base: Path, config: RunConfig, device: Device, context: JobContext) -> None:
    """Have a base, however small, be kept in the cache, as if long ago."""
    kept_base._LEAST = 0
    load_base(base, config, device, reporter=context)
    (kept,) = kept_bases()
    os.utime(kept, (0, 0))


def _randomize(model: Any) -> None:
    """Give both halves of the adapters random numbers: B is zero in a fresh one, and with it half of the gradients."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator).to(parameter)


class _Gradients(TrainerCallback):
    """Notes the gradient of each step."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.found.append(_flat(parameter.grad for parameter in model.parameters() if parameter.requires_grad))


def _flat(tensors: Iterable[torch.Tensor]) -> Any:
    return torch.cat([tensor.detach().float().cpu().flatten() for tensor in tensors]).numpy()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
