"""The user's settings and the folders that the program keeps things in. Nothing else is remembered."""

import os
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, ValidationError

from qlora_studio.storage.durable import write_atomically

_APP = "qlora-studio"


class Settings(BaseModel):
    """What the user chose once, for all runs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    theme: Literal["system", "light", "dark"] = "system"
    runs_dir: str = ""
    gpus: str = ""
    assumed_gpu: str = ""
    last_model: str = ""
    last_data: str = ""

    @property
    def runs_path(self) -> Path:
        """Where runs are kept."""
        return Path(self.runs_dir).expanduser().absolute() if self.runs_dir else data_path() / "runs"


def load_settings() -> Settings:
    """Return the saved settings, or the defaults where there are none or they are broken."""
    try:
        return Settings.model_validate_json(_settings_path().read_bytes())
    except (FileNotFoundError, ValidationError, OSError):
        return Settings()


def save_settings(settings: Settings) -> None:
    """Save the settings. Raises StudioError where that cannot be."""
    write_atomically(_settings_path(), settings.model_dump_json(indent=1).encode())


def data_path() -> Path:
    """Return the folder of runs. `QLORA_STUDIO_HOME` replaces it, and the cache's, for tests and portable use."""
    home = os.environ.get("QLORA_STUDIO_HOME")
    return Path(home).absolute() if home else Path(platformdirs.user_data_dir(_APP, appauthor=False))


def cache_path() -> Path:
    """Return the folder of what can be made again: converted starter models, prepared datasets, jobs without a run."""
    home = os.environ.get("QLORA_STUDIO_HOME")
    return Path(home).absolute() / "cache" if home else Path(platformdirs.user_cache_dir(_APP, appauthor=False))


def _settings_path() -> Path:
    home = os.environ.get("QLORA_STUDIO_HOME")
    folder = Path(home) if home else Path(platformdirs.user_config_dir(_APP, appauthor=False))
    return folder / "settings.json"
