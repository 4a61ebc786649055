"""Why a model cannot be loaded: one cause in one sentence. Only files that are damaged are said to be."""

import importlib.util
import json
from pathlib import Path

import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.stored_quantization import stored_quantization
from qlora_studio.storage.installation import install_command
from qlora_studio.storage.models.folder import folder_tensors, read_config

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")
LOAD_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError, StrictDataclassError)


def load_failure(folder: Path, error: Exception) -> StudioError:
    """Return the cause of a failed load: the files first, then what the library does not know or have.

    What is no fault of the model's, a card without memory for one, is raised as it is.
    """
    if isinstance(error, RuntimeError) and not _is_of_sizes(error):
        raise error
    try:
        folder_tensors(folder)
        config = read_config(folder)
    except StudioError as damage:
        return damage
    model_type = str(config.get("model_type") or "")
    told = " ".join(str(error).split())
    if stored := stored_quantization(config):
        why, advice = f"its weights are stored as {stored}", "Choose the original in 16 bits."
    elif model_type not in CONFIG_MAPPING:
        why = f"transformers {transformers.__version__} does not know models of type {model_type or 'that none names'}"
        advice = "A later version of QLoRA Studio may: update it, or choose another model."
    elif "Unrecognized configuration class" in told:
        why, advice = f"models of type {model_type} are no language models that write text", "Choose one that does."
    elif isinstance(error, ImportError):
        why, advice = f"a package is missing. {_sentence(told)}", "Install it into the environment of QLoRA Studio."
    elif _is_of_sizes(error):
        why = "its weights have other sizes than its config.json says"
        advice = "One of them belongs to another model: take config.json and weights from one place."
    elif "Validation error" in told or "validation error" in told:
        why = f"its config.json cannot be right. {_sentence(told.rsplit('Error: ', 1)[-1])}"
        advice = "Take the config.json that the model was published with."
    else:
        why, advice = f"{type(error).__name__} says: {_sentence(told)}", "The details say more."
    ending = "" if why.endswith((".", "!", "?")) else "."
    return StudioError(
        f"The model in {folder.name} cannot be loaded: {why}{ending}",
        kind=FailureKind.MODEL_REFUSED,
        advice=advice,
        detail=str(error),
    )


def tokenizer_failure(folder: Path, error: Exception) -> StudioError:
    """Return the cause of a failed load of a tokenizer."""
    told = " ".join(str(error).split())
    files = [name for name in _TOKENIZERS if (folder / name).is_file()]
    why, advice = f"{type(error).__name__} says: {_sentence(told)}", "The details say more."
    if "custom code" in told or "trust_remote_code" in told:
        why, advice = "it brings Python code of its own", "Choose a model whose tokenizer transformers knows."
    elif not files:
        why = "the folder has none"
        advice = "Put the model's tokenizer.json and tokenizer_config.json there; fine-tuned copies often lack them."
    elif broken := next(filter(None, map(_broken_json, folder.glob("tokenizer*.json"))), ""):
        why, advice = broken, "Take that file from where the model was published."
    elif "tokenizer.json" not in files and _has_no_sentencepiece():
        why = f"{files[0]} needs the package sentencepiece, which is not installed"
        advice = f"Add the model's tokenizer.json, or install it: {install_command('sentencepiece')}"
    ending = "" if why.endswith((".", "!", "?")) else "."
    return StudioError(
        f"The tokenizer of {folder.name} cannot be loaded: {why}{ending}",
        kind=FailureKind.MODEL_REFUSED,
        advice=advice,
        detail=str(error),
    )


def _broken_json(path: Path) -> str:
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        return f"{path.name} is no JSON ({error})"
    is_whole = path.name != "tokenizer.json" or "model" in read
    return "" if is_whole else f"{path.name} describes no tokenizer"


def _has_no_sentencepiece() -> bool:
    return importlib.util.find_spec("sentencepiece") is None


def _is_of_sizes(error: Exception) -> bool:
    return "ignore_mismatched_sizes" in str(error) or "size mismatch" in str(error)


def _sentence(text: str) -> str:
    """Return the first sentence of a library's words, not too long."""
    return text.split(". ", 1)[0][:200].rstrip(".") + "."
