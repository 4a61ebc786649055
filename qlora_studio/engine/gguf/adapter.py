"""An adapter alone as a GGUF, for llama.cpp's `--lora`: A and B of each projection, laid out as the base's weights."""

from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.engine.gguf.layout import arranged, layout_of
from qlora_studio.engine.merge.adapter_change import LowRank
from qlora_studio.engine.merge.adapter_delta import AdapterDelta, load_adapter


def write_gguf_adapter(base: Path, adapter: Path, folder: Path, *, name: str) -> dict[str, Any]:
    """Write `folder/NAME-LoRA.gguf` and return its name. Raises StudioError for what such a file cannot hold."""
    import gguf
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True).to_dict()
    layout = layout_of(config)
    delta = load_adapter(adapter)
    updates = _updates(delta)
    architecture = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == layout.architecture)
    mapping = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    file = folder / f"{name}-LoRA.gguf"
    writer = gguf.GGUFWriter(file, layout.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(updates))
    writer.add_name(name)
    for tensor, update in updates.items():
        place = mapping.get_name(tensor, try_suffixes=(".weight",))
        if place is None:
            raise _refused(f"{tensor} has no place in a GGUF of this family.")
        scaled = _scaled(update, _alpha(updates))
        writer.add_tensor(f"{place}.lora_a", update.a.whole().numpy())
        writer.add_tensor(f"{place}.lora_b", arranged(tensor, scaled, config, layout).contiguous().numpy())
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return {"file": file.name, "tensors_merged": 0}


def _updates(delta: AdapterDelta) -> dict[str, LowRank]:
    found: dict[str, LowRank] = {}
    for name, change in delta.changes.items():
        update = change.low_rank
        if update is None or change.addend is not None or update.magnitude is not None or update.transposed:
            raise _refused(f"{name} is changed by more than a plain low-rank update.")
        found[name] = update
    return found


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
