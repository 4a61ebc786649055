"""The places that runs can be sent to, as the user wrote them down once: a file beside the settings."""

from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_parsed, set_aside
from qlora_studio.storage.settings import settings_path


class _Places(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    places: tuple[Place, ...] = Field(default=(), max_length=1000)


def load_places() -> tuple[Place, ...]:
    """Return the places, in the order they were written down. Raises StudioError where they cannot be read."""
    try:
        return read_parsed(_path(), _Places.model_validate_json).places
    except FileNotFoundError:
        return ()


def place_named(name: str) -> Place:
    """Return a place. Raises StudioError where there is none of that name."""
    found = next((place for place in load_places() if place.name == name), None)
    if found is None:
        raise StudioError(
            say("No place is called {name} here.", name=name),
            kind=FailureKind.USAGE,
            advice=say("`qlora-studio elsewhere places` lists them, `elsewhere add` writes one down."),
        )
    return found


def is_place_known(name: str) -> bool:
    """Whether there is a place of that name; where the places cannot be read, there may be."""
    try:
        return any(place.name == name for place in load_places())
    except StudioError:
        return True


def save_place(place: Place) -> None:
    """Write a place down, over one of the same name. Raises StudioError where that cannot be."""
    known = _known()
    if any(item.name == place.name for item in known):
        _write(tuple(place if item.name == place.name else item for item in known))
    else:
        _write((*known, place))


def remove_place(name: str) -> None:
    """Forget a place; runs that are there go on. Raises StudioError."""
    _write(tuple(item for item in _known() if item.name != name))


def _known() -> tuple[Place, ...]:
    """Return the places; a file that cannot be read is set aside, for it is to be written over."""
    try:
        return load_places()
    except StudioError:
        with suppress(OSError):
            set_aside(_path())
        return ()


def _write(places: tuple[Place, ...]) -> None:
    write_atomically(_path(), _Places(places=places).model_dump_json(indent=1).encode())


def _path() -> Path:
    return settings_path().with_name("places.json")
