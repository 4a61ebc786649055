"""Write merged weights as one GGUF file, tensor by tensor and a few rows at a time, without any program but this one.

Quantized types are made of the merged fp32 numbers by libgguf, whose bytes are llama.cpp's.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.words import say
from qlora_studio.engine.context import QUIET, Channel
from qlora_studio.engine.gguf.layout import GgufLayout
from qlora_studio.engine.gguf.mixture import tensor_types
from qlora_studio.engine.gguf.numbers import add_numbers, gguf_numbers, learned_numbers
from qlora_studio.engine.gguf.rope import rope_tensors
from qlora_studio.engine.gguf.text_part import settings_of
from qlora_studio.engine.gguf.tokenizer import gguf_tokenizer
from qlora_studio.engine.memory.architecture import config_of
from qlora_studio.engine.merge.weights import MergedWeights

_PLAIN = ("f16", "bf16")
_ALONE = say(
    "This GGUF holds the language model alone; what sees or hears was left as it was, in the base's own mmproj."
)


def write_gguf(
    weights: MergedWeights,
    tokenizer: Path,
    folder: Path,
    *,
    name: str,
    precision: str,
    channel: Channel,
    importance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `folder/NAME-PRECISION.gguf`; return its name and what was merged. `weights` must come in fp32.

    `importance` says what matters in a tensor, by the tensor's name in the base's files: fp32 of shape (columns,).
    """
    file = folder / f"{name}-{precision.upper()}.gguf"
    if precision not in _PLAIN:
        _require_quantizer(precision)
    writer = _Writer(weights, tokenizer, file, name, precision.upper(), channel)
    weighed = writer.weigh(importance or {})
    if precision not in _PLAIN:
        channel.phase(Activity.QUANTIZING)
    writer.write()
    merged = sum(tensor.change is not None for tensor in weights.tensors.values())
    return {"file": file.name, "tensors_merged": merged, "tensors": len(weights.tensors), "importance_tensors": weighed}


def require_gguf(weights: MergedWeights, tokenizer: Path, precision: str) -> None:
    """Raise StudioError where `write_gguf` would refuse; nothing is written."""
    if precision not in _PLAIN:
        _require_quantizer(precision)
    _Writer(weights, tokenizer, Path("never-written.gguf"), "never-written", precision.upper(), QUIET)


def gguf_bytes(weights: MergedWeights, tokenizer: Path, precision: str) -> int:
    """Return what the tensors take that `write_gguf` would write. Raises StudioError where it would refuse."""
    return _Writer(weights, tokenizer, Path("never-written.gguf"), "never-written", precision.upper(), QUIET).size()


def _require_quantizer(precision: str) -> None:
    if find_spec("libgguf") is None:
        raise StudioError(
            say("{precision} needs the package libgguf, and it is not installed.", precision=precision),
            kind=FailureKind.TOOL_MISSING,
            advice=say("Install qlora-studio anew with what it depends on. bf16 and f16 need no such package."),
        )


class _Writer:
    def __init__(
        self, weights: MergedWeights, tokenizer: Path, file: Path, name: str, file_type: str, channel: Channel
    ) -> None:
        import gguf

        self._gguf = gguf
        self._weights = weights
        self._channel = channel
        self._config = _full_config(weights)
        if "wrapper" in self._config:
            channel.warn("language_model_alone", _ALONE)
        self._numbers = gguf_numbers(self._config)
        self._layout = GgufLayout(self._config, self._layers)
        architecture = self._layout.traits.architecture
        self._file_type = file_type
        self._writer = gguf.GGUFWriter(file, architecture)
        self._writer.add_type(gguf.GGUFType.MODEL)
        self._writer.add_name(name)
        self._writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{file_type}"])
        self._writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        add_numbers(self._writer, self._numbers | learned_numbers(weights.tensors, weights.tensor), architecture)
        self._extra = rope_tensors(self._config)
        gguf_tokenizer(tokenizer, self._config["vocab_size"], self._layout.traits.tokenizer).add_to(self._writer)
        self._tensors = self._layout.tensors(weights, is_tied=weights.is_tied)
        self._importance: dict[str, Any] = {}

    @property
    def _layers(self) -> int:
        return int(self._numbers["block_count"])  # type: ignore[arg-type]

    def weigh(self, importance: Mapping[str, Any]) -> int:
        """Take what matters into account, where it fits the tensor, and return in how many tensors it does."""
        for name, tensor in self._tensors.items():
            value = importance.get(tensor.sources[0].source.name) if len(tensor.shape) == 2 else None
            if value is not None and (fitted := self._layout.by_columns(tensor, torch.from_numpy(value))) is not None:
                self._importance[name] = fitted.numpy()
        if self._importance:
            self._writer.add_uint32("quantize.imatrix.entries_count", len(self._importance))
        return len(self._importance)

    def size(self) -> int:
        """Return how many bytes the tensors take."""
        types = self._types()
        sizes = [_bytes(self._gguf, tensor.shape, types[name]) for name, tensor in self._tensors.items()]
        return sum(sizes) + sum(extra.nbytes for extra in self._extra.values())

    def write(self) -> None:
        """Write header, metadata and tensors. Raises OSError, StudioError or JobStopped."""
        types = self._types()
        for name, tensor in self._tensors.items():
            self._add_info(name, tensor.shape, types[name])
        for name, extra in self._extra.items():
            self._add_info(name, tuple(extra.shape), self._gguf.GGMLQuantizationType.F32)
        writer = self._writer
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            file = (writer.fout or [])[0]
            writer.write_padding(file, file.tell())
            self._write_tensors(file, types)
        finally:
            for opened in writer.fout or []:
                opened.close()

    def _write_tensors(self, file: Any, types: dict[str, Any]) -> None:
        done, total = 0, sum(4 * torch.Size(tensor.shape).numel() for tensor in self._tensors.values())
        with torch.inference_mode(), ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, tensor in self._tensors.items():
                start = file.tell()
                for block in self._layout.blocks(self._weights, tensor):
                    self._channel.raise_if_stopped()
                    file.write(_encoded(name, block, types[name], pool, self._importance.get(name)))
                    done += block.nbytes
                    self._channel.progress("converting", done, total, "bytes")
                self._writer.write_padding(file, file.tell() - start)
            for extra in self._extra.values():
                file.write(extra.numpy().tobytes())
                self._writer.write_padding(file, extra.nbytes)

    def _types(self) -> dict[str, Any]:
        named = tensor_types(
            {name: tensor.shape for name, tensor in self._tensors.items()},
            self._file_type,
            architecture=self._layout.traits.architecture,
            layers=self._layers,
            experts=int(self._numbers.get("expert_count", 0)),  # type: ignore[arg-type]
        )
        return {name: self._gguf.GGMLQuantizationType[kind] for name, kind in named.items()}

    def _add_info(self, name: str, shape: tuple[int, ...], kind: Any) -> None:
        size = _bytes(self._gguf, shape, kind)
        self._writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=kind)


def _bytes(gguf: Any, shape: tuple[int, ...], kind: Any) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return int(torch.Size(shape).numel() // block * size)


def _full_config(weights: MergedWeights) -> dict[str, Any]:
    """The config with the defaults of its family filled in, and what the merge changed."""
    config = settings_of(config_of(weights.base.path))
    config["tie_word_embeddings"] = weights.is_tied
    if weights.vocabulary is not None:
        config["vocab_size"] = weights.vocabulary
    return config


def _encoded(
    name: str, block: torch.Tensor, kind: Any, pool: ThreadPoolExecutor, importance: Any
) -> bytes | memoryview:
    """Return rows in a GGUF type's bytes. Raises StudioError where they do not fit."""
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}.get(kind.name)
    if dtype is None:
        return quantized(block.float().reshape(-1, block.shape[-1]).numpy(), kind, pool, importance)
    cast = block.to(dtype).contiguous()
    if not bool(torch.isfinite(cast).all()):
        raise StudioError(
            say("{name} holds numbers that do not fit into {format}.", name=name, format=kind.name.lower()),
            kind=FailureKind.DAMAGED,
            advice=say("Choose bf16 or q8_0."),
        )
    return cast.reshape(-1).view(torch.uint8).numpy().data


def quantized(rows: Any, kind: Any, pool: ThreadPoolExecutor, importance: Any = None) -> bytes:
    """Return rows, fp32, in a quantized type's bytes. libgguf lets go of Python's lock: every processor works.

    `importance`, fp32 of shape (columns,), says which columns matter most.
    """
    import libgguf

    parts = np.array_split(rows, min(len(rows), os.cpu_count() or 1))
    return b"".join(
        part.tobytes() for part in pool.map(lambda part: libgguf.quantize_rows(part, kind, importance), parts)
    )
