"""What lies beside exported weights: stop tokens, model card and curve, and where the model came from."""

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from qlora_studio import __version__
from qlora_studio.core.config.run_config_text import to_toml
from qlora_studio.core.export.formats import ExportFormat
from qlora_studio.core.export.model_card import CardFacts, loss_picture, model_card, public_config, public_name
from qlora_studio.core.export.serving import serving_commands
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.run.events import AdapterContinued
from qlora_studio.core.run.reports import ExportedFacts
from qlora_studio.engine.merge.adapter_delta import copy_adapter_config
from qlora_studio.engine.model.environment import package_versions
from qlora_studio.engine.model.generation_config import complete_generation_config
from qlora_studio.storage.durable import read_manifest
from qlora_studio.storage.models.folder import licence
from qlora_studio.storage.runs.checkpoint_folder import CheckpointManifest
from qlora_studio.storage.runs.fingerprint import fingerprint_file, fingerprint_folder
from qlora_studio.storage.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from qlora_studio.engine.export.source import ExportSource
PROVENANCE = "training"
_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes")


def write_sidecar_files(
    source: "ExportSource", shape: ExportFormat, folder: Path, place: Path, facts: dict[str, Any]
) -> None:
    """Complete an export in the making. `place` is where it will lie in the end."""
    if not shape.traits.is_gguf:
        complete_generation_config(folder)
    provenance = folder / PROVENANCE
    provenance.mkdir()
    (provenance / "run.toml").write_text(to_toml(public_config(source.config)), encoding="utf-8")
    base = {
        "source": public_name(source.config.model.source),
        "revision": source.config.model.revision,
        "weights": source.weights,
        "checkpoint": source.checkpoint,
        "fingerprint": fingerprint_folder(source.base).model_dump(),
    }
    (provenance / "base.json").write_text(json.dumps(base, indent=1), encoding="utf-8")
    if shape.traits.is_merged or shape.traits.is_gguf:  # else it is this adapter
        (provenance / "adapter").mkdir()
        copy_adapter(source.adapter, provenance / "adapter", str(base["source"]))
    _write_card(source, shape, folder, place, facts)


def _write_card(
    source: "ExportSource", shape: ExportFormat, folder: Path, place: Path, written: dict[str, Any]
) -> None:
    picture = _curve(source.run)
    if picture:
        (folder / "loss.svg").write_text(picture, encoding="utf-8")
    rank, file = source.config.lora.rank, str(written.get("file", ""))
    base = public_name(source.config.model.source)
    told = ExportedFacts(**written)
    commands = serving_commands(
        shape,
        PurePosixPath("/path/to") / place.name,
        file=file,
        name=source.name,
        base=base,
        rank=rank,
        vllm=bool(told.vllm_applied),
    )
    usage = tuple((command.program, command.text) for command in commands)
    card = model_card(
        source.config,
        _card_facts(source, shape, usage, told),
        has_curve=bool(picture),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _card_facts(
    source: "ExportSource", shape: ExportFormat, usage: tuple[tuple[str, str], ...], told: ExportedFacts
) -> CardFacts:
    state = source.run.state()
    before = state.first_evaluation
    if source.checkpoint != "final":
        manifest = read_manifest(source.adapter, CheckpointManifest)
        steps, after = manifest.step, manifest.evaluation_loss
    else:
        steps, after = state.step, state.evaluation.loss if state.evaluation else None
    return CardFacts(
        title=source.config.name,
        licence=licence(source.base),
        training_rows=state.dataset.training_rows if state.dataset else 0,
        evaluation_rows=state.dataset.evaluation_rows if state.dataset else 0,
        data_hash=_data_hash(source.config.data.path),
        sources=tuple(state.dataset.sources) if state.dataset else (),
        steps=steps,
        checkpoint=source.checkpoint,
        loss_before=before.loss if before else None,
        loss_after=after,
        versions=versions(),
        format=shape.title,
        base_weights=source.weights,
        usage=usage,
        rounding=told.importance_words,
        served=told.vllm_words,
        parent=_parent(state.parent) if state.parent else "",
    )


def _parent(parent: AdapterContinued) -> str:
    """Return what the run went on from: names and a hash, no folder of this computer."""
    name = parent.run or parent.parent
    at = f", checkpoint {parent.checkpoint}" if parent.checkpoint not in ("", "final") else ""
    stages = f" ({parent.words})" if len(parent.stages) > 1 else ""
    return f"the adapter of {name}{at}{stages}, sha256 `{parent.sha256}`"


def versions() -> dict[str, str]:
    """Return the versions of the program and of its libraries."""
    return {"qlora-studio": __version__, **package_versions(_LIBRARIES)}


def _data_hash(path: str) -> str:
    data = whole_path(path)
    return fingerprint_file(data).sha256 if path and data.is_file() else ""


def _curve(run: RunFolder) -> str:
    _, history = run.replay()
    losses, evaluations = history.steps["loss"], history.evaluation
    pairs = [
        [(int(x), float(y)) for x, y in zip(series.x, series.y, strict=True) if y == y]  # a NaN is a gap
        for series in (losses, evaluations)
    ]
    return loss_picture(*pairs)


def copy_adapter(adapter: Path, out: Path, base_name: str) -> None:
    """Copy an adapter's two files; the base's name replaces whatever path was kept there."""
    copy_adapter_config(adapter, out, base_name)
    (out / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
