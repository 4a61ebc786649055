"""The rows of a config's datasets as they are trained, from the cache where they are in it; and why a run refuses them.

Prepared once: the result is kept in the cache under the key of its plan, and mapped into memory.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.base_templates import AUTO
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import DatasetPrepared
from qlora_studio.core.run.fingerprint import Fingerprint
from qlora_studio.core.words import say, say_count
from qlora_studio.engine.context import Channel, Reporter
from qlora_studio.engine.data.opened import open_data
from qlora_studio.engine.data.plan import DataPlan, rendering_day
from qlora_studio.engine.data.preparation import FINGERPRINT, prepare
from qlora_studio.engine.data.row_files import EVALUATION, TRAINING, PackIndex, packed_dataset
from qlora_studio.engine.data.tally import DAMAGED, RowTally, facts_of
from qlora_studio.engine.templates.base_template import template_name
from qlora_studio.storage.foreign import read_parsed
from qlora_studio.storage.permissions import as_its_folder, private_folder
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import cache_path
from qlora_studio.storage.staging import remove_abandoned, staging_path
from qlora_studio.storage.syncing import sync_folder, sync_tree

_KEPT = 10  # prepared datasets in the cache


@dataclass(frozen=True)
class PreparedData:
    """Rows with `input_ids`, `labels` (-100 where not trained) and `row`, the row's number in the file.

    With packing `training` has a pack in place of a row: `row` lists its rows, `seq_lengths` their tokens, and `packs`
    finds the pack of a row. Evaluation rows are never packed.

    `fingerprint` is of the rows' content, in the shape that `core.run.fingerprint.differences` compares.
    """

    plan: DataPlan
    training: Dataset
    evaluation: Dataset | None
    facts: DatasetPrepared
    fingerprint: dict[str, Any]
    tally: RowTally
    folder: Path
    packs: PackIndex | None = None


def prepare_datasets(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, run: RunFolder, channel: Channel
) -> PreparedData:
    """Return the datasets of a run. Raises StudioError where they cannot be trained on.

    A tokenizer without a chat template is given a plain one, which is then saved with the adapter.
    """
    opened = open_data(config.data, run, channel)
    data = prepared(DataPlan.of(config, opened, tokenizer, rendering_day(run)), config, channel)
    if reason := refusal(data.tally, config):
        raise reason
    _warn(data, channel)
    return data


def prepared(plan: DataPlan, config: RunConfig, channel: Channel) -> PreparedData:
    """Return the rows of a plan, from the cache where they are in it, whether or not a run would take them."""
    if (name := template_name(plan.tokenizer)) != "model":
        has_none = plan.chat_template == AUTO
        why = "This base model has no chat template." if has_none else "The run chose its chat template."
        channel.warn("no_chat_template", say("{why} A {name} one is used, and saved with it.", why=why, name=name))
    folder = store_path() / plan.key
    with _alone(folder, channel):
        found = _kept(folder, plan, config)
        if found is None:
            _make(folder, plan, channel)
            found = _kept(folder, plan, config)
        if found is None:
            raise StudioError(
                say("The prepared rows in the cache are damaged."),
                kind=FailureKind.DAMAGED,
                advice=say("Delete {folder} and try again.", folder=folder),
            )
        return _packed(found, config) if config.training.packing and len(found.training) else found


def refusal(tally: RowTally, config: RunConfig) -> StudioError | None:
    """Return why a run would refuse these rows, or None."""
    return next(_refusals(tally, config), None)


def store_path() -> Path:
    """Return the folder of prepared datasets."""
    return cache_path() / "datasets"


@contextmanager
def _alone(folder: Path, channel: Channel) -> Iterator[None]:
    """Let no other process make a folder of the cache at the same time: the second one finds what the first has made.

    Some folders share a lock, so that locks do not pile up. Raises JobStopped while it waits.
    """
    private_folder(folder.parent)
    lock = FileLock(folder.parent / f".{folder.name[:2]}.lock")
    while not lock.is_locked:
        channel.raise_if_stopped()
        with suppress(Timeout):
            lock.acquire(timeout=0.5)
    try:
        yield
    finally:
        lock.release()


def _kept(folder: Path, plan: DataPlan, config: RunConfig) -> PreparedData | None:
    """Return what a folder of the cache holds, or None where it is not there or not whole."""
    try:
        tally = RowTally.load(folder)
        fingerprint = read_parsed(folder / FINGERPRINT, Fingerprint.model_validate_json, inside=folder).model_dump()
        training, evaluation = (Dataset.from_file(str(folder / name)) for name in (TRAINING, EVALUATION))
        facts = facts_of(tally, config, plan.opened)
    except DAMAGED:
        return None
    folder.touch()
    return PreparedData(plan, training, evaluation if len(evaluation) else None, facts, fingerprint, tally, folder)


def _make(folder: Path, plan: DataPlan, channel: Channel) -> None:
    """Prepare a plan's rows into a folder of the cache, all or nothing, and let go of the oldest there."""
    staging = staging_path(folder)
    remove_abandoned(folder.parent)
    shutil.rmtree(staging, ignore_errors=True)
    private_folder(staging)
    try:
        prepare(plan, staging, channel)
        as_its_folder(staging)
        sync_tree(staging)  # else a power cut leaves the name, and zeros for tokens
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one, or none
        staging.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    folders = [path for path in folder.parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(folders, key=lambda item: item.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def _packed(data: PreparedData, config: RunConfig) -> PreparedData:
    """Return the data with its training rows in packs. They are made from the rows once, and kept beside them."""
    limit, seed = config.training.max_length, config.training.seed
    training, fingerprint = packed_dataset(data.folder / TRAINING, limit, seed)
    files = {**data.fingerprint["files"], "the training rows": fingerprint}
    return replace(
        data,
        training=training,
        facts=data.facts.model_copy(update={"packs": len(training)}),
        fingerprint={**data.fingerprint, "files": files},
        packs=PackIndex(training),
    )


def _warn(data: PreparedData, reporter: Reporter) -> None:
    """Tell what is left out of rows that a run takes."""
    if data.tally.untrainable:
        reasons = "; ".join(f"{count} because {reason}" for reason, count in data.tally.errors.most_common(3))
        reporter.warn(
            "rows_left_out",
            say(
                "Left out: {rows}: {reasons}.",
                rows=say_count(data.tally.untrainable, "{count:,} row", "{count:,} rows"),
                reasons=reasons,
            ),
        )
    if data.tally.verdicts["rejected"]:
        reporter.warn(
            "rows_rejected",
            say(
                "Left out, for they could not be read: {rows}.",
                rows=say_count(data.tally.verdicts["rejected"], "{count:,} row", "{count:,} rows"),
            ),
        )
    if lost := [path for counts in data.tally.unread for path in counts if "[]." in path]:
        reporter.warn(
            "keys_not_used", say("Nothing is learned from these keys of the rows: {lost}.", lost=", ".join(lost[:12]))
        )
    own = data.facts.evaluation
    if own and own.rejected + own.untrainable + own.in_training:
        reporter.warn(
            "evaluation_rows_left_out",
            say(
                "{rejected} evaluation rows cannot be used, and {in_training} repeat a training row: "
                "they are left out.",
                rejected=own.rejected + own.untrainable,
                in_training=own.in_training,
            ),
        )


def _refusals(tally: RowTally, config: RunConfig) -> Iterator[StudioError]:
    """Yield every reason not to train on these rows, the one that explains most first."""
    rejected, read = tally.verdicts["rejected"], tally.verdicts["ok"] + tally.verdicts["repaired"]
    name = " and ".join(source.name for source in config.data.sources)
    bad = rejected + tally.untrainable
    bad += tally.evaluation.get("rejected", 0) + tally.evaluation.get("untrainable", 0)
    first = f" The first: {tally.problems[0]['reason']} (line {tally.problems[0]['line']})." if tally.problems else ""
    if not read and not rejected:
        yield _refused(say("{name} holds no rows.", name=name), say("Choose a file with at least two rows."))
    if not read:
        yield _refused(
            say("No row of {name} can be read.{first}", name=name, first=first),
            say("Check the file and its format on the Data page."),
        )
    if tally.hidden and tally.hidden == read:
        yield _refused(
            say(
                "The chat template of this model does not show where its answers begin and end: they "
                "alone cannot be trained exactly."
            ),
            say('Set "Learn from" to the full text (training.loss_on = "all"), or choose another model.'),
        )
    if not tally.mine("training").any():
        yield _refused(
            say("No row of {name} can be trained.{first}", name=name, first=first),
            say("Look at the rows and checks on the Data page."),
        )
    yield from _empty_datasets(tally, config)
    if config.data.bad_rows == "stop" and bad:
        yield _refused(
            say("{bad} rows of {name} cannot be used.{first}", bad=bad, name=name, first=first),
            say("Correct them, or choose to leave bad rows out."),
        )


def _empty_datasets(tally: RowTally, config: RunConfig) -> Iterator[StudioError]:
    """Yield the refusals of datasets that give the run nothing: whoever names one means to train on it."""
    for index, source in enumerate(config.data.sources):
        counts = tally.sources[index] if index < len(tally.sources) else {}
        if counts.get("ok", 0) + counts.get("repaired", 0) > counts.get("untrainable", 0):
            continue
        problem = next((item for item in tally.problems if item["source"] == index), None)
        why = f" The first: {problem['reason']} (line {problem['line']})." if problem else ""
        yield _refused(
            say("No row of {name} can be used.{why}", name=source.name, why=why),
            say("Say which column plays which part, check its format and encoding, or leave this dataset out."),
        )


def _refused(message: str, advice: str) -> StudioError:
    return StudioError(message, kind=FailureKind.DATA_REFUSED, advice=advice)
