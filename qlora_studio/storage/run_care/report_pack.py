"""A run as a zip for a bug report: its figures, settings and versions, and nothing that its user or its data said.

What is kept is listed, not what is left out: numbers, choices among known words, and the words of events that never
hold anything of a user's. Of tracebacks the places in the program stay, and neither messages nor values.

Where its user asks for that, their own text goes along: settings and events as they are, the log, and some rows. Such
a zip can be taken in as a run.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run import events as ev
from qlora_studio.storage.datasets.reader import DatasetReader, FormatMistaken, ReadRow, open_dataset
from qlora_studio.storage.durable import not_writable
from qlora_studio.storage.foreign import open_regular
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.staging import staging_path

SETTINGS, EVENTS, CONTENTS, ROWS = "settings.json", "events.jsonl", "CONTENTS.txt", "rows.jsonl"
MOST_ROWS = 100
_TOLD = f"""\
A report of a run of QLoRA Studio.

{SETTINGS}  the settings that are numbers or choices: no name, model, path, prompt or column
{EVENTS}   what the worker told, as numbers: steps, losses, memory, checkpoints; versions, card and driver;
               of a failure its kind, and at which lines of the program it happened

Not in it: rows, samples, prompts, answers, the names of runs, models and files, folders, messages, worker.log, weights.
"""
_TOLD_WITH_DATA = f"""\
A report of a run of QLoRA Studio, with its user's own text.

{SETTINGS}  the settings that are numbers or choices
run.toml       all settings as they are: names, folders, columns, prompts
{EVENTS}   all that the worker told: messages, prompts and answers among it
worker.log     what the worker and its libraries wrote
{ROWS}     ROWS_TOLD

Not in it: other rows, weights, exports, chats.
"""
_WORDS: dict[type[ev.Event], tuple[str, ...]] = {
    ev.WorkerStarted: ("studio",),
    ev.EnvironmentTold: ("studio", "commit", "python", "packages", "driver", "cards"),
    ev.PhaseChanged: (),
    ev.ModelLoaded: (),
    ev.DatasetPrepared: (),
    ev.TrainingStarted: (),
    ev.StepDone: (),
    ev.Evaluated: (),
    ev.CheckpointSaved: (),
    ev.AdapterSaved: (),
    ev.Resumed: (),
    ev.Probed: ("card", "driver", "versions"),
    ev.MemoryMeasured: (),
    ev.Recovering: ("kind",),
    ev.RateLowered: (),
    ev.StoppedEarly: (),
    ev.Warned: (),
    ev.Paused: (),
    ev.Finished: ("status",),
    ev.Failed: ("kind",),
}
_VERSION = re.compile(r"[\w.+ ()-]{1,80}")
_FRAME = re.compile(r'File "[^"\n]*(?P<place>(?:qlora_studio|site-packages)[\\/][\w.\\/-]+)", line (?P<line>\d+)')


def write_report(folder: RunFolder, place: Path, *, with_data: bool = False) -> None:
    """Write the zip, whole or not at all; `with_data` with the user's own text, too.

    Raises StudioError where the run cannot be read, or nothing written there.
    """
    config = folder.config()
    staging = staging_path(place)
    try:
        with zipfile.ZipFile(staging, "w", zipfile.ZIP_DEFLATED) as pack:
            pack.writestr(SETTINGS, json.dumps(told_settings(config), indent=1))
            if with_data:
                _write_own_text(folder, config, pack)
            else:
                pack.writestr(CONTENTS, _TOLD)
                with pack.open(EVENTS, "w") as file:
                    for facts in told_events(folder):
                        file.write(json.dumps(facts).encode() + b"\n")
        staging.replace(place)
    except OSError as error:
        raise not_writable(place.parent, error) from error
    finally:
        staging.unlink(missing_ok=True)


def _write_own_text(folder: RunFolder, config: RunConfig, pack: zipfile.ZipFile) -> None:
    for path in (folder.config_path, folder.events_path, folder.log_path):
        if path.exists():
            opened = os.fdopen(open_regular(path, inside=folder.path), "rb")
            with opened as source, pack.open(path.name, "w", force_zip64=True) as file:
                shutil.copyfileobj(source, file)
    rows, told = _first_rows(folder, config)
    pack.writestr(ROWS, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    pack.writestr(CONTENTS, _TOLD_WITH_DATA.replace("ROWS_TOLD", told))


def _first_rows(folder: RunFolder, config: RunConfig) -> tuple[list[dict[str, Any]], str]:
    """Return the first rows of the dataset as they stand in its files, each with its verdict, and words on that.

    A run that somebody else made does not say which file of this computer is packed.
    """
    if trust.objection(folder.path) is not None:
        return [], "empty: the run is not trusted, so the dataset that it names was not opened"
    try:
        read = _read(open_dataset(config.data))
    except StudioError as error:
        return [], f"empty: {error.message}"
    rows = [{"line": row.line, "verdict": row.verdict, "reason": row.reason, "row": row.raw} for row in read]
    return rows, f"the first rows of the dataset ({len(rows)}), as they stand there, each with its verdict"


def _read(dataset: DatasetReader) -> list[ReadRow]:
    """Return the first rows; a long dataset is not read to its end for them."""
    try:
        return list(islice(dataset.rows(guess=True), MOST_ROWS))
    except FormatMistaken:  # it is a short one, and its format is known now
        return list(islice(dataset.rows(), MOST_ROWS))


def told_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings that are numbers, or choices among known words."""
    found = {}
    for info in all_settings():
        value = getattr(getattr(config, info.section), info.name)
        if isinstance(value, bool | int | float) or (isinstance(value, str) and value in info.choices):
            found[info.path] = value
    return found


def told_events(folder: RunFolder) -> Iterator[dict[str, Any]]:
    """Yield of each event what may be told: numbers at the top, and the words that are listed."""
    for event in folder.events():
        words = _WORDS.get(type(event))
        if words is None:
            continue
        facts = json.loads(event.to_line())
        told: dict[str, Any] = {
            name: value for name, value in facts.items() if isinstance(value, bool | int | float | None)
        }
        told |= {name: _plain(facts[name]) for name in words if name in facts}
        if isinstance(event, ev.Failed):
            told["places"] = [f"{found['place']}:{found['line']}" for found in _FRAME.finditer(event.detail)]
        yield {**told, "type": event.type}


def _plain(value: Any) -> Any:
    """Return words that are a version, a kind or a card's name; what looks otherwise is left out."""
    match value:
        case str():
            return value if _VERSION.fullmatch(value) else ""
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
    return None
