"""Before anything is loaded: could the formats be written that a run is to export in its end? In seconds."""

from pathlib import Path

import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.export.formats import parse_format
from qlora_studio.engine.gguf.writer import require_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.storage.models.folder import read_config


def require_formats(base: Path, config: RunConfig) -> None:
    """Raise StudioError where a GGUF is wanted, and llama.cpp does not know the base's kind, numbers or tokenizer.

    A base that is stored quantized is not what becomes a GGUF, and is passed over.
    """
    wanted = [shape for text in config.export.formats if (shape := parse_format(text)).traits.is_gguf]
    precisions = {shape.precision for shape in wanted if shape.traits.loads}
    if not config.export.merge or not precisions or read_config(base).get("quantization_config"):
        return
    weights = MergedWeights(base, None, dtype=torch.float32)
    for precision in sorted(precisions):
        require_gguf(weights, base, precision)
