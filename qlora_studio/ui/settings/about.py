"""What the program is made of on this machine, without importing any of it."""

import platform
from importlib.metadata import PackageNotFoundError, version

from qlora_studio import __version__
from qlora_studio.storage.settings import Settings, cache_path, data_path

_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "PySide6-Essentials", "pyqtgraph")


def versions() -> tuple[tuple[str, str], ...]:
    """Return names and versions."""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return (("QLoRA Studio", __version__), ("System", system), *((name, _version(name)) for name in _PACKAGES))


def folders(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return where things are kept."""
    return (("Runs", str(settings.runs_path)), ("Data", str(data_path())), ("Cache", str(cache_path())))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
