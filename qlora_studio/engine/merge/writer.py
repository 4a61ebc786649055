"""Merge an adapter into its 16-bit base, streaming: a few tensors' rows in memory, whatever the model's size.

Untouched tensors are copied byte for byte. Where no name, dtype or shape changes, the headers are the base's own bytes.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch

from qlora_studio.core.export.disk_need import export_bytes
from qlora_studio.core.export.formats import parse_format
from qlora_studio.engine.context import JobStopped
from qlora_studio.engine.merge.merged_tensor import MergedTensor
from qlora_studio.engine.merge.safetensors_file import encode_header, write_index
from qlora_studio.engine.merge.weights import BaseRounding, MergedWeights
from qlora_studio.storage.drive_space import Writing, require_drives
from qlora_studio.storage.durable import StagedFolder
from qlora_studio.storage.models.foreign_code import refuse_foreign_code, table_of, without_code
from qlora_studio.storage.runs.export_folder import ExportManifest, require_free_place, staged_export

_COPY_BLOCK = 4 << 20  # bytes
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MergeReport:
    """What a merge did. Sizes in bytes, durations in seconds."""

    tensors_merged: int
    tensors: int
    bytes: int
    seconds: float
    peak_rss_bytes: int


def merge_adapter(
    base: Path,
    adapter: Path,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    rounding: BaseRounding | None = None,
    force: bool = False,
    progress: Progress = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
    complete: Callable[[Path], None] = lambda folder: None,
) -> MergeReport:
    """Write base and adapter as one plain model into the new folder `out`; complete or not there.

    `dtype` None keeps each tensor's own. `force` merges even where the base has layers that the adapter's targets name
    and it holds nothing for. `complete` may add files before the folder is sealed. Raises StudioError; JobStopped when
    `cancelled` says so.
    """
    require_free_place(out)
    weights = MergedWeights(base, adapter, dtype=dtype, rounding=rounding, force=force)
    kept = sum(path.stat().st_size for path in adapter.glob("*.safetensors"))
    size = export_bytes(parse_format("safetensors"), 0, kept, weights=weights.size)
    require_drives([Writing(out.parent, "merged model", size)], "This merge")
    with staged_export(out) as staged:
        report = write_merged(weights, staged, progress=progress, cancelled=cancelled)
        copy_sidecar_files(staged.path, adapter, base)
        complete(staged.path)
        staged.manifest = ExportManifest(format="safetensors", tensors_merged=report.tensors_merged)
    return report


def write_merged(
    weights: MergedWeights,
    staged: StagedFolder,
    *,
    progress: Progress = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> MergeReport:
    """Write config, index and shards of merged weights into a staged export."""
    began = time.monotonic()
    done, total = 0, weights.size
    with torch.inference_mode(), _one_thread():
        for name, tensors in weights.shards.items():
            with _HashingWriter(staged.path / name) as writer:
                writer.write(_header(tensors))
                for block in _ahead(block for tensor in tensors for block in _bytes_of(weights, tensor)):
                    if cancelled():
                        raise JobStopped
                    writer.write(block)
                    done += len(block)
                    progress(done, total)
            staged.hashes[name] = writer.sha256
    _write_config(weights, staged.path)
    places = {tensor.name: shard for shard, tensors in weights.shards.items() for tensor in tensors}
    write_index(staged.path, places, weights.size)
    tensors_of_all = weights.tensors.values()
    return MergeReport(
        tensors_merged=sum(tensor.change is not None for tensor in tensors_of_all),
        tensors=len(tensors_of_all),
        bytes=total,
        seconds=time.monotonic() - began,
        peak_rss_bytes=peak_rss(),
    )


SIDECAR_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "LICENSE",
)

# What else a model needs that sees or hears; kept as it was.
COMPANIONS = (
    "audio_preprocessor_config.json",
    "chat_template.json",
    "image_processor_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)


def copy_sidecar_files(out: Path, *folders: Path, text_alone: bool = False) -> list[str]:
    """Copy tokenizer, chat template, processors and generation config; each from the first folder that has it.

    A text model alone has no processors. Tokenizer files are taken together from one folder: half of one and half of
    another are no tokenizer.
    """
    for folder in folders:
        refuse_foreign_code(folder)
    found = {}
    tokenizer = next((folder for folder in folders if (folder / "tokenizer_config.json").is_file()), None)
    for name in (*SIDECAR_FILES, *(() if text_alone else COMPANIONS)):
        is_general = name in ("generation_config.json", "LICENSE", *COMPANIONS)
        places = folders if is_general or tokenizer is None else (tokenizer,)
        if place := next((folder for folder in places if (folder / name).is_file()), None):
            found[name] = place / name
    for name, path in found.items():
        (out / name).write_bytes(path.read_bytes())
        if name.endswith("config.json") and (table := table_of(path)) != (plain := without_code(table)):
            (out / name).write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return sorted(found)


def peak_rss() -> int:
    """Return the largest resident size that this process ever had, in bytes.

    Linux's getrusage also counts what the parent had when it started this process; its status file does not.
    """
    if found := re.search(r"VmHWM:\s+(\d+) kB", _status()):
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status() -> str:
    try:
        return Path("/proc/self/status").read_text("utf-8")
    except OSError:  # another system
        return ""


class _HashingWriter:
    """Writes a file, and hashes it meanwhile in a second thread: both let the interpreter go."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(max_workers=1)

    def write(self, data: bytes | memoryview) -> None:
        hashed = self._hasher.submit(self._hash.update, data)
        rest = memoryview(data)
        while len(rest):
            rest = rest[self._file.write(rest) :]
        hashed.result()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __enter__(self) -> "_HashingWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hasher.shutdown()
        self._file.close()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread. Blocks are small, and on a busy machine threads that wait for each other cost far more
    than they gain; reading, hashing and writing have threads of their own.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ahead(blocks: Iterator[memoryview]) -> Iterator[memoryview]:
    """Yield blocks, the next one being read and merged while the last one is hashed and written."""
    with ThreadPoolExecutor(max_workers=1, initializer=torch.set_num_threads, initargs=(1,)) as maker:
        coming = maker.submit(_next, blocks)
        while (block := coming.result()) is not None:
            coming = maker.submit(_next, blocks)
            yield block


def _next(blocks: Iterator[memoryview]) -> memoryview | None:
    with torch.inference_mode():
        return next(blocks, None)


def _header(tensors: list[MergedTensor]) -> bytes:
    if not tensors:
        return encode_header([], {"format": "pt"})
    source = tensors[0].file
    planned = [(tensor.name, tensor.dtype, tensor.shape, tensor.size) for tensor in tensors]
    stored = [(tensor.name, tensor.dtype, tensor.shape, tensor.size) for tensor in source.tensors]
    return source.header if planned == stored else encode_header(planned, source.metadata or {"format": "pt"})


def _bytes_of(weights: MergedWeights, tensor: MergedTensor) -> Iterator[memoryview]:
    if not tensor.size:
        return
    if not tensor.is_copied or weights.rounds(tensor):
        for block in weights.blocks(tensor):
            yield block.reshape(-1).view(torch.uint8).numpy().data
        return
    buffers = [memoryview(bytearray(min(_COPY_BLOCK, tensor.size))) for _ in range(3)]  # two may be in use elsewhere
    with tensor.file.path.open("rb", buffering=0) as file:
        file.seek(len(tensor.file.header) + tensor.source.offset)
        left = tensor.size
        while left:
            buffers.append(buffer := buffers.pop(0))
            count = file.readinto(buffer[: min(left, len(buffer))])
            if not count:
                raise OSError(f"{tensor.file.path.name} ends too early")
            yield buffer[:count]
            left -= count


def _write_config(weights: MergedWeights, folder: Path) -> None:
    config: dict[str, Any] = {key: value for key, value in weights.config.items() if key != "_name_or_path"}
    floating = [tensor.dtype for tensor in weights.tensors.values() if tensor.source.is_floating]
    names = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
    config.pop("torch_dtype", None)
    config["dtype"] = names[max(set(floating), key=floating.count)]
    if weights.vocabulary is not None:
        (config.get("text_config") or config)["vocab_size"] = weights.vocabulary
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
