"""How a package is installed beside this program: that depends on what made the environment that it runs in."""

import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PIPX, _CONDA, _UV_TOOL = "pipx_metadata.json", "conda-meta", "uv-receipt.toml"  # what they leave in an environment


def install_command(*words: str, prefix: Path | None = None, has_pip: bool | None = None) -> str:
    """Return what to type to install packages here; `words` are options of pip's and the packages.

    `prefix` is the folder of another environment, and `has_pip` whether it has one.
    """
    place = prefix or Path(sys.prefix)
    python = str(_python(place))
    has_pip = _is_installed("pip") if has_pip is None else has_pip
    if (place / _PIPX).is_file():
        return _line("pipx", "runpip", place.name, "install", *words)
    if (place / _UV_TOOL).is_file() or (not has_pip and _is_of_uv(place)):
        return _line("uv", "pip", "install", "--python", python, *words)
    install = _line(python, "-m", "pip", "install", *words)
    if not has_pip and not (place / _CONDA).is_dir():
        return f"{_line(python, '-m', 'ensurepip')} and then {install}"
    return install


def _is_installed(name: str) -> bool:
    try:  # not by `find_spec`: setuptools answers that one for pip, with a warning
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _python(place: Path) -> Path:
    """Return the interpreter of an environment."""
    if sys.platform != "win32":
        return place / "bin" / "python3"
    within = place / "Scripts" / "python.exe"
    return within if within.exists() else place / "python.exe"


def _is_of_uv(place: Path) -> bool:
    try:
        return any(line.startswith("uv ") for line in (place / "pyvenv.cfg").read_text("utf-8").splitlines())
    except (OSError, ValueError):
        return False


def _line(*words: str) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
