"""A model's folder: its config, once it is found to bring no code of its own, its tensors, its template and licence."""

import json
import re
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.storage.foreign import read_json
from qlora_studio.storage.models.foreign_code import refuse_foreign_code
from qlora_studio.storage.models.safetensors_header import TensorEntry, read_safetensors_header

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` of a model folder, once it is found to bring no code of its own. Raises StudioError."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise _without_config(folder) from error
    except (ValueError, OSError) as error:
        raise _refused(folder, "its config.json cannot be read", "Download the model again.") from error
    if not isinstance(config, dict):
        raise _refused(folder, "its config.json is not a table", "Download the model again.")
    refuse_foreign_code(folder)
    return config


def folder_tensors(folder: Path) -> dict[str, TensorEntry]:
    """Return all tensors of a model folder, from the headers. Raises StudioError where files are missing or damaged."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = _indexed_files(folder, index)
    elif (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    if not files:
        raise _without_safetensors(folder)
    tensors: dict[str, TensorEntry] = {}
    for file in files:
        tensors |= read_safetensors_header(file)
    return tensors


def chat_template(folder: Path) -> str | None:
    """Return the chat template in a folder, or None where it has none."""
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text("utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = _json(folder / name).get("chat_template")
        if isinstance(template, list):
            named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
            template = named.get("default")
        if isinstance(template, str):
            return template
    return None


def generation_config(folder: Path) -> dict[str, Any]:
    """Return the `generation_config.json` of a model folder, or nothing where it has none that can be read."""
    return _json(folder / "generation_config.json")


def licence(folder: Path) -> str:
    """Return the licence that the model card names, or an empty text."""
    fields = dict(re.findall(r"^(license|license_name):\s*[\"']?([\w.+ -]+)", card_metadata(folder), re.M))
    found: str = fields.get("license", "").strip()
    return fields.get("license_name", found).strip() if found == "other" else found


def card_metadata(folder: Path) -> str:
    """Return what stands between the dashes at the head of the model card, as text; nothing where there is none."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    head = card.read_text("utf-8", errors="replace")[:20_000]
    return head.split("\n---", 1)[0] if head.startswith("---") else ""


def _indexed_files(folder: Path, index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(folder, f"{index.name} cannot be read", "Download the model again.") from error
    files = [folder / str(name) for name in names]
    if outside := [file for file in files if file.parent != folder]:
        raise _refused(folder, f"{index.name} points outside of it ({outside[0].name})", "Download the model again.")
    if missing := [file.name for file in files if not file.is_file()]:
        raise StudioError(
            f"{folder.name} is incomplete: {missing[0]} and {len(missing) - 1} more are missing."
            if len(missing) > 1
            else f"{folder.name} is incomplete: {missing[0]} is missing.",
            kind=FailureKind.MODEL_REFUSED,
            advice="Download the model again; it continues where it stopped.",
        )
    return files


def _without_config(folder: Path) -> StudioError:
    message, advice = f"{folder} is no model folder: it has no config.json.", ""
    if (folder / "adapter_config.json").is_file():
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path") or "the model it was trained on"
        message = f"{folder.name} holds an adapter, not a model."
        advice = f"Choose {base}, and name the adapter as lora.start_from to go on from it."
    elif found := next(folder.glob("*.gguf"), None):
        advice = f"Choose the GGUF file in it, {found.name}."
    return StudioError(
        message,
        kind=FailureKind.MODEL_NOT_FOUND,
        advice=advice or "Choose the folder that holds config.json and the .safetensors files.",
    )


def _without_safetensors(folder: Path) -> StudioError:
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        return _refused(
            folder,
            "its weights are pickled, and reading them would run whatever is inside",
            "Choose a revision with .safetensors files.",
        )
    return StudioError(
        f"{folder.name} has no weights: no .safetensors file is in it.",
        kind=FailureKind.MODEL_NOT_FOUND,
        advice="Choose the folder that holds config.json and the .safetensors files.",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (FileNotFoundError, StudioError):
        return {}


def _refused(folder: Path, why: str, advice: str) -> StudioError:
    return StudioError(f"{folder.name} is refused: {why}.", kind=FailureKind.MODEL_REFUSED, advice=advice)
