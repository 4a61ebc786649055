"""A run that goes on from an adapter that is there: which one, whether it fits, and how it is loaded."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from peft.utils.other import TrainableTokensWrapper
from pydantic import BaseModel

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.run.events import AdapterContinued
from qlora_studio.core.run.fingerprint import Fingerprint, differences
from qlora_studio.core.words import say
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.memory.architecture import meta_models
from qlora_studio.engine.merge.adapter_delta import AdapterDelta, load_adapter
from qlora_studio.engine.model.adapter import adapter_folder, checkpoint_name
from qlora_studio.engine.model.saved_adapter import with_saved_adapter
from qlora_studio.storage.durable import NewerManifest
from qlora_studio.storage.foreign import read_parsed
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, DamagedCheckpoint, verify
from qlora_studio.storage.runs.fingerprint import fingerprint_file, read_base_fingerprint
from qlora_studio.storage.runs.parent_adapter import parent_folder, run_around, with_parent
from qlora_studio.storage.runs.run_folder import RunFolder

_TAKEN = {"rank": "LoRA rank", "alpha": "LoRA alpha", "rslora": "rsLoRA", "dora": "DoRA", "target_modules": "targets"}
_TAKEN |= {"experts": "adapters on experts"}


class _Base(BaseModel):
    """What stands beside an exported adapter of its base."""

    fingerprint: Fingerprint


def taken_over(context: JobContext) -> RunConfig:
    """Return the run's config, with the settings of the adapter that it goes on from, which is told and kept in it.

    Once there is a checkpoint the run goes on from that, and its parent need not be there any more.
    """
    config = context.folder.config()
    if not config.lora.start_from or CheckpointFolder(context.folder.checkpoints_path).all():
        return config
    folder = _folder(config.lora.start_from)
    new = with_parent(config)
    changed = [
        f"{words}: {old} → {now}"
        for name, words in _TAKEN.items()
        if (old := getattr(config.lora, name)) != (now := getattr(new.lora, name)) and old != "auto"
    ]
    run = run_around(folder)
    context.emit(
        AdapterContinued(
            parent=Path(config.lora.start_from).name,
            run=run.path.name if run else "",
            checkpoint=checkpoint_name(folder) if run else "",
            sha256=fingerprint_file(folder / "adapter_model.safetensors").sha256,
            taken_over=changed,
            stages=_stages(run),
        )
    )
    if changed:
        words = "; ".join(changed)
        context.warn(
            "taken_over", say("The adapter that this run goes on from has settings of its own: {words}.", words=words)
        )
    context.folder.write_config(new)
    return new


def parent_adapter(config: RunConfig, base: Fingerprint) -> Path | None:
    """Return the folder of the adapter to go on from, None where the run begins with a fresh one.

    Raises StudioError where it is known to be of another base than the run's.
    """
    if not config.lora.start_from:
        return None
    folder = _folder(config.lora.start_from)
    before = _base_of(folder)
    changes = differences(before, base) if before.files else []
    if changes:
        raise StudioError(
            say("The adapter to go on from was trained on another base model: {changes}.", changes=changes[0]),
            kind=FailureKind.FINGERPRINT_MISMATCH,
            advice=say("Choose the base model that it was trained on, or go on from another adapter."),
            detail="\n".join(changes),
        )
    return folder


def continued_folder(config: RunConfig) -> Path | None:
    """Return the folder of the adapter that a run goes on from, whatever it was made on; None for a fresh one."""
    return _folder(config.lora.start_from) if config.lora.start_from else None


def continued(model: Any, folder: Path, config: RunConfig) -> Any:
    """Return the base with the adapter in a folder, to be trained further."""
    names = [name for name, parameter in model.named_parameters() if parameter.ndim == 2]
    delta = load_adapter(folder, models=lambda: meta_models(model.config))
    if missing := delta.uncovered(names):
        raise StudioError(
            say(
                "The adapter to go on from holds nothing for {missing} ({count} such): it was not "
                "made for this base model.",
                missing=missing[0],
                count=len(missing),
            ),
            kind=FailureKind.FINGERPRINT_MISMATCH,
            advice=say("Choose the base model that it was trained on, or go on from another adapter."),
        )
    if reason := next(_hindrances(model, delta), ""):
        raise _not_trainable(reason)
    adapted = with_saved_adapter(model, folder, dropout=config.lora.dropout)
    if isinstance(adapted.get_output_embeddings(), TrainableTokensWrapper):
        raise _not_trainable(
            say("it trains single tokens of a head that is the embedding, and trl trains no such head")
        )
    adapted.enable_input_require_grads()
    return adapted


def _folder(start_from: str) -> Path:
    """Return the adapter's folder; of a run the best one, verified."""
    path = whole_path(start_from)
    if (path / "run.toml").is_file() and not (path / "adapter_config.json").is_file():
        return adapter_folder(RunFolder(path), "best")
    return parent_folder(start_from)


def _hindrances(model: Any, delta: AdapterDelta) -> Iterator[str]:
    """Yield why what an adapter holds cannot be trained further on a base."""
    modules, head = dict(model.named_modules()), model.get_output_embeddings()
    for name, change in delta.changes.items():
        module = modules.get(name.removesuffix(".weight"))
        if module is head and change.low_rank is not None:
            yield f"trl computes the loss from the head's weights, past an update of {name}"
        if module is None or change.replacement is None or not name.endswith(".weight"):
            continue
        if getattr(module.weight, "quant_state", None) is not None:
            yield f"it retrained {name} as a whole, which is in 4 bit here"
        elif change.replacement.shape != tuple(module.weight.shape):
            has, wants = len(module.weight), change.replacement.shape[0]
            yield f"its vocabulary has {wants:,} tokens, and the base's tokenizer, which makes the rows, is for {has:,}"


def _not_trainable(reason: str) -> StudioError:
    return StudioError(
        say("This adapter cannot be trained further: {reason}.", reason=reason),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Merge it, and take the merged model as the base of the new run."),
    )


def _stages(run: RunFolder | None) -> list[str]:
    """Return the names of a run and of those that it went on from, the first one first."""
    if run is None:
        return []
    before = run.state().parent
    return [*(before.stages if before else []), run.config().name]


def _base_of(folder: Path) -> Fingerprint:
    """Return what an adapter's base was, by what lies beside it; empty where nothing says so."""
    if (beside := read_base_fingerprint(folder)) is not None:
        return beside
    for place in (folder / "training", folder.parent):  # an adapter that was exported, or the copy in a merged model
        with suppress(OSError, StudioError):
            return read_parsed(place / "base.json", _Base.model_validate_json, inside=place).fingerprint
    with suppress(DamagedCheckpoint, NewerManifest):
        return verify(folder).manifest.base
    return Fingerprint()
