"""Export a run: its adapter merged, converted or alone, with everything that is needed to use it and to know it."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.export.disk_need import export_bytes, export_name
from qlora_studio.core.export.formats import ExportFormat, parse_format
from qlora_studio.core.export.model_card import public_name
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Exported
from qlora_studio.core.run.reports import ExportedFacts
from qlora_studio.core.words import say
from qlora_studio.engine.context import Channel
from qlora_studio.engine.data.plan import prompting_of
from qlora_studio.engine.export.importance import measured_importance
from qlora_studio.engine.export.sidecar import copy_adapter, write_sidecar_files
from qlora_studio.engine.export.source import BaseWeights, ExportSource, export_source, tokenizer_folder
from qlora_studio.engine.export.vllm import vllm_facts
from qlora_studio.engine.memory.architecture import config_of
from qlora_studio.engine.merge.text_model import text_alone, text_class
from qlora_studio.engine.merge.writer import copy_sidecar_files, peak_rss, write_merged
from qlora_studio.storage.drive_space import Writing, require_drives
from qlora_studio.storage.durable import StagedFolder
from qlora_studio.storage.runs.export_folder import ExportManifest, read_export, require_free_place, staged_export
from qlora_studio.storage.runs.fingerprint import fingerprint_folder
from qlora_studio.storage.runs.run_folder import RunFolder

_DTYPES = {"": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

_TOKENIZERS = ("*token*", "vocab*", "merges*")


def export_run(
    run: RunFolder,
    *,
    formats: list[str],
    checkpoint: str = "best",
    base: BaseWeights = "original",
    out_dir: str = "",
    importance_matrix: str = "auto",
    channel: Channel,
    force: bool = False,
) -> list[Exported]:
    """Write a run's adapter in the formats asked for, and tell each with `Exported`. Raises StudioError.

    Without `out_dir` they go under the run's `exports/`; with it, a single format becomes `out_dir` itself. `force`
    passes over a base whose fingerprint is not the one of training. `importance_matrix` is auto, on or off.
    """
    run.state()  # a run of a newer version is refused before anything is written
    shapes = [parse_format(text) for text in formats]
    source = export_source(run, checkpoint, base, channel, force)
    if any(shape.traits.is_text_alone for shape in shapes):
        text_class(config_of(source.base))
    places = [_place(source, shape, out_dir, alone=len(shapes) == 1) for shape in shapes]
    for place in places:
        require_free_place(place)
    pairs = zip(shapes, places, strict=True)
    require_drives(
        [Writing(place.parent, export_name(shape), export_size(source, shape)) for shape, place in pairs], "This export"
    )
    weighed = {shape for shape in shapes if shape.takes_importance(importance_matrix)}
    informed = _informed(source, channel) if weighed else source
    return [
        _export(informed if shape in weighed else source, shape, place, channel)
        for shape, place in zip(shapes, places, strict=True)
    ]


def export_size(source: ExportSource, shape: ExportFormat) -> int:
    """Return what an export will take: of a GGUF by the types of its tensors."""
    parameters = sum(torch.Size(tensor.shape).numel() for tensor in source.merged().tensors.values())
    adapter = sum(path.stat().st_size for path in source.adapter.glob("*.safetensors"))
    folder, weights = tokenizer_folder(source), 0
    tokenizer = sum(path.stat().st_size for name in _TOKENIZERS for path in folder.glob(name))
    if shape.traits.is_merged and shape.traits.is_gguf:
        from qlora_studio.engine.gguf.writer import gguf_bytes

        weights = gguf_bytes(source.merged(torch.float32), folder, shape.precision)
    return export_bytes(shape, parameters, adapter, tokenizer, weights=weights)


def _informed(source: ExportSource, channel: Channel) -> ExportSource:
    importance = measured_importance(source.run, source.config, source.base, source.adapter, channel)
    return replace(source, importance=importance)


def _place(source: ExportSource, shape: ExportFormat, out_dir: str, *, alone: bool) -> Path:
    if out_dir:
        chosen = whole_path(out_dir).absolute()
        return chosen if alone else chosen / shape.folder_name
    exports = source.run.exports_path
    if exports.is_symlink():
        raise StudioError(
            say("{exports} is a link.", exports=exports),
            kind=FailureKind.NOT_WRITABLE,
            advice=say("Name the folder to export to instead."),
        )
    stem = shape.folder_name if source.weights == "original" else f"{shape.folder_name}-{source.weights}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 10_000))
    return next(exports / name for name in names if not (exports / name).exists())


def _export(source: ExportSource, shape: ExportFormat, place: Path, channel: Channel) -> Exported:
    began = time.monotonic()
    with staged_export(place) as staged:
        facts = WRITERS[shape.kind](source, shape, staged, channel)
        channel.phase(Activity.EXPORTING)
        write_sidecar_files(source, shape, staged.path, place, facts)
        staged.manifest = ExportManifest(
            format=shape.text,
            base=public_name(source.config.model.source),
            base_weights=source.weights,
            checkpoint=source.checkpoint,
            run=source.run.path.resolve().name,
            base_fingerprint=fingerprint_folder(source.base),
            **facts,
        )
    exported = Exported(
        format=shape.text,
        path=str(place),
        size_bytes=read_export(place).size_bytes,
        facts=ExportedFacts(
            **facts,
            seconds=time.monotonic() - began,
            peak_rss_bytes=peak_rss(),
            base=source.weights,
            checkpoint=source.checkpoint,
        ),
    )
    channel.emit(exported)
    return exported


def _write_safetensors(
    source: ExportSource, shape: ExportFormat, staged: StagedFolder, channel: Channel
) -> dict[str, Any]:
    """Merge into 16 bit; a base stored in fp32 is rounded to bf16 once, unless fp32 is asked for."""
    channel.phase(Activity.MERGING)
    weights = source.merged(_DTYPES[shape.precision])
    if not shape.precision and any(tensor.dtype in ("F32", "F64") for tensor in weights.tensors.values()):
        weights = source.merged(torch.bfloat16)
    alone = shape.traits.is_text_alone
    report = write_merged(text_alone(weights) if alone else weights, staged, progress=_progress(channel, "merging"))
    copy_sidecar_files(staged.path, source.adapter, source.run.adapter_path, source.base, text_alone=alone)
    return {"tensors_merged": report.tensors_merged, "tensors": report.tensors}


def _write_adapter(source: ExportSource, shape: ExportFormat, staged: StagedFolder, channel: Channel) -> dict[str, Any]:
    """The adapter in PEFT's format, its base named as the user named it."""
    channel.phase(Activity.EXPORTING)
    copy_adapter(source.adapter, staged.path, public_name(source.config.model.source))
    copy_sidecar_files(staged.path, source.adapter, source.run.adapter_path, source.base)
    return {"tensors_merged": 0, **vllm_facts(source.adapter, source.base)}


def _write_gguf(source: ExportSource, shape: ExportFormat, staged: StagedFolder, channel: Channel) -> dict[str, Any]:
    from qlora_studio.engine.gguf.writer import write_gguf

    channel.phase(Activity.MERGING)
    weights, importance = source.merged(torch.float32), source.importance
    facts = write_gguf(
        weights,
        tokenizer_folder(source),
        staged.path,
        name=source.name,
        precision=shape.precision,
        importance=importance.stored(weights),
        channel=channel,
    )
    if facts["importance_tensors"]:
        facts |= {"importance_rows": importance.of, "importance_tokens": importance.tokens}
    return facts


def _write_ollama(source: ExportSource, shape: ExportFormat, staged: StagedFolder, channel: Channel) -> dict[str, Any]:
    from qlora_studio.engine.gguf.ollama import write_modelfile

    facts = _write_gguf(source, shape, staged, channel)
    prompting = prompting_of(source.config, source.run)
    return facts | write_modelfile(staged.path, str(facts["file"]), tokenizer_folder(source), prompting, channel)


def _write_gguf_adapter(
    source: ExportSource, shape: ExportFormat, staged: StagedFolder, channel: Channel
) -> dict[str, Any]:
    from qlora_studio.engine.gguf.adapter import write_gguf_adapter

    channel.phase(Activity.EXPORTING)
    return write_gguf_adapter(source.base, source.adapter, staged.path, name=source.name)


def _progress(channel: Channel, what: str) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        channel.raise_if_stopped()
        channel.progress(what, done, total, "bytes")

    return tell


WRITERS: dict[str, Callable[[ExportSource, ExportFormat, StagedFolder, Channel], dict[str, Any]]] = {
    "safetensors": _write_safetensors,
    "text_model": _write_safetensors,
    "adapter": _write_adapter,
    "gguf": _write_gguf,
    "ollama": _write_ollama,
    "gguf_adapter": _write_gguf_adapter,
}
