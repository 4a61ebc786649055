"""What a user calls a run: another name, tags, a note. A small file of its own in the run's folder.

It lies beside `run.toml`, so that it goes along where the folder is moved, copied or packed, and touches nothing that
is on record of the run, or that its worker writes: a run at work can be named. It gives no orders, whoever wrote it.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_parsed, set_aside
from qlora_studio.storage.runs.own_files import require_own_file
from qlora_studio.storage.runs.run_folder import RunFolder

FILE = "label.json"
MOST_TAGS = 30
LONGEST_NAME = 120
_Line = StringConstraints(strip_whitespace=True, max_length=LONGEST_NAME, pattern=r"^[^\r\n]*$")


class RunLabel(BaseModel):
    """A user's own words on a run. An empty `name` leaves that of the settings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, _Line] = ""
    tags: Annotated[tuple[Annotated[str, _Line], ...], Field(max_length=MOST_TAGS)] = ()
    note: Annotated[str, StringConstraints(strip_whitespace=True, max_length=20_000)] = ""


def read_label(folder: RunFolder) -> RunLabel:
    """Return what a run is called; nothing where nobody said, or what is there cannot be read."""
    try:
        return read_parsed(folder.path / FILE, RunLabel.model_validate_json, inside=folder.path)
    except (FileNotFoundError, StudioError):
        return RunLabel()


def name_of(folder: RunFolder, config: RunConfig) -> str:
    """Return what a run is called: by its user, else by its settings."""
    return read_label(folder).name or config.name


def write_label(folder: RunFolder, label: RunLabel) -> None:
    """Write it, whole or not at all; one that says nothing is no file. Raises StudioError, OSError."""
    path = folder.path / FILE
    require_own_file(path)
    try:
        read_parsed(path, RunLabel.model_validate_json, inside=folder.path)
    except FileNotFoundError:
        pass
    except StudioError:
        set_aside(path)
    if label == RunLabel():
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, label.model_dump_json(indent=1).encode())


def tags_of(text: str) -> tuple[str, ...]:
    """Return the tags in a line of words with commas, each once, in their order."""
    words = (" ".join(word.split()) for word in text.split(","))
    return tuple(dict.fromkeys(word for word in words if word))[:MOST_TAGS]
