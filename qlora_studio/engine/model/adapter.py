"""The final adapter of a run: its weights, its tokenizer, and what it belongs to; written whole, loaded checked."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import to_toml
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import ChangeAccepted
from qlora_studio.core.run.fingerprint import Fingerprint, differences
from qlora_studio.core.words import say
from qlora_studio.engine.context import Channel, Reporter
from qlora_studio.engine.expert_adapters import own_names
from qlora_studio.engine.memory.load_failure import told
from qlora_studio.engine.merge.adapter_delta import (
    adapter_weights,
    copy_adapter_config,
    names_modules,
    read_adapter_config,
    require_plain_update,
)
from qlora_studio.engine.model.adapted import load_base
from qlora_studio.engine.model.base import base_folder, tokenizer_of
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.model.generation_config import complete_generation_config
from qlora_studio.engine.model.saved_adapter import with_saved_adapter
from qlora_studio.engine.templates.base_template import choose_template
from qlora_studio.storage.durable import staged_folder
from qlora_studio.storage.runs.checkpoint_folder import (
    CheckpointFolder,
    CheckpointManifest,
    DamagedCheckpoint,
    verify,
)
from qlora_studio.storage.runs.fingerprint import (
    fingerprint_folder,
    read_base_fingerprint,
    write_base_fingerprint,
)
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.staging import restore_replaced


def save_final_adapter(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    base: Path,
    base_fingerprint: Fingerprint,
    config: RunConfig,
    run: RunFolder,
) -> None:
    """Write `adapter/`: adapter in PEFT's format, tokenizer, the base's name and fingerprint, run config."""
    with staged_folder(run.adapter_path, replace=True) as staged:
        write_adapter(model, staged.path)
        tokenizer.save_pretrained(str(staged.path))
        if (base / "generation_config.json").is_file():
            shutil.copyfile(base / "generation_config.json", staged.path / "generation_config.json")
        complete_generation_config(staged.path)
        # The base is named as the user did, never by a path inside a cache.
        copy_adapter_config(staged.path, staged.path, config.model.source)
        write_base_fingerprint(staged.path, base_fingerprint)
        (staged.path / "run.toml").write_text(to_toml(config), encoding="utf-8")
        staged.manifest = CheckpointManifest(step=0)


def load_tuned(
    run: RunFolder, device: Device, checkpoint: str, channel: Channel, config: RunConfig | None = None
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Return the run's base with its adapter, and the tokenizer. `checkpoint` is best, final, last or a step.

    Another `config` than the run's own quantizes the base otherwise than it was trained.
    """
    config = config or run.config()
    folder = adapter_folder(run, checkpoint)
    base = base_folder(config.model.source, config.model.revision, channel)
    check_base(run, folder, base)
    model = load_base(base, config, device, folder, channel)
    with told(partial(_unfit, folder)):
        model = _with_adapter(model, folder).eval()
    tokenizer = tokenizer_of(folder if (folder / "tokenizer_config.json").is_file() else base)
    choose_template(tokenizer, config.data.chat_template)
    return model, tokenizer


def _unfit(folder: Path, error: Exception) -> StudioError:
    return StudioError(
        say("The adapter in {name} does not go onto its base: {error}.", name=folder.name, error=type(error).__name__),
        kind=FailureKind.DAMAGED,
        advice=say("Use another checkpoint, or the adapter as it was copied from."),
        detail=str(error),
    )


def _with_adapter(model: Any, folder: Path) -> Any:
    config = read_adapter_config(folder)
    require_plain_update(config)
    adapter_weights(folder)  # refuses pickles, and peft asks the hub where there are no weights
    if config.get("target_parameters") or not names_modules(config):
        return with_saved_adapter(model, folder)
    with own_names():
        return PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)


def adapter_folder(run: RunFolder, checkpoint: str) -> Path:
    """Return the verified folder of an adapter of the run: best, final, last or a step.

    Best is the one with the lowest held-out loss; the final adapter where none was measured, or none is better. Raises
    StudioError where there is none, or a broken one.
    """
    if not run.is_busy():
        restore_replaced(run.path)
    checkpoints = CheckpointFolder(run.checkpoints_path)
    if checkpoint == "final":
        path: Path | None = run.adapter_path if run.adapter_path.is_dir() else None
    elif checkpoint == "best":
        path = _best(run, checkpoints)
    elif checkpoint == "last":
        found = next(checkpoints.safe(), None)
        path = found.path if found else None
    else:
        path = run.checkpoints_path / f"checkpoint-{checkpoint.removeprefix('checkpoint-')}"
    if path is None or not path.is_dir():
        raise StudioError(
            say("This run has no {checkpoint} adapter.", checkpoint=checkpoint),
            kind=FailureKind.RUN_NOT_FOUND,
            advice=say("Train it first, or name another checkpoint."),
        )
    try:
        return verify(path).path
    except DamagedCheckpoint as error:
        raise StudioError(
            f"{error}.", kind=FailureKind.DAMAGED, advice=say("Use another checkpoint: best, last or a step.")
        ) from error


def checkpoint_name(folder: Path) -> str:
    """Return what an adapter's folder is known by: `final`, or the step of its checkpoint."""
    return folder.name.removeprefix("checkpoint-") if folder.name.startswith("checkpoint-") else "final"


def check_base(
    run: RunFolder, adapter: Path, base: Path, *, anew: bool = False, accepted_by: Reporter | None = None
) -> None:
    """Raise StudioError where the base is not the one that an adapter of the run was trained on.

    `anew` reads all of it. With `accepted_by`, the user wants to go on all the same: that is told there, and nothing is
    raised.
    """
    found = fingerprint_folder(base, anew=anew)
    changed = differences(_trained_on(run, adapter), found)
    if changed and accepted_by is not None:
        accepted_by.emit(ChangeAccepted(what="base", step=0, changes=changed, fingerprint=found))
        accepted_by.warn(
            "change_accepted", say("Going on with another base model, as you asked: {changed}.", changed=changed[0])
        )
    elif changed:
        raise StudioError(
            say("The base model is not the one that this adapter was trained on: {changed}.", changed=changed[0]),
            kind=FailureKind.FINGERPRINT_MISMATCH,
            advice=say("Put the original base model back. To go on all the same is possible, and is recorded."),
            detail="\n".join(changed),
        )


def _best(run: RunFolder, checkpoints: CheckpointFolder) -> Path | None:
    final = run.adapter_path if run.adapter_path.is_dir() else None
    best = checkpoints.best()
    if final is None or best is None:
        return final or (best.path if best else None)
    state = run.state()
    last = state.evaluation.loss if state.evaluation and state.evaluation.step == state.step else None
    is_better = last is None or (best.evaluation_loss is not None and best.evaluation_loss < last)
    return best.path if is_better else final


def _trained_on(run: RunFolder, adapter: Path) -> Fingerprint:
    """Return the fingerprint of the base: beside a final adapter, and in a checkpoint's manifest."""
    beside = read_base_fingerprint(adapter) or read_base_fingerprint(run.adapter_path)
    return beside or verify(adapter).manifest.base


def write_adapter(model: Any, folder: Path) -> None:
    """Write the adapter in PEFT's format, without the card that peft adds: it would hold this computer's paths."""
    model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
