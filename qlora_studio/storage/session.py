"""Where the user was when the window closed: page, place and size of the window, and the run that was being set up.

The draft is kept as the text of a `run.toml`, so that a draft of any version is read as a run of that version is.
"""

from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from qlora_studio.core.bounds import PathText
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_toml, to_toml
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_parsed, set_aside
from qlora_studio.storage.settings import settings_path

_MOST_RECENT = 8
_FARTHEST = 1 << 20  # pixels


class Place(BaseModel):
    """Where the window stands on the desktop, in pixels, and whether it fills the screen."""

    model_config = ConfigDict(frozen=True)

    left: int = Field(default=0, ge=-_FARTHEST, le=_FARTHEST)
    top: int = Field(default=0, ge=-_FARTHEST, le=_FARTHEST)
    width: int = Field(ge=1, le=_FARTHEST)
    height: int = Field(ge=1, le=_FARTHEST)
    maximized: bool = False


class Session(BaseModel):
    """What the next start takes up; `panel` is whether the card's panel is shown. `problem` says what became of a
    session that could not be read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    page: str = ""
    place: Place | None = None
    panel: bool = True
    draft: str = ""
    run: PathText = ""
    recent_models: tuple[PathText, ...] = ()
    recent_datasets: tuple[PathText, ...] = ()
    problem: str = Field(default="", exclude=True)

    def config(self) -> RunConfig | None:
        """Return the draft; None where nothing was set up. Raises InvalidRunConfig, or NewerVersion."""
        return from_toml(self.draft) if self.draft else None

    def with_draft(self, config: RunConfig) -> "Session":
        """Return the session with another draft."""
        return self.model_copy(update={"draft": "" if config == RunConfig() else to_toml(config)})

    def with_used(self, config: RunConfig) -> "Session":
        """Return the session with the model and the datasets of a run as the most recent ones."""
        session = self.with_recent(model=config.model.source)
        for source in reversed(config.data.sources):
            session = session.with_recent(dataset=source.path)
        return session

    def with_recent(self, *, model: str = "", dataset: str = "") -> "Session":
        """Return the session with a model or dataset as the most recent one."""
        models, datasets = _before(model, self.recent_models), _before(dataset, self.recent_datasets)
        return self.model_copy(update={"recent_models": models, "recent_datasets": datasets})


def load_session() -> Session:
    """Return the session of last time; a new one where there is none, or what is there cannot be read."""
    try:
        session = read_parsed(session_path(), Session.model_validate_json)
        session.config()
    except FileNotFoundError:
        return Session()
    except StudioError as error:
        kept = _set_aside()
        why = error.message.splitlines()[0]
        return Session(problem=f"What was being set up last time cannot be taken up: {why} It is kept as {kept}.")
    return session


def save_session(session: Session) -> None:
    """Save it durably. Raises StudioError where that cannot be."""
    write_atomically(session_path(), session.model_dump_json(indent=1).encode())


def session_path() -> Path:
    """Return the file, beside the settings."""
    return settings_path().with_name("session.json")


def _before(newest: str, others: tuple[str, ...]) -> tuple[str, ...]:
    return (newest, *(other for other in others if other != newest))[:_MOST_RECENT] if newest else others


def _set_aside() -> str:
    """Rename the file, so that the next saving does not write over it; return its new name."""
    with suppress(OSError):  # then nothing can be written there, which is told when it is tried
        return set_aside(session_path()).name
    return session_path().name
