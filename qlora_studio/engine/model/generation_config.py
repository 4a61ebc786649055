"""The generation config beside a tokenizer: what generation stops at, wherever the model is served."""

import json
from pathlib import Path

from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.templates.stop_tokens import stop_token_ids
from qlora_studio.storage.models.folder import generation_config
from qlora_studio.storage.models.foreign_code import without_code


def complete_generation_config(folder: Path) -> None:
    """Make sure that generation stops where an answer was taught to end; without that token it never does."""
    config = without_code(generation_config(folder))
    known = config.get("eos_token_id")
    known = known if isinstance(known, list) else [] if known is None else [known]
    ids = [*known, *(token for token in _end_token_ids(folder) if token not in known)]
    if ids:
        config["eos_token_id"] = ids[0] if len(ids) == 1 else ids
    config.pop("_from_model_config", None)
    (folder / "generation_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _end_token_ids(folder: Path) -> list[int]:
    return stop_token_ids(tokenizer_of(folder)) if (folder / "tokenizer_config.json").is_file() else []
