"""The gate in front of every model, tokenizer and adapter: what their small files ask for besides being read.

Every load says `trust_remote_code=False`, and nothing that only that would run is looked at here: a tokenizer's or a
processor's `auto_map`, for one. Refused, by file and key, is what the libraries go after all the same: code of a model
that they do not know, kernels from the hub, another file in the place of the one that was read, an adapter that they
would lay over the model unasked, and a file elsewhere on this computer, which an export would carry away.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.foreign_text import LARGEST_JSON
from qlora_studio.core.model.family import FAMILIES
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import leads_out, read_bytes, unreadable

CONFIG, ADAPTER_CONFIG, TOKENIZER_CONFIG = "config.json", "adapter_config.json", "tokenizer_config.json"
_OWN = say("Choose a model that transformers supports by itself.")
_KERNELS = ("_implementation", "_implementation_internal", "kernel_config")  # ends of names of keys
_INSTEAD = ("configuration_files", "transformers_weights")  # other files than those that are looked at here
_PASSED_OVER = ("special_tokens_map_file",)  # a path of whoever saved the tokenizer; nothing opens it
_WEIGHTS = (".safetensors", ".gguf")
# What means something only to who trusts code: no file that is written here has it.
_OF_CODE = ("auto_map", "custom_generate", "custom_pipelines", "trust_remote_code")


def refuse_foreign_code(folder: Path) -> None:
    """Raise StudioError where a file in the folder of a model, a tokenizer or an adapter asks for what it must not."""
    for path in sorted(folder.glob("*")):
        if path.is_symlink() and path.suffix not in _WEIGHTS and leads_out(path, folder):
            raise _refused(
                folder,
                say("{name} is a link to a file outside of the folder", name=path.name),
                say("Put the file itself in the place of the link."),
            )
    found = {path.name: table_of(path) for path in sorted(folder.glob("*config.json"))}
    if CONFIG in found and ADAPTER_CONFIG in found:
        raise _refused(
            folder,
            say(
                "beside the model lies an adapter ({adapter_config}), which transformers would put over it",
                adapter_config=ADAPTER_CONFIG,
            ),
            say("Move the adapter into a folder of its own, and name that as lora.start_from to go on from it."),
        )
    is_known = found.get(CONFIG, {}).get("model_type") in list(FAMILIES)
    for name, table in found.items():
        for key, value in _entries(table):
            if why := _why(folder, name, key, value, is_known=is_known):
                raise _refused(folder, say("{why} ({key} in {name})", why=why, key=key, name=name), _OWN)


def without_code(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of settings without what names code, at any depth."""
    return {key: _without_code(value) for key, value in table.items() if key not in _OF_CODE}


def table_of(path: Path) -> dict[str, Any]:
    """Return a file of settings; nothing where there is none. Raises StudioError where it cannot be read.

    As the libraries read it, who take an Infinity: what they would find must be found here.
    """
    try:
        data = json.loads(read_bytes(path, limit=LARGEST_JSON))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise unreadable(path, say("it is no JSON, or nested too deeply")) from error
    if not isinstance(data, dict):
        raise unreadable(path, say("it is no table"))
    return data


def _without_code(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_code(item) for item in value]
    return without_code(value) if isinstance(value, Mapping) else value


def _why(folder: Path, name: str, key: str, value: Any, *, is_known: bool) -> str:
    """Return why an entry is refused, in words; nothing where it is not."""
    if key == "auto_map" and value and name == CONFIG and not is_known:
        return "it brings Python code of its own"
    if key.endswith(_KERNELS) and any("/" in text for text in _texts(value)):
        return "its attention would be downloaded as code"
    if key == "custom_generate" and value:
        return "it brings Python code of its own for generating"
    if key in _INSTEAD and value and name == CONFIG:
        return "it names another file to be read in the place of its own"
    if name == TOKENIZER_CONFIG and key.endswith("_file") and _is_elsewhere(folder, key, value):
        return "its tokenizer would be read from another place"
    return ""


def _is_elsewhere(folder: Path, key: str, value: Any) -> bool:
    """Whether a tokenizer's setting leads to a file elsewhere that is there; stale paths of whoever saved it are not.

    With a tokenizer.json in the folder, transformers takes that one, whatever is said.
    """
    if key == "gguf_file":
        return bool(value)
    if key in _PASSED_OVER or (key == "tokenizer_file" and (folder / "tokenizer.json").is_file()):
        return False
    if not isinstance(value, str):
        return False
    place = Path(os.path.realpath(folder / value))
    return place.exists() and not place.is_relative_to(os.path.realpath(folder))


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, at any depth."""
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield from here.items()
        waiting += here.values() if isinstance(here, dict) else here if isinstance(here, list) else ()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for _, inner in _entries([value]):
        if isinstance(inner, str):
            yield inner


def _refused(folder: Path, why: str, advice: str) -> StudioError:
    return StudioError(
        say("{name} is refused: {why}.", name=folder.name, why=why), kind=FailureKind.MODEL_REFUSED, advice=advice
    )
