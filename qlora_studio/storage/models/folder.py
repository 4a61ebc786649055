"""A model's folder: its config, once it is found to bring no code of its own, its tensors, its template and licence."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.config_bounds import require_sound_config
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import open_regular, read_bytes, read_json
from qlora_studio.storage.models.foreign_code import refuse_foreign_code
from qlora_studio.storage.models.safetensors_header import TensorEntry, read_safetensors_header

INDEX = "model.safetensors.index.json"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
_LARGEST_OF_ANY = 128 << 20  # bytes; tokenizers of 260,000 words have 33 million
_LARGEST_CONFIG = 4 << 20  # bytes; those of models that also see have some ten thousand
_LARGEST_INDEX = 32 << 20  # bytes; a line for each tensor
_LARGEST_TEMPLATE = 1 << 20
_LONGEST_CARD = 20_000
_AGAIN = say("Download the model again.")
_MOST_TENSORS = 400_000  # of all files; the widest mixtures, stored expert by expert, have 200,000


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` of a model folder, once it is found to bring no code of its own. Raises StudioError.

    What it says has kinds and sizes that a model can have.
    """
    try:
        config = read_json(folder / "config.json", limit=_LARGEST_CONFIG, infinite=True)
    except FileNotFoundError as error:
        raise _without_config(folder) from error
    except StudioError as error:
        raise _refused(folder, say("its {why}", why=error.message.rstrip(".")), _AGAIN) from error
    require_plain_files(folder)
    require_sound_config(config, folder.name)
    refuse_foreign_code(folder)
    return config


def require_plain_files(folder: Path) -> None:
    """Raise StudioError where a file that a library reads beside the weights is a pipe, a device or far too large."""
    for path in sorted(path for pattern in _SMALL for path in folder.glob(pattern)):
        if not path.is_dir():
            with os.fdopen(open_regular(path), "rb") as file:
                size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_OF_ANY:
                raise _refused(folder, say("its {name} has {size:,} bytes", name=path.name, size=size), _AGAIN)


def folder_tensors(folder: Path) -> dict[str, TensorEntry]:
    """Return all tensors of a model folder, from the headers. Raises StudioError where files are missing or damaged."""
    tensors: dict[str, TensorEntry] = {}
    for file in weights_files(folder):
        tensors |= read_safetensors_header(file).tensors
        if len(tensors) > _MOST_TENSORS:
            raise _refused(
                folder, say("its files hold more than {most_tensors:,} tensors", most_tensors=_MOST_TENSORS), _AGAIN
            )
    return tensors


def held(tensors: Mapping[str, TensorEntry]) -> int:
    """Return how many numbers tensors hold together."""
    return sum(tensor.count for tensor in tensors.values())


def weights_files(folder: Path) -> list[Path]:
    """Return the files of a model's weights, in the order of their names. Raises StudioError where they are not there.

    They are those of its index, or the one that is found by its name, or all.
    """
    index, alone = folder / INDEX, folder / "model.safetensors"
    if os.path.lexists(index):
        return _indexed_files(folder, index)
    files = [alone] if os.path.lexists(alone) else sorted(folder.glob("*.safetensors"))
    if not files:
        raise _without_safetensors(folder)
    return files


def chat_template(folder: Path) -> str | None:
    """Return the chat template in a folder, or None where it has none."""
    with suppress(FileNotFoundError):
        return _text(folder / "chat_template.jinja", _LARGEST_TEMPLATE)
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = _json(folder / name).get("chat_template")
        if isinstance(template, list):
            named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
            template = named[-1].get("template") if named else None
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
    try:
        with os.fdopen(open_regular(folder / "README.md"), "rb") as file:
            head = file.read(_LONGEST_CARD).decode("utf-8", "replace").replace("\r\n", "\n")
    except (OSError, StudioError):
        return ""
    return head.split("\n---", 1)[0] if head.startswith("---") else ""


def _indexed_files(folder: Path, index: Path) -> list[Path]:
    try:
        places = read_json(index, limit=_LARGEST_INDEX).get("weight_map")
    except StudioError as error:
        raise _refused(folder, say("its {why}", why=error.message.rstrip(".")), _AGAIN) from error
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise _refused(
            folder, say("its {name} cannot be read: it does not say where tensors lie", name=index.name), _AGAIN
        )
    names = sorted(set(places.values()))
    if wrong := [name for name in names if not _FILE.fullmatch(name)]:
        raise _refused(
            folder,
            say("{name} points outside of it, or at no weights ({wrong})", name=index.name, wrong=wrong[0][:80]),
            _AGAIN,
        )
    files = [folder / name for name in names]
    if missing := [file.name for file in files if not file.is_file()]:
        raise StudioError(
            say(
                "{name} is incomplete: {missing} and {others} more are missing.",
                name=folder.name,
                missing=missing[0],
                others=len(missing) - 1,
            )
            if len(missing) > 1
            else say("{name} is incomplete: {missing} is missing.", name=folder.name, missing=missing[0]),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("Download the model again; it continues where it stopped."),
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
        advice=advice or say("Choose the folder that holds config.json and the .safetensors files."),
    )


def _without_safetensors(folder: Path) -> StudioError:
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        return _refused(
            folder,
            say("its weights are pickled, and reading them would run whatever is inside"),
            say("Choose a revision with .safetensors files."),
        )
    return StudioError(
        say("{name} has no weights: no .safetensors file is in it.", name=folder.name),
        kind=FailureKind.MODEL_NOT_FOUND,
        advice=say("Choose the folder that holds config.json and the .safetensors files."),
    )


def _text(path: Path, limit: int) -> str:
    try:
        return read_bytes(path, limit=limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(path.parent, say("{name} is no text", name=path.name), _AGAIN) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, infinite=True)
    except (FileNotFoundError, StudioError):
        return {}


def _refused(folder: Path, why: str, advice: str) -> StudioError:
    return StudioError(
        say("{name} is refused: {why}.", name=folder.name, why=why), kind=FailureKind.MODEL_REFUSED, advice=advice
    )
