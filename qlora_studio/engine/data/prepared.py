"""The rows of a config's dataset as they are trained: read, rendered, tokenized, cut, split; and the cache of them.

Prepared once: the result is kept in the cache under a hash of everything that goes into it, and mapped into memory.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qlora_studio import __version__
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import DatasetPrepared
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.facts import facts_of
from qlora_studio.engine.data.opened import OpenedData, open_data
from qlora_studio.engine.data.packing import PackIndex, packed_dataset
from qlora_studio.engine.data.preparation import Preparation
from qlora_studio.engine.data.tally import RowTally
from qlora_studio.engine.templates.rendering import RowRenderer
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.datasets.reader import DatasetReader
from qlora_studio.storage.runs.fingerprint import fingerprint_file
from qlora_studio.storage.settings import cache_path

_LAYOUT = 5  # changes when the same input gives other rows
_KEPT = 10  # prepared datasets in the cache


@dataclass(frozen=True)
class PreparedData:
    """Rows with `input_ids`, `labels` (-100 where not trained) and `row`, the row's number in the file.

    With packing `training` has a pack in place of a row: `row` lists its rows, `seq_lengths` their tokens, and `packs`
    finds the pack of a row. Evaluation rows are never packed.

    `fingerprint` is of the rows' content, in the shape that `storage.fingerprint.differences` compares.
    """

    training: Dataset
    evaluation: Dataset | None
    facts: DatasetPrepared
    fingerprint: dict[str, Any]
    tally: RowTally
    folder: Path
    packs: PackIndex | None = None


def prepare_datasets(config: RunConfig, tokenizer: PreTrainedTokenizerBase, context: JobContext) -> PreparedData:
    """Return the datasets of a run. Raises StudioError where they cannot be trained on.

    A tokenizer without a chat template is given a plain one, which is then saved with the adapter.
    """
    data = prepare(config, tokenizer, context, context.raise_if_stopped)
    if reason := refusal(data.tally, config):
        raise reason
    if data.tally.untrainable:
        reasons = "; ".join(f"{count} because {reason}" for reason, count in data.tally.errors.most_common(3))
        context.warn("rows_left_out", f"{data.tally.untrainable} rows are left out: {reasons}.")
    if data.tally.verdicts["rejected"]:
        context.warn("rows_rejected", f"{data.tally.verdicts['rejected']} rows could not be read and are left out.")
    own = data.facts.evaluation
    if own and own.rejected + own.untrainable + own.in_training:
        context.warn(
            "evaluation_rows_left_out",
            f"{own.rejected + own.untrainable} evaluation rows cannot be used, and {own.in_training} repeat a training "
            "row: they are left out.",
        )
    return data


def prepare(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    context: JobContext,
    between: Callable[[], object],
    opened: OpenedData | None = None,
) -> PreparedData:
    """Return the datasets, from the cache where they are in it, whether or not a run would take them.

    `between` is called now and then, and may raise. `opened` are the config's datasets, where they are open already.
    """
    opened = opened or open_data(config.data, context, between)
    now = rendering_date(context)
    with RowRenderer(tokenizer, loss_on=config.training.loss_on, now=now) as renderer:
        if renderer.template_name != "model":
            context.warn(
                "no_chat_template",
                f"This base model has no chat template. A {renderer.template_name} one is used, and saved with it.",
            )
        store = store_path()
        folder = store / key_of(config, tokenizer, now, opened.mixtures())
        if (found := _opened(folder, config, opened)) is not None:
            return found
        staging = store / f".{os.getpid()}-{folder.name[:16]}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            Preparation(config, tokenizer, renderer, context, between, staging).run(opened.training, opened.evaluation)
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one, or none
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    let_go_of_oldest()
    found = _opened(folder, config, opened)
    if found is None:
        raise StudioError(
            "The prepared rows in the cache are damaged.",
            kind=FailureKind.DAMAGED,
            advice=f"Delete {folder} and try again.",
        )
    return found


def refusal(tally: RowTally, config: RunConfig) -> StudioError | None:
    """Return why a run would refuse these rows, or None."""
    rejected, read = tally.verdicts["rejected"], tally.verdicts["ok"] + tally.verdicts["repaired"]
    name = " and ".join(source.name for source in config.data.sources)
    bad = rejected + tally.untrainable
    bad += tally.evaluation.get("rejected", 0) + tally.evaluation.get("untrainable", 0)
    first = f" The first: {tally.problems[0]['reason']} (line {tally.problems[0]['line']})." if tally.problems else ""
    if not read and not rejected:
        return _refused(f"{name} holds no rows.", "Choose a file with at least two rows.")
    if not read:
        return _refused(f"No row of {name} can be read.{first}", "Check the file and its format on the Data page.")
    if tally.hidden and tally.hidden == read:
        return _refused(
            "The chat template of this model does not show where its answers begin and end: "
            "they alone cannot be trained exactly.",
            'Set "Learn from" to the full text (training.loss_on = "all"), or choose another model.',
        )
    if not tally.mine("training").any():
        return _refused(f"No row of {name} can be trained.{first}", "Look at the rows and checks on the Data page.")
    if empty := _without_rows(tally, config):
        return empty
    if config.data.bad_rows == "stop" and bad:
        return _refused(
            f"{bad} rows of {name} cannot be used.{first}",
            "Correct them, or choose to leave bad rows out.",
        )
    return None


def _without_rows(tally: RowTally, config: RunConfig) -> StudioError | None:
    """Return the refusal of a dataset that gives the run nothing: whoever names one means to train on it."""
    for index, source in enumerate(config.data.sources):
        counts = tally.sources[index] if index < len(tally.sources) else {}
        if counts.get("ok", 0) + counts.get("repaired", 0) > counts.get("untrainable", 0):
            continue
        problem = next((item for item in tally.problems if item["source"] == index), None)
        why = f" The first: {problem['reason']} (line {problem['line']})." if problem else ""
        return _refused(
            f"No row of {source.name} can be used.{why}",
            "Say which column plays which part, check its format and encoding, or leave this dataset out.",
        )
    return None


def rendering_date(context: JobContext) -> datetime:
    """Return the date for templates that write one: that of the folder's first event, so that a resumed run agrees."""
    first = next(context.folder.events(), None)
    return datetime.fromtimestamp(first.time) if first else datetime.now()


def _opened(folder: Path, config: RunConfig, opened: OpenedData) -> PreparedData | None:
    """Return what a folder of the cache holds, or None where it is not there or not whole."""
    try:
        tally = RowTally.load(folder)
        fingerprint = json.loads((folder / "fingerprint.json").read_text("utf-8"))
        training = Dataset.from_file(str(folder / "training.arrow"))
        evaluation = Dataset.from_file(str(folder / "evaluation.arrow"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    folder.touch()
    facts = facts_of(tally, config, opened)
    data = PreparedData(training, evaluation if len(evaluation) else None, facts, fingerprint, tally, folder)
    return _packed(data, config) if config.training.packing and len(training) else data


def _packed(data: PreparedData, config: RunConfig) -> PreparedData:
    """Return the data with its training rows in packs. They are made from the rows once, and kept beside them."""
    limit, seed = config.training.max_length, config.training.seed
    training, fingerprint = packed_dataset(data.folder / "training.arrow", limit, seed)
    files = {**data.fingerprint["files"], "the training rows": fingerprint}
    return replace(
        data,
        training=training,
        facts=data.facts.model_copy(update={"packs": len(training)}),
        fingerprint={**data.fingerprint, "files": files},
        packs=PackIndex(training),
    )


def _refused(message: str, advice: str) -> StudioError:
    return StudioError(message, kind=FailureKind.DATA_REFUSED, advice=advice)


def store_path() -> Path:
    """Return the folder of prepared datasets."""
    return cache_path() / "datasets"


def key_of(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    now: datetime,
    mixtures: Sequence[DatasetMixture],
) -> str:
    """Return a hash of all that decides the rows."""
    template = str(tokenizer.chat_template)
    parts = {
        "studio": [__version__, _LAYOUT],
        "files": [
            [name, _files(reader)] for data in mixtures for name, reader in zip(data.names, data.readers, strict=True)
        ],
        "data": config.data.model_dump(exclude={"path", "evaluation_path", "bad_rows", "more"}),
        "more": [source.model_dump(exclude={"path"}) for source in config.data.more],
        "training": [config.training.max_length, config.training.loss_on],
        "template": template,
        "special": {name: str(value) for name, value in tokenizer.special_tokens_map.items()},
        "tokenizer": sha256(_tokenizer_text(tokenizer).encode()).hexdigest(),
        "date": now.date().isoformat() if "strftime_now" in template else "",
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _files(reader: DatasetReader) -> list[list[Any]]:
    return [[file.path.name, fingerprint_file(file.path).model_dump()] for file in reader.files]


def _tokenizer_text(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return str(backend.to_str()) if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)


def let_go_of_oldest() -> None:
    """Delete all but the newest."""
    store = store_path()
    folders = [path for path in store.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(folders, key=lambda item: item.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
