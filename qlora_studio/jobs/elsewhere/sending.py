"""What a run takes along to a place: its settings as they are there, and the files of this computer that they name."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import problems_before_start, to_toml
from qlora_studio.core.elsewhere.job_script import job_script
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.elsewhere.sent_config import ranks_there, sent_config
from qlora_studio.core.errors import FailureKind, InvalidRunConfig, StudioError
from qlora_studio.core.path_text import is_there, whole_path
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.named_places import named_places
from qlora_studio.core.run.ranks import require_shares
from qlora_studio.core.run.titles import OLLAMA
from qlora_studio.core.words import say, say_count
from qlora_studio.storage.datasets.files import hub_name
from qlora_studio.storage.foreign import unreadable
from qlora_studio.storage.models.location import is_hub_name
from qlora_studio.storage.runs.parent_adapter import parent_folder

_SENT = ("data.path", "data.more", "data.evaluation_path", "lora.start_from")  # a model is fetched there, or lies there
_MOST_FILES = 5000
_RUN = "RUN"  # in what is shown before the run has a folder there


@dataclass(frozen=True)
class SentFile:
    """A file of this computer, its size, and its name in the run's folder there."""

    path: Path
    there: str
    size: int


@dataclass(frozen=True)
class Sending:
    """A run that can be sent, as it would be. `notes` say in sentences what is other there, and what goes there."""

    place: Place
    config: RunConfig
    files: tuple[SentFile, ...]
    moved: dict[str, str]
    model: str
    trusts: bool = False  # whether the network between several nodes was called trusted

    @property
    def expected(self) -> tuple[str, ...]:
        """The paths that must be there already: of models that are named by a path."""
        named = (self.model or self.config.model.source, self.config.quantization.original)
        return tuple(path for path in named if path and not is_hub_name(path))

    @property
    def size_bytes(self) -> int:
        """What the files weigh together."""
        return sum(file.size for file in self.files)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before it is sent."""
        size = bytes_text(self.size_bytes)
        goes = say_count(
            len(self.files),
            "{count:,} file goes there, {size}, and the settings.",
            "{count:,} files go there, {size} in all, and the settings.",
            size=size,
        )
        there = (say("{path} must be there already.", path=path) for path in self.expected)
        changes = sent_config(self.config, self.place, self.moved, model=self.model).changes
        return (goes, *there, *changes, *listening(self.place))

    @property
    def script(self) -> str:
        """The job script, but for the name of the run's folder."""
        return self.job(f"{self.place.folder.rstrip('/')}/{_RUN}")[1]

    def job(self, folder: str, *more: str) -> tuple[str, str]:
        """Return run.toml and job script for a folder there."""
        there = {path: f"{folder}/{name}" for path, name in self.moved.items()}
        text = to_toml(sent_config(self.config, self.place, there, model=self.model).config)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return text, job_script(self.place, folder, sha256, more=more, trusts=self.trusts)


def listening(place: Place) -> tuple[str, ...]:
    """Return what listens on several nodes while they train, and who reaches that, in sentences."""
    if place.nodes == 1:
        return ()
    return (
        say(
            "It trains on {nodes} nodes together. While it does, each card's process listens on a port of the node's "
            "address at {interface}, and the first node on one more, where they meet; the system chooses the ports.",
            nodes=place.nodes,
            interface=place.interface,
        ),
        say(
            "Whoever reaches {interface} there reaches these ports. Nothing is encrypted and nobody is asked who they "
            "are: they can read and change what the run learns. That network must be trusted.",
            interface=place.interface,
        ),
    )


def plan_sending(config: RunConfig, place: Place, *, model: str = "", trusts: bool = False) -> Sending:
    """Return what would be sent. Raises StudioError where it cannot be, and says what to do. Nothing is asked yet.

    `model` is the path of the base model there; without it, the model is one of the hub, or lies there as here.
    `trusts` is whether the user calls the network between the place's nodes trusted, which `submit` asks for.
    """
    if problems := problems_before_start(config):
        raise InvalidRunConfig(problems)
    require_shares(config, ranks_there(config, place))
    if config.model.source.startswith(OLLAMA) and not model:
        raise StudioError(
            say("A model of Ollama's is on this computer alone."),
            kind=FailureKind.MODEL_NOT_FOUND,
            advice=say("Choose one of the hub, or say where the model lies there."),
        )
    moved: dict[str, str] = {}
    files: list[SentFile] = []
    for name, path in named_places(config):
        source = _source(name, path) if name in _SENT else None
        if source is None or path in moved:
            continue
        moved[path] = f"elsewhere/sent/{len(moved) + 1}/{source.name}"
        files += _files(source, moved[path])
    if len(files) > _MOST_FILES:
        raise StudioError(
            say("The data are {count:,} files: too many to be sent one by one.", count=len(files)),
            kind=FailureKind.DATA_REFUSED,
            advice=say("Put them into fewer files, or copy them there and name their folder there."),
        )
    return Sending(place, config, tuple(files), moved, model, trusts)


def _source(name: str, path: str) -> Path | None:
    """Return the file or folder that a setting names here; None for what is found there by its own name."""
    if not path:
        return None
    if name == "lora.start_from":
        return parent_folder(path)
    if hub_name(path):
        return None
    found = whole_path(path)
    if is_there(found):
        return found.absolute()
    raise StudioError(
        say("There is no dataset at {path}.", path=path),
        kind=FailureKind.DATA_NOT_FOUND,
        advice=say("It may have been moved or renamed: choose it again."),
    )


def _files(source: Path, there: str) -> Iterator[SentFile]:
    """Yield the files of a dataset or adapter; links within a folder are not followed."""
    if source.is_file():
        yield _file(source, there)
        return
    for place, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file() and not path.is_symlink():
                yield _file(path, f"{there}/{path.relative_to(source).as_posix()}")


def _file(path: Path, there: str) -> SentFile:
    try:
        if "\n" in there:
            raise unreadable(path, say("its name cannot be written in a script"))
        with path.open("rb"):
            return SentFile(path, there, path.stat().st_size)
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
