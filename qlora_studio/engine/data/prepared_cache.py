"""Where prepared datasets are kept: folders in the cache, each named by a hash of all that decides its content."""

import json
import shutil
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio import __version__
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.datasets.reader import DatasetReader
from qlora_studio.storage.runs.fingerprint import fingerprint_file
from qlora_studio.storage.settings import cache_path

_LAYOUT = 5  # changes when the same input gives other rows
_KEPT = 10  # prepared datasets in the cache


def store_path() -> Path:
    """Return the folder of prepared datasets."""
    return cache_path() / "datasets"


def key_of(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    now: datetime,
    mixtures: Sequence[DatasetMixture],
) -> str:
    """Return a hash of all that decides the rows."""
    template = str(tokenizer.chat_template)
    parts = {
        "studio": [__version__, _LAYOUT],
        "files": [
            [name, _files(reader)] for data in mixtures for name, reader in zip(data.names, data.readers, strict=True)
        ],
        "data": config.data.model_dump(exclude={"path", "evaluation_path", "bad_rows", "more"}),
        "more": [source.model_dump(exclude={"path"}) for source in config.data.more],
        "training": [config.training.max_length, config.training.loss_on],
        "template": template,
        "special": {name: str(value) for name, value in tokenizer.special_tokens_map.items()},
        "tokenizer": sha256(_tokenizer_text(tokenizer).encode()).hexdigest(),
        "date": now.date().isoformat() if "strftime_now" in template else "",
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _files(reader: DatasetReader) -> list[list[Any]]:
    return [[file.path.name, fingerprint_file(file.path)] for file in reader.files]


def _tokenizer_text(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return str(backend.to_str()) if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)


def let_go_of_oldest() -> None:
    """Delete all but the newest."""
    store = store_path()
    folders = [path for path in store.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(folders, key=lambda item: item.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
