"""An adapter alone as a GGUF, for llama.cpp's `--lora`: A and B of each projection, laid out as the base's weights."""

from pathlib import Path
from typing import Any, TypeGuard

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.engine.gguf.layout import GgufLayout
from qlora_studio.engine.gguf.numbers import gguf_numbers
from qlora_studio.engine.merge.adapter_change import LowRank
from qlora_studio.engine.merge.weights import MergedWeights

Pair = tuple[torch.Tensor, torch.Tensor]


def write_gguf_adapter(base: Path, adapter: Path, folder: Path, *, name: str) -> dict[str, Any]:
    """Write `folder/NAME-LoRA.gguf` and return its name. Raises StudioError for what such a file cannot hold."""
    import gguf
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True).to_dict()
    layout = GgufLayout(config, int(gguf_numbers(config)["block_count"]))  # type: ignore[arg-type]
    updates = _updates(MergedWeights(base, adapter))
    file = folder / f"{name}-LoRA.gguf"
    writer = gguf.GGUFWriter(file, layout.traits.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(updates))
    writer.add_name(name)
    for tensor, update in updates.items():
        for key, (a, b) in _laid_out(tensor, update, _alpha(updates), layout).items():
            place = layout.name_of(key)
            writer.add_tensor(f"{place}.lora_a", a.contiguous().numpy())
            writer.add_tensor(f"{place}.lora_b", b.contiguous().numpy())
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return {"file": file.name, "tensors_merged": 0}


def _updates(weights: MergedWeights) -> dict[str, LowRank]:
    """The updates by the base's own names for what they change."""
    found: dict[str, LowRank] = {}
    for name, tensor in weights.tensors.items():
        if (change := tensor.change) is None:
            continue
        update = change.low_rank
        if update is None or change.addend is not None or update.magnitude is not None:
            raise _refused(f"{name} is changed by more than a plain low-rank update.")
        found[name] = update
    return found


def _laid_out(name: str, update: LowRank, alpha: float, layout: GgufLayout) -> dict[str, Pair]:
    """Return A (rank, in) and B (out, rank) of each tensor that GGUF makes of one.

    Where rows are rearranged B is, where columns are A is, and a transposed layer becomes a plain one: which of these
    it is shows in their product.
    """
    a, b = update.a.whole(), _scaled(update, alpha)
    product = b @ a
    whole = layout.rearranged(name, product.T if update.transposed else product)
    if whole is None and update.transposed:
        raise _refused(f"{name} is an embedding.")
    if whole is None:
        return {name: (a, b)}
    by_rows, by_columns = _tried(layout, name, b), _tried(layout, name, a)
    found = {}
    for key, wanted in whole.items():
        pairs = ((a, b), (a, by_rows.get(key)), (by_columns.get(key), b))
        fitting = next((pair for pair in pairs if _gives(pair, wanted)), None)
        if fitting is None:
            raise _refused(f"{name} is laid out in a GGUF in a way that leaves no low-rank update.")
        found[key] = fitting
    return found


def _tried(layout: GgufLayout, name: str, half: torch.Tensor) -> dict[str, torch.Tensor]:
    """What becomes of A or B alone; nothing where its shape does not allow that."""
    try:
        return layout.rearranged(name, half) or {}
    except (RuntimeError, IndexError):
        return {}


def _gives(pair: tuple[torch.Tensor | None, torch.Tensor | None], wanted: torch.Tensor) -> TypeGuard[Pair]:
    a, b = pair
    if a is None or b is None or (b.shape[0], a.shape[-1]) != wanted.shape or a.shape[0] != b.shape[-1]:
        return False
    return torch.allclose(b @ a, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))


def _alpha(updates: dict[str, LowRank]) -> float:
    """The alpha that gives the first projection's scale: llama.cpp computes alpha / rank of each."""
    first = next(iter(updates.values()))
    return first.scale * first.a.shape[0]


def _scaled(update: LowRank, alpha: float) -> torch.Tensor:
    """B, (out, rank), fp32, such that alpha / rank times it is the update: other scales are multiplied in."""
    factor = update.scale / (alpha / update.a.shape[0])
    return update.b.whole() * factor if factor != 1.0 else update.b.whole()


def _refused(why: str) -> StudioError:
    return StudioError(
        f"This adapter cannot be written as a GGUF. {why}",
        kind=FailureKind.MODEL_REFUSED,
        advice="Export the merged model as a GGUF instead.",
    )
