"""An adapter alone as a GGUF, for llama.cpp's `--lora`: A and B of each projection, laid out as the base's weights."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.gguf.layout import GgufLayout
from qlora_studio.engine.gguf.numbers import gguf_numbers
from qlora_studio.engine.gguf.text_part import settings_of
from qlora_studio.engine.memory.architecture import config_of
from qlora_studio.engine.merge.adapter_change import Change, StackedLowRank
from qlora_studio.engine.merge.conversion import Block
from qlora_studio.engine.merge.merged_tensor import MergedTensor
from qlora_studio.engine.merge.weights import MergedWeights

_EXPERT = re.compile(r"\.experts\.(\d+)\.")
Pair = tuple[torch.Tensor, torch.Tensor]


def write_gguf_adapter(base: Path, adapter: Path, folder: Path, *, name: str) -> dict[str, Any]:
    """Write `folder/NAME-LoRA.gguf` and return its name. Raises StudioError for what such a file cannot hold."""
    import gguf

    config = settings_of(config_of(base))
    layout = GgufLayout(config, int(gguf_numbers(config)["block_count"]))  # type: ignore[arg-type]
    updates = _updates(MergedWeights(base, adapter))
    if passed := [update.name for update in updates if update.name.split(".")[-2] in layout.traits.without_adapters]:
        raise _refused(
            say(
                "llama.cpp would pass over what it does to {passed} and {others} others.",
                passed=passed[0],
                others=len(passed) - 1,
            )
        )
    file = folder / f"{name}-LoRA.gguf"
    writer = gguf.GGUFWriter(file, layout.traits.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(updates))
    writer.add_name(name)
    for place, (a, b) in _placed(updates, layout).items():
        writer.add_tensor(f"{place}.lora_a", a.contiguous().numpy())
        writer.add_tensor(f"{place}.lora_b", b.contiguous().numpy())
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return {"file": file.name, "tensors_merged": 0}


@dataclass(frozen=True)
class _Update:
    """What is added to a tensor in the base's files, or to one expert's part of a stack: scale · B A.

    `transposed` where that is stored as (in, out). `expert` is the number of the expert, None where there are none.
    """

    name: str
    a: torch.Tensor
    b: torch.Tensor
    scale: float
    transposed: bool = False
    expert: int | None = None
    is_stack: bool = False


def _updates(weights: MergedWeights) -> list[_Update]:
    """The updates by the base's own names for what they change."""
    return [update for tensor in weights.tensors.values() if tensor.change for update in _of_tensor(tensor)]


def _of_tensor(tensor: MergedTensor) -> Iterator[_Update]:
    change, name = tensor.change or Change(), tensor.name
    part = change.parts[0] if len(change.parts) == 1 else None
    inner = part.change if part else change
    update = inner.low_rank
    is_plain = update is None or update.magnitude is None
    if len(change.parts) > 1 or (part and change.low_rank) or inner.addend is not None or not is_plain:
        raise _refused(say("{name} is changed by more than a plain low-rank update.", name=name))
    if part and inner.stacked:
        yield from _of_experts(name, part.block, inner.stacked, is_stack=len(tensor.shape) == 3)
    elif update is not None and part is None:
        found = _EXPERT.search(name)
        expert = int(found[1]) if found else None
        yield _Update(name, update.a.whole(), update.b.whole(), update.scale, update.transposed, expert)
    else:
        raise _refused(say("{name} is changed by more than a plain low-rank update.", name=name))


def _of_experts(name: str, block: Block, stacked: StackedLowRank, *, is_stack: bool) -> Iterator[_Update]:
    experts, rows, columns = block.places
    transposed = block.axes[1] > block.axes[2] if block.axes[1] is not None and block.axes[2] is not None else False
    if stacked.inputs_first:
        rows, columns, transposed = columns, rows, not transposed
    for expert in experts.tolist():
        a, b = stacked.halves(expert)
        yield _Update(name, a[:, columns], b[rows], stacked.scale, transposed, expert, is_stack)


def _placed(updates: list[_Update], layout: GgufLayout) -> dict[str, Pair]:
    """Return A and B by the GGUF's own names; of experts, those of all stacked, in their order."""
    found: dict[str, dict[int | None, Pair]] = {}
    for update in updates:
        for key, pair in _laid_out(update, _alpha(updates), layout).items():
            found.setdefault(layout.name_of(key), {})[update.expert] = pair
    return {place: _together(place, pairs) for place, pairs in found.items()}


def _together(place: str, pairs: dict[int | None, Pair]) -> Pair:
    if None in pairs:
        return pairs[None]
    ordered = [pairs.get(number) for number in range(len(pairs))]
    ranks = {pair[0].shape for pair in ordered if pair}
    if None in ordered or len(ranks) > 1:
        raise _refused(say("It changes some of the experts of {place}, or with unlike ranks.", place=place))
    return torch.stack([pair[0] for pair in ordered if pair]), torch.stack([pair[1] for pair in ordered if pair])


def _laid_out(update: _Update, alpha: float, layout: GgufLayout) -> dict[str, Pair]:
    """Return A (rank, in) and B (out, rank) of each tensor that GGUF makes of one.

    Where rows are rearranged B is, where columns are A is, and a transposed layer becomes a plain one: which of these
    it is shows in their product.
    """
    a, b = update.a, _scaled(update, alpha)
    whole = _tried(layout, update, b @ a)
    if whole is None and update.transposed:
        raise _refused(say("{name} is an embedding.", name=update.name))
    if whole is None:
        return {update.name: (a, b)}
    by_rows, by_columns = _tried(layout, update, b) or {}, _tried(layout, update, a) or {}
    found = {}
    for key, wanted in whole.items():
        pairs = ((a, b), (a, by_rows.get(key)), (by_columns.get(key), b))
        fitting = next((pair for pair in pairs if _gives(pair, wanted)), None)
        if fitting is None:
            raise _refused(
                say("{name} is laid out in a GGUF in a way that leaves no low-rank update.", name=update.name)
            )
        found[key] = fitting
    return found


def _tried(layout: GgufLayout, update: _Update, matrix: torch.Tensor) -> dict[str, torch.Tensor] | None:
    """What becomes of a matrix (out, in) as its tensor is stored; nothing where its shape does not allow that."""
    stored = matrix.T if update.transposed else matrix
    try:
        found = layout.rearranged(update.name, stored[None] if update.is_stack else stored)
    except (RuntimeError, IndexError):
        return {}
    return found and {key: part.squeeze(0) if update.is_stack else part for key, part in found.items()}


def _gives(pair: tuple[torch.Tensor | None, torch.Tensor | None], wanted: torch.Tensor) -> TypeGuard[Pair]:
    a, b = pair
    if a is None or b is None or (b.shape[0], a.shape[-1]) != wanted.shape or a.shape[0] != b.shape[-1]:
        return False
    return torch.allclose(b @ a, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))


def _alpha(updates: list[_Update]) -> float:
    """The alpha that gives the first projection's scale: llama.cpp computes alpha / rank of each."""
    first = updates[0]
    return first.scale * first.a.shape[0]


def _scaled(update: _Update, alpha: float) -> torch.Tensor:
    """B, (out, rank), fp32, such that alpha / rank times it is the update: other scales are multiplied in."""
    factor = update.scale / (alpha / update.a.shape[0])
    return update.b * factor if factor != 1.0 else update.b


def _refused(why: str) -> StudioError:
    return StudioError(
        say("This adapter cannot be written as a GGUF. {why}", why=why),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Export the merged model as a GGUF instead."),
    )
