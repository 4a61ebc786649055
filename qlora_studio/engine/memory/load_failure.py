"""Why a model cannot be loaded: one cause in one sentence. Only files that are damaged are said to be."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import PickleError
from zipfile import BadZipFile

import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.stored_quantization import stored_quantization
from qlora_studio.core.words import say
from qlora_studio.engine.faults import is_card_lost, is_disk_full, is_out_of_memory
from qlora_studio.storage.foreign import read_json
from qlora_studio.storage.installation import install_command
from qlora_studio.storage.models.folder import folder_tensors, read_config

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")
_LARGEST_TOKENIZER = 128 << 20  # bytes; those of 260,000 words have 33 million
# What libraries raise where a file is not what they take for granted
_LIBRARY_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, ImportError),
    *(RuntimeError, StopIteration, EOFError, PickleError, BadZipFile, SafetensorError, StrictDataclassError),
)


@contextmanager
def told(failure: Callable[[Exception], StudioError]) -> Iterator[None]:
    """Raise whatever a library makes of a stranger's file as the StudioError that `failure` makes of that.

    A card or computer without memory, or a full disk, is no fault of the file's: that is raised as it is.
    """
    try:
        yield
    except Exception as error:  # tokenizers raises it by no other name
        if not isinstance(error, _LIBRARY_ERRORS) and type(error) is not Exception:
            raise
        if is_out_of_memory(error) or is_card_lost(error) or is_disk_full(error):
            raise
        raise failure(error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of libraries that are written in Rust
            raise
        raise failure(ValueError(str(error))) from error


def load_failure(folder: Path, error: Exception) -> StudioError:
    """Return the cause of a failed load: the files first, then what the library does not know or have.

    What is no fault of the model's, a card that the libraries cannot use for one, is raised as it is.
    """
    if isinstance(error, RuntimeError) and not isinstance(error, RecursionError) and not _is_of_sizes(error):
        raise error
    try:
        folder_tensors(folder)
    except StudioError as damage:
        return damage
    return config_failure(folder, error)


def config_failure(folder: Path, error: Exception) -> StudioError:
    """Return why transformers makes no model of a folder's `config.json`."""
    try:
        config = read_config(folder)
    except StudioError as damage:
        return damage
    model_type = str(config.get("model_type") or "")
    words = " ".join(str(error).split())
    if stored := stored_quantization(config):
        why, advice = f"its weights are stored as {stored}", "Choose the original in 16 bits."
    elif model_type not in CONFIG_MAPPING:
        why = f"transformers {transformers.__version__} does not know models of type {model_type or 'that none names'}"
        advice = "A later version of QLoRA Studio may: update it, or choose another model."
    elif "Unrecognized configuration class" in words:
        why, advice = f"models of type {model_type} are no language models that write text", "Choose one that does."
    elif isinstance(error, ImportError):
        why, advice = f"a package is missing. {_sentence(words)}", "Install it into the environment of QLoRA Studio."
    elif _is_of_sizes(error):
        why = "its weights have other sizes than its config.json says"
        advice = "One of them belongs to another model: take config.json and weights from one place."
    elif "Validation error" in words or "validation error" in words:
        why = f"its config.json cannot be right. {_sentence(words.rsplit('Error: ', 1)[-1])}"
        advice = "Take the config.json that the model was published with."
    else:
        why, advice = f"{type(error).__name__} says: {_sentence(words)}", "The details say more."
    ending = "" if why.endswith((".", "!", "?")) else "."
    return StudioError(
        say("The model in {name} cannot be loaded: {why}{ending}", name=folder.name, why=why, ending=ending),
        kind=FailureKind.MODEL_REFUSED,
        advice=advice,
        detail=str(error),
    )


def gguf_failure(path: Path, error: Exception) -> StudioError:
    """Return why a library does not read a GGUF file whose header is in order."""
    words = " ".join(str(error).split())
    return StudioError(
        say(
            "{name} cannot be read: {error} says: {sentence}",
            name=path.name,
            error=type(error).__name__,
            sentence=_sentence(words),
        ),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Download or copy it again, or take the model's folder of safetensors files."),
        detail=str(error),
    )


def tokenizer_failure(folder: Path, error: Exception) -> StudioError:
    """Return the cause of a failed load of a tokenizer."""
    words = " ".join(str(error).split())
    files = [name for name in _TOKENIZERS if (folder / name).is_file()]
    why, advice = f"{type(error).__name__} says: {_sentence(words)}", "The details say more."
    if "custom code" in words or "trust_remote_code" in words:
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
        say("The tokenizer of {name} cannot be loaded: {why}{ending}", name=folder.name, why=why, ending=ending),
        kind=FailureKind.MODEL_REFUSED,
        advice=advice,
        detail=str(error),
    )


def _broken_json(path: Path) -> str:
    try:
        read = read_json(path, limit=_LARGEST_TOKENIZER, infinite=True)
    except (FileNotFoundError, StudioError) as error:
        return str(error)
    is_whole = path.name != "tokenizer.json" or "model" in read
    return "" if is_whole else f"{path.name} describes no tokenizer"


def _has_no_sentencepiece() -> bool:
    return importlib.util.find_spec("sentencepiece") is None


def _is_of_sizes(error: Exception) -> bool:
    return "ignore_mismatched_sizes" in str(error) or "size mismatch" in str(error)


def _sentence(text: str) -> str:
    """Return the first sentence of a library's words, not too long."""
    return text.split(". ", 1)[0][:200].rstrip(".") + "."
