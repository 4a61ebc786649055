"""The user's settings and the folders that the program keeps things in. Nothing else is remembered."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field

from qlora_studio.core.bounds import PathText
from qlora_studio.core.errors import StudioError
from qlora_studio.core.path_text import whole_path
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_parsed, set_aside

_APP = "qlora-studio"


class Settings(BaseModel):
    """What the user chose once, for all runs. `problem` says what became of settings that could not be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    theme: Literal["system", "light", "dark"] = "system"
    text_size: Literal["small", "usual", "large", "largest"] = "usual"
    language: str = Field(default="", max_length=64)
    runs_dir: PathText = ""
    gpus: str = ""
    assumed_gpu: str = ""
    idle_worker: Literal["kept", "none"] = "kept"
    last_model: str = ""
    last_data: str = ""
    keep_bases: bool = True
    offline: bool = False
    tell_endings: bool = True
    runs_columns: tuple[str, ...] = ()
    runs_order: str = ""
    problem: str = Field(default="", exclude=True)

    @property
    def runs_path(self) -> Path:
        """Where runs are kept."""
        return whole_path(self.runs_dir).absolute() if self.runs_dir else data_path() / "runs"


def load_settings() -> Settings:
    """Return the saved settings, or the defaults where there are none, or what is there cannot be read."""
    try:
        return read_parsed(settings_path(), Settings.model_validate_json)
    except FileNotFoundError:
        return Settings()
    except StudioError as error:
        return Settings(problem=f"{error.message} The settings are as at first; {settings_path()} is kept.")


def save_settings(settings: Settings) -> None:
    """Save the settings; what cannot be read in their place is set aside. Raises StudioError where that cannot be."""
    if load_settings().problem:
        with suppress(OSError):  # then nothing can be written there, which is told
            set_aside(settings_path())
    write_atomically(settings_path(), settings.model_dump_json(indent=1).encode())


def data_path() -> Path:
    """Return the folder of runs. `QLORA_STUDIO_HOME` replaces it, and the cache's, for tests and portable use."""
    home = os.environ.get("QLORA_STUDIO_HOME")
    return Path(home).absolute() if home else Path(platformdirs.user_data_dir(_APP, appauthor=False))


def cache_path() -> Path:
    """Return the folder of what can be made again: converted starter models, prepared datasets, jobs without a run."""
    home = os.environ.get("QLORA_STUDIO_HOME")
    return Path(home).absolute() / "cache" if home else Path(platformdirs.user_cache_dir(_APP, appauthor=False))


def settings_path() -> Path:
    home = os.environ.get("QLORA_STUDIO_HOME")
    folder = Path(home) if home else Path(platformdirs.user_config_dir(_APP, appauthor=False))
    return folder / "settings.json"
