"""Bases whose files hold quantized weights: known before anything is loaded, with the original where it is named."""

import re
from pathlib import Path

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.stored_quantization import is_hub_id, stored_quantization, without_quantization
from qlora_studio.storage.models.catalogue import find_in_catalogue, model_catalogue
from qlora_studio.storage.models.folder import card_metadata, read_config


def refuse_quantized(folder: Path, source: str) -> None:
    """Raise StudioError where a model's weights are stored quantized: nothing trained on them could be merged."""
    if stored := stored_quantization(read_config(folder)):
        name = source if is_hub_id(source) else folder.name
        raise _refusal(name, stored, original_advice(original_of(folder, source)))


def refuse_known_quantized(source: str) -> None:
    """Raise StudioError where the catalogue knows a model that is not here as one that is stored quantized."""
    known = find_in_catalogue(source)
    if known is not None and known.stored:
        raise _refusal(known.id, known.stored, original_advice(""))


def quantized_words(folder: Path | None, source: str) -> str:
    """Return what a user should know of a model that is stored quantized; nothing where it is stored whole.

    Of a model that is not here, `folder` is None and the catalogue is asked.
    """
    known = find_in_catalogue(source) if folder is None else None
    stored = stored_quantization(read_config(folder)) if folder else known.stored if known else ""
    if not stored:
        return ""
    original = original_of(folder, source) if folder else ""
    return f"Stored quantized ({stored}), so it is not trained. {original_advice(original)}"


def original_advice(original: str) -> str:
    """Return which model to choose instead of one that is stored quantized, by the original's name or without one."""
    instead = f"Choose the original in 16 bits, {original}" if original else "Choose the same model in 16 bits"
    return f"{instead}: it is quantized to 4 bits while it is loaded, so it takes no more of the card."


def original_of(folder: Path, source: str) -> str:
    """Return the hub's name of what a quantized model was made from; nothing where nothing says it.

    The model card says it, or the config's `_name_or_path`, or the repository's name less its suffix is the name of
    one model of the catalogue.
    """
    own = source if is_hub_id(source) else folder.name
    told = [*_base_models(card_metadata(folder)), read_config(folder).get("_name_or_path")]
    for name in told:
        if isinstance(name, str) and is_hub_id(name) and name != own and without_quantization(name) in name.split("/"):
            return name
    plain = without_quantization(own).lower()
    if plain == own.rsplit("/", 1)[-1].lower():
        return ""
    alike = [model.id for model in model_catalogue() if model.id.rsplit("/", 1)[-1].lower() == plain]
    return alike[0] if len(alike) == 1 else ""


def _refusal(name: str, stored: str, advice: str) -> StudioError:
    message = f"{name} is stored quantized ({stored}): what is trained on it cannot be merged into whole weights."
    return StudioError(message, kind=FailureKind.MODEL_REFUSED, advice=advice)


def _base_models(card: str) -> list[str]:
    """Return what the front matter of a model card names as `base_model`: a name, or a list of them."""
    found = re.search(r"^base_model:[ \t]*(.*(?:\n[ \t]*-.*)*)", card, re.MULTILINE)
    return re.findall(r"[\w.-]+/[\w.-]+", found[1]) if found else []
