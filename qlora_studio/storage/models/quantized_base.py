"""Bases whose files hold quantized weights: known before anything is loaded, with the original where it is named."""

import re
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.model.stored_quantization import (
    TITLES,
    is_hub_id,
    is_unpacked,
    stored_in_4_bits,
    stored_quantization,
    without_quantization,
)
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.storage.models.catalogue import CatalogueModel, find_in_catalogue, model_catalogue
from qlora_studio.storage.models.folder import card_metadata, folder_tensors, held, read_config
from qlora_studio.storage.models.hub_cache import cached_snapshot

_TOO_MANY_TIMES, _HARMLESS = 4, 100_000_000  # parameters
_WHOLE = ("F64", "F32", "F16", "BF16")
_NAME_IT = say("Name the 16-bit original, a folder or a hub id (quantization.original)")


def refuse_quantized(folder: Path, source: str, named: str = "", *, merges: bool = True) -> None:
    """Raise StudioError where a model's weights are stored quantized in a way that a run cannot start from.

    Those of bitsandbytes in 4 bits are trained as they are, where the 16-bit original is known, and, where the run
    `merges`, here: a merge goes into that. `named` is what the user says the original is.
    """
    config = read_config(folder)
    stored = stored_quantization(config)
    if not stored or is_unpacked(config):
        return
    original = original_name(folder, source, named)
    name = source if is_hub_id(source) else folder.name
    if not stored_in_4_bits(config):
        raise _refusal(name, stored, original_advice(original))
    if not original:
        raise StudioError(
            say("{name} is stored in 4 bits, and nothing in it says which 16-bit model it was made from.", name=name),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("{name_it}: what is trained is merged into that.", name_it=_NAME_IT),
        )
    if merges:
        original_folder(folder, source, named)


def refuse_packed(folder: Path, source: str) -> None:
    """Raise StudioError where weights are missing or damaged, or are not what the config says or how to read them.

    Some tools write quantized weights and leave it to a file of their own to say so.
    """
    tensors, config = folder_tensors(folder), read_config(folder)
    largest = max(tensors.values(), key=lambda tensor: tensor.end - tensor.start, default=None)
    if largest is None or stored_quantization(config):
        return
    if largest.dtype in _WHOLE:
        shape = shape_from_config(config)
        require_weights_of(shape.parameters if shape.exact else 0, held(tensors), folder.name)
        return
    raise StudioError(
        say(
            "{name} has weights of type {dtype}, and its config.json does not say how to read them.",
            name=folder.name,
            dtype=largest.dtype,
        ),
        kind=FailureKind.MODEL_REFUSED,
        advice=original_advice(original_name(folder, source, "")),
    )


def require_weights_of(parameters: int, stored: int, name: str) -> None:
    """Raise StudioError where a model is said to have far more parameters than its files hold.

    Room for it would be made before the first weight is missed. Which size each weight has is asked when it is loaded.
    """
    if parameters > max(_TOO_MANY_TIMES * stored, _HARMLESS):
        raise StudioError(
            say(
                "{name} is refused: it says that it has {parameters:,} parameters, and holds {stored:,}.",
                name=name,
                parameters=parameters,
                stored=stored,
            ),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("Its weights belong to another model, or are not all there: download or copy it again."),
        )


def original_folder(folder: Path, source: str, named: str = "") -> Path:
    """Return where the original of a quantized model lies. Raises StudioError where it is not here, or is none."""
    original = original_name(folder, source, named)
    found = locate_original(original) if original else None
    name = source if is_hub_id(source) else folder.name
    if found is None:
        raise StudioError(
            say(
                "A merge goes into the 16-bit original of {name}, {original}: it is not here.",
                name=name,
                original=original or say("which nothing names"),
            ),
            kind=FailureKind.MODEL_NOT_FOUND,
            advice=say(
                "Download it: qlora-studio download {original}. {name_it} where it lies elsewhere.",
                original=original,
                name_it=_NAME_IT,
            )
            if is_hub_id(original)
            else f"{_NAME_IT}.",
        )
    if stored := stored_quantization(read_config(found)):
        raise StudioError(
            say(
                "{original} is stored quantized too ({stored}), so it is not the original of {name}.",
                original=original,
                stored=stored,
                name=name,
            ),
            kind=FailureKind.MODEL_REFUSED,
            advice=f"{_NAME_IT}.",
        )
    return found


def locate_original(name: str) -> Path | None:
    """Return the folder of a model in 16 bits, a local one or one in the hub's cache; None where it is not here."""
    place = whole_path(name)
    if place.is_dir():
        return place.resolve()
    return cached_snapshot(name, "main") if is_hub_id(name) else None


def refuse_known_quantized(source: str) -> None:
    """Raise StudioError where the catalogue knows a model that is not here as one that is stored quantized."""
    known = find_in_catalogue(source)
    if known is not None and (stored := refused_as_stored(known)):
        raise _refusal(known.id, stored, original_advice(""))


def refused_as_stored(known: CatalogueModel) -> str:
    """Return how a model of the catalogue is stored, where no run can start from that; else nothing."""
    return "" if is_unpacked(_config_of(known)) else known.stored


def quantized_words(folder: Path | None, source: str) -> str:
    """Return what a user should know of a model that is stored quantized; nothing where it is stored whole.

    Of a model that is not here, `folder` is None and the catalogue is asked.
    """
    known = find_in_catalogue(source) if folder is None else None
    config = read_config(folder) if folder else _config_of(known) if known else {}
    stored = stored_quantization(config)
    if not stored:
        return ""
    if is_unpacked(config):
        size = bytes_text(2 * shape_from_config(config).parameters)
        return f"Stored in {stored}. When it is first used, it is written out in 16 bits: {size} in the cache."
    original = original_name(folder, source, "") if folder else ""
    if not stored_in_4_bits(config):
        return f"Stored quantized ({stored}), so it is not trained. {original_advice(original)}"
    if not original:
        return "Stored in 4 bits. It can be trained once you name its 16-bit original (quantization.original)."
    here = "which is here" if locate_original(original) else "which is not here yet: download it before you train"
    return f"Stored in 4 bits, and trained as it is. What is trained is merged into its original, {original}, {here}."


def _config_of(known: CatalogueModel) -> dict[str, Any]:
    """Return the config of a model of the catalogue, with how it is stored."""
    method = next((name for name, title in TITLES.items() if title == known.stored), known.stored)
    return {**known.config, "quantization_config": {"quant_method": method}} if known.stored else known.config


def original_advice(original: str) -> str:
    """Return which model to choose instead of one that is stored quantized, by the original's name or without one."""
    instead = f"Choose the original in 16 bits, {original}" if original else "Choose the same model in 16 bits"
    return f"{instead}: it is quantized to 4 bits while it is loaded, so it takes no more of the card."


def original_name(folder: Path, source: str, named: str) -> str:
    """Return what a quantized model was made from, as the user or else the model says it; nothing where none does.

    Who quantizes a model often keeps a whole copy beside it, under the name without the suffix: that is taken where it
    is here and the one that is told is not.
    """
    told = named or original_of(folder, source)
    if named or not is_hub_id(source) or (told and locate_original(told)):
        return told
    beside = f"{source.split('/')[0]}/{without_quantization(source)}"
    return beside if beside != source and locate_original(beside) else told


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
