"""A model whose experts are stored in MXFP4, as gpt-oss comes, written out in 16 bits: an expert in memory at a time.

Two codes of 4 bits lie in a byte, the lower first; 32 of them share a scale, a power of two. A 16-bit number holds
every product exactly, so nothing is lost, and what is trained can be merged into it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.merge.safetensors_file import (
    SafetensorsFile,
    StoredTensor,
    WeightsFolder,
    encode_header,
    write_index,
)
from qlora_studio.storage.models.folder import INDEX, read_config

_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # and the same below nothing
_BLOCKS, _SCALES = "_blocks", "_scales"
_BIAS = 127  # of a scale's exponent


def unpacked_bytes(stored: Path) -> int:
    """Return how much the weights take in 16 bits."""
    return sum(tensor.size for tensor in _tensors(WeightsFolder(stored)))


def write_in_16_bits(stored: Path, out: Path, told: Callable[[int, int], None]) -> None:
    """Write the weights of a folder with what else lies in it. `told` hears of bytes done, and of all."""
    weights = WeightsFolder(stored)
    total, done, places = unpacked_bytes(stored), 0, {}
    for file in weights.files:
        tensors = [tensor for tensor in _tensors(weights) if tensor.file is file]
        header = encode_header([(item.name, item.code, item.shape, item.size) for item in tensors], file.metadata)
        with (out / file.path.name).open("xb") as target:
            target.write(header)
            for tensor in tensors:
                places[tensor.name] = file.path.name
                for block in tensor.blocks():
                    target.write(block.reshape(-1).view(torch.uint8).numpy().data)
                    done += block.nbytes
                    told(done, total)
    write_index(out, places, total)
    config = {key: value for key, value in read_config(stored).items() if key != "quantization_config"}
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    for path in stored.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name not in (INDEX, "config.json"):
            shutil.copyfile(path, out / path.name)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the result: one that is stored as it is, or stacked experts, (experts, rows, blocks, bytes) there."""

    name: str
    file: SafetensorsFile
    source: StoredTensor
    scales: tuple[SafetensorsFile, StoredTensor] | None = None

    @property
    def code(self) -> str:
        return "BF16" if self.scales else self.source.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        if self.scales is None:
            return self.source.shape
        experts, rows, blocks, width = self.source.shape
        return experts, 2 * blocks * width, rows

    @property
    def size(self) -> int:
        return 4 * self.source.size if self.scales else self.source.size

    def blocks(self) -> Iterator[torch.Tensor]:
        """Yield the tensor; of stacked experts, one by one."""
        with self.file.path.open("rb") as file:
            if self.scales is None:
                yield self.file.read_rows(file, self.source, 0, self.source.rows)
                return
            beside, scales = self.scales
            with beside.path.open("rb") as other:
                for expert in range(self.source.rows):
                    packed = self.file.read_rows(file, self.source, expert, expert + 1)[0]
                    yield _unpacked(packed, beside.read_rows(other, scales, expert, expert + 1)[0])


def _tensors(weights: WeightsFolder) -> Iterator[_Tensor]:
    for name, (file, stored) in weights.places.items():
        if name.endswith(_SCALES) and name.removesuffix(_SCALES) + _BLOCKS in weights.places:
            continue
        plain = name.removesuffix(_BLOCKS)
        scales = weights.places.get(plain + _SCALES)
        if scales and (len(stored.shape) != 4 or scales[1].shape != stored.shape[:3]):
            raise StudioError(
                say(
                    "{name} is damaged: {tensor} is {shape}, and its scales are {scales_shape}.",
                    name=file.path.name,
                    tensor=name,
                    shape=stored.shape,
                    scales_shape=scales[1].shape,
                ),
                kind=FailureKind.MODEL_REFUSED,
                advice=say("Download the model again."),
            )
        yield _Tensor(plain if scales else name, file, stored, scales)


def _unpacked(packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return an expert's weights, (inputs, outputs) in bf16, of codes (outputs, blocks, bytes) and scales."""
    values = torch.tensor((*_VALUES, *(-value for value in _VALUES)))
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).long()
    weights = torch.ldexp(values[codes], scales.int().unsqueeze(-1) - _BIAS)
    return weights.flatten(1).T.to(torch.bfloat16)
