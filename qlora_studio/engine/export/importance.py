"""How much each input of a linear layer matters: the mean square of what flows into it, on the run's own rows.

llama.cpp calls it an importance matrix: whoever rounds to few bits and knows it rounds where it is felt least. It is
measured with the model as it was trained, base in 4 bit and adapter: that takes no more memory than training did.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers.pytorch_utils import Conv1D

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Activity
from qlora_studio.engine.context import Channel
from qlora_studio.engine.data.rows_again import rows_again
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.model.adapted import load_base, release_memory
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.model.saved_adapter import with_saved_adapter
from qlora_studio.storage.runs.run_folder import RunFolder

_TOKENS_ON_CPU = 8_000
_TOKENS_ON_CARD = 100_000
Values = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Importance:
    """Mean squares by the weights' names in memory, each of shape (in,), over `tokens` tokens.

    `of` says of which rows: held-out or training.
    """

    of: str = ""
    tokens: int = 0
    values: Values = field(default_factory=dict)

    def stored(self, weights: MergedWeights) -> Values:
        """Return the values by the names of the tensors in the files; what has no tensor of its own is left out."""
        found: Values = {}
        for name, value in self.values.items():
            with suppress(StudioError):
                found[weights.stored_name(name)] = value
        return found


def measured_importance(run: RunFolder, config: RunConfig, base: Path, adapter: Path, channel: Channel) -> Importance:
    """Return what matters to a run's base with one of its adapters; nothing, and a warning, where its rows are gone."""
    channel.phase(Activity.WEIGHING)
    problem = "Which weights matter most cannot be measured"
    data = rows_again(run, config, tokenizer_of(base), channel, problem)
    if data is None:
        return Importance()
    device = choose_device(config, channel)
    of, rows = ("held-out", data.evaluation) if data.evaluation else ("training", data.training)
    chosen = _first(rows, _TOKENS_ON_CARD if device.is_cuda else _TOKENS_ON_CPU)
    model = with_saved_adapter(load_base(base, config, device, adapter, channel), adapter).eval()
    values = mean_squares(model, chosen, channel)
    del model
    release_memory()
    return Importance(of, sum(map(len, chosen)), values)


def mean_squares(model: Any, sequences: Sequence[Sequence[int]], channel: Channel) -> Values:
    """Return the mean square of each input of each linear layer but the head, over all tokens of the sequences.

    By the weights' names in memory, without what peft puts around them.
    """
    sums: dict[str, tuple[torch.Tensor, int]] = {}

    def watched(name: str) -> Any:
        def look(_module: Any, inputs: tuple[Any, ...]) -> None:
            flat = inputs[0].detach().float().flatten(0, -2)
            before, count = sums.get(name, (0.0, 0))
            sums[name] = (before + flat.square().sum(dim=0), count + len(flat))

        return look

    hooks = [module.register_forward_pre_hook(watched(name)) for name, module in _linear(model)]
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    few = {"logits_to_keep": 1} if "logits_to_keep" in signature(base.forward).parameters else {}  # nobody reads them
    try:
        with torch.inference_mode():
            for number, ids in enumerate(sequences):
                channel.raise_if_stopped()
                channel.progress("weighing", number, len(sequences), "rows")
                model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False, **few)
    finally:
        for hook in hooks:
            hook.remove()
    return {f"{name}.weight": (total / count).cpu().numpy() for name, (total, count) in sums.items()}


def _linear(model: Any) -> Iterable[tuple[str, Any]]:
    """Yield the linear layers of the base and their names there; neither the head nor what adapters are made of."""
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        is_ours = isinstance(module, torch.nn.Linear | Conv1D) and module is not head
        if is_ours and not any(part.startswith(("lora_", "modules_to_save", "original_")) for part in plain.split(".")):
            yield plain, module


def _first(rows: Any, budget: int) -> list[list[int]]:
    """Return the ids of the first rows, or packs, up to about so many tokens."""
    chosen: list[list[int]] = []
    for row in rows:
        if budget <= 0:
            break
        chosen.append(list(row["input_ids"]))
        budget -= len(chosen[-1])
    return chosen
