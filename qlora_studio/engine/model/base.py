"""The 16-bit base model as a plain safetensors folder, wherever it comes from, and its tokenizer."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.stored_quantization import is_unpacked
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.fingerprint import Sha256
from qlora_studio.core.words import say
from qlora_studio.engine.context import QUIET, Channel, Reporter
from qlora_studio.engine.memory.load_failure import gguf_failure, tokenizer_failure, told
from qlora_studio.engine.model.mxfp4 import unpacked_bytes, write_in_16_bits
from qlora_studio.storage.drive_space import Writing, require_drives
from qlora_studio.storage.durable import (
    DamagedManifest,
    Manifest,
    StagedFolder,
    disagreements,
    read_manifest,
    sha256_of,
    staged_folder,
)
from qlora_studio.storage.models.folder import read_config, require_plain_files
from qlora_studio.storage.models.foreign_code import (
    CONFIG,
    TOKENIZER_CONFIG,
    refuse_foreign_code,
    table_of,
    without_code,
)
from qlora_studio.storage.models.location import ModelLocation, locate_model, sound_gguf
from qlora_studio.storage.models.lone_file import lone_file
from qlora_studio.storage.network import require_network
from qlora_studio.storage.permissions import as_the_user
from qlora_studio.storage.settings import cache_path
from qlora_studio.storage.syncing import sync_fetched

# What a run may need of a hub repository: never pickled weights, never code.
HUB_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.model", "tokenizer*", "LICENSE*", "README.md"]


class UnpackedManifest(Manifest):
    """The facts of a folder whose weights were written out in 16 bits: its name."""

    stored: str


class ConvertedManifest(Manifest):
    """The facts of a GGUF file's conversion: the file's name and sha256."""

    gguf: str
    sha256: Sha256


def base_folder(source: str, revision: str = "", channel: Channel = QUIET) -> Path:
    """Return the folder of the base in 16 bit: the local folder, the hub's snapshot, or one made of it in the cache.

    Raises StudioError where there is none, or where it is of a kind that is refused.
    """
    location = locate_model(source, revision)
    if location.kind == "gguf":
        return _converted_gguf(_path_of(location), channel)
    folder = download(source, revision, channel) if location.path is None else location.path
    return _in_16_bits(folder, channel) if is_unpacked(read_config(folder)) else folder


def load_tokenizer(source: str, revision: str = "", channel: Channel = QUIET) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a base model, with a padding token. Fetches no weights from the hub."""
    location = locate_model(source, revision)
    if location.kind == "gguf":
        return tokenizer_of(_converted_gguf(_path_of(location), channel))
    return tokenizer_of(location.path or download(source, revision, channel, weights=False))


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a folder, with a padding token. Raises StudioError as `plain_tokenizer` does."""
    tokenizer = plain_tokenizer(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def plain_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a folder as it is. Raises StudioError where there is none that can be loaded."""
    require_plain_files(folder)
    refuse_foreign_code(folder)
    _require_tokenizer_class(folder)
    with told(partial(tokenizer_failure, folder)):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer.decode(tokenizer("a").input_ids)  # some settings are believed until they are used
    tokenizer.init_kwargs = without_code(tokenizer.init_kwargs)  # what is saved with an adapter
    return tokenizer  # type: ignore[no-any-return]


def _require_tokenizer_class(folder: Path) -> None:
    """Raise StudioError where a folder names as its tokenizer's class something else that transformers has.

    transformers would take anything of its own by that name, and load the folder with that.
    """
    for table in (table_of(folder / TOKENIZER_CONFIG), table_of(folder / CONFIG)):
        name = table.get("tokenizer_class") or ""
        found = getattr(transformers, name, PreTrainedTokenizerBase) if isinstance(name, str) else None
        if hasattr(found, "_backends"):  # a stand-in of what needs a package that is missing: loading tells which
            continue
        if not (isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase)):
            raise StudioError(
                say(
                    "{name} is refused: it names {class_name} as its tokenizer's class (tokenizer_class), "
                    "which is none.",
                    name=folder.name,
                    class_name=name,
                ),
                kind=FailureKind.MODEL_REFUSED,
                advice=say("Take tokenizer_config.json from where the model was published."),
            )


def download(source: str, revision: str, channel: Channel, *, weights: bool = True) -> Path:
    """Fetch a hub repository into the hub's own cache and return its snapshot. Raises StudioError in words."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    from qlora_studio.engine.model.download_progress import progress_bar

    patterns = HUB_PATTERNS if weights else [item for item in HUB_PATTERNS if "safetensors" not in item]
    channel.phase(Activity.DOWNLOADING)
    try:
        with as_the_user():
            folder = snapshot_download(
                source, revision=revision or None, allow_patterns=patterns, tqdm_class=progress_bar(channel)
            )
    except GatedRepoError as error:
        raise _download_error(
            source,
            say("asks you to accept its terms first"),
            say("Open https://huggingface.co/{source}, accept, then run `hf auth login`.", source=source),
        ) from error
    except RepositoryNotFoundError as error:
        raise _download_error(source, say("is not on the hub"), say("Check the spelling: it is owner/name.")) from error
    except RevisionNotFoundError as error:
        raise _download_error(
            source,
            say("has no revision {revision}", revision=repr(revision)),
            say("Leave the revision empty for the newest."),
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        require_network(say("The model {source} is not whole here, and the network is switched off.", source=source))
        raise _download_error(
            source,
            say("could not be downloaded"),
            say("Check the connection and the disk, then try again: files that came whole are not fetched again."),
            str(error),
        ) from error
    sync_fetched(Path(folder))
    read_config(Path(folder))  # refuses a model with code of its own; code and pickles themselves are never fetched
    return Path(folder)


def _download_error(source: str, what: str, advice: str, detail: str = "") -> StudioError:
    return StudioError(
        say("The model {source} {what}.", source=source, what=what),
        kind=FailureKind.MODEL_NOT_FOUND,
        advice=advice,
        detail=detail,
    )


def _path_of(location: ModelLocation) -> Path:
    if location.path is None:
        raise StudioError(
            say("{source} is not on this computer.", source=location.source), kind=FailureKind.MODEL_NOT_FOUND
        )
    return location.path


def _converted_gguf(gguf: Path, reporter: Reporter) -> Path:
    """Return the cached safetensors folder of a GGUF file, made once, whole or not at all."""

    def convert(staged: StagedFolder) -> None:
        _convert(gguf, staged.path)
        staged.manifest = ConvertedManifest(gguf=gguf.name, sha256=sha256_of(gguf))

    return _converted(gguf.stem, [gguf], ConvertedManifest, convert, reporter)


def _in_16_bits(stored: Path, channel: Channel) -> Path:
    """Return the cached folder with the weights of one in 16 bits, made once, whole or not at all."""

    def told(done: int, total: int) -> None:
        channel.raise_if_stopped()
        channel.progress("converting", done, total, "bytes")

    def convert(staged: StagedFolder) -> None:
        require_drives([Writing(staged.path, "weights in 16 bits", unpacked_bytes(stored))], "This base")
        write_in_16_bits(stored, staged.path, told)
        staged.manifest = UnpackedManifest(stored=stored.name)

    return _converted(stored.name, sorted(stored.glob("*.safetensors")), UnpackedManifest, convert, channel)


def _converted(
    name: str,
    files: list[Path],
    manifest: type[Manifest],
    convert: Callable[[StagedFolder], None],
    reporter: Reporter,
) -> Path:
    stats = [(path.resolve(), path.stat()) for path in files]
    facts = ";".join(f"{path}:{stat.st_size}:{stat.st_mtime_ns}" for path, stat in stats)
    folder = cache_path() / "models" / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    if folder.exists():
        if _is_whole(folder, manifest):
            return folder
        shutil.rmtree(folder)
    reporter.phase(Activity.CONVERTING_MODEL)
    with suppress(FileExistsError), staged_folder(folder) as staged:  # where another process was faster, its is taken
        convert(staged)
    return folder


def _is_whole(folder: Path, manifest: type[Manifest]) -> bool:
    try:
        return not any(disagreements(folder, read_manifest(folder, manifest), hashed=False))
    except DamagedManifest:
        return False


def _convert(gguf: Path, out: Path) -> None:
    """Write 16-bit weights, config and tokenizer of a GGUF file. `dequantize` gives plain tensors that can be saved."""
    import torch
    from transformers import GgufConfig

    sound_gguf(gguf)
    plain: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    with warnings.catch_warnings(), told(partial(gguf_failure, gguf)), lone_file(gguf) as alone:
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(
            alone.parent,
            gguf_file=alone.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            **plain,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(alone.parent, gguf_file=alone.name, **plain)
    model.config.quantization_config = None
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    config = read_config(out)
    config.pop("quantization_config", None)
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
