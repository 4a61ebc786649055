"""How this program was installed, and how a package is installed beside it: what made the environment decides that."""

import re
import shlex
import shutil
import subprocess
import sys
from enum import Enum
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from qlora_studio.core.words import say
from qlora_studio.storage.resources import resource

SETUP_MARK = ".whole"  # what the setup of our own packages leaves in an environment, after the last library
_PIPX, _CONDA, _UV_TOOL = "pipx_metadata.json", "conda-meta", "uv-receipt.toml"  # and what others leave there


class Way(Enum):
    """What made the environment: how it is called, and the line that makes all of it anew, where there is one."""

    CHECKOUT = "a checkout", "make setup"
    SETUP = "the package of this system", "qlora-studio-setup --repair"
    UV_TOOL = "uv tool", "uv tool upgrade --reinstall qlora-studio"
    PIPX = "pipx", "pipx reinstall qlora-studio"
    UV = "uv, in an environment", ""
    CONDA = "conda", ""
    PIP = "pip", ""

    def __init__(self, title: str, repair: str) -> None:
        self.title = title
        self.repair = repair


def way_of_installation(prefix: Path | None = None) -> Way:
    """Return what made this environment, or the one in the folder `prefix`."""
    place = prefix or Path(sys.prefix)
    for file, way in ((SETUP_MARK, Way.SETUP), (_UV_TOOL, Way.UV_TOOL), (_PIPX, Way.PIPX)):
        if (place / file).is_file():
            return way
    if prefix is None and (resource("").parent / "pyproject.toml").is_file():
        return Way.CHECKOUT
    if (place / _CONDA).is_dir():
        return Way.CONDA
    return Way.UV if _is_of_uv(place) else Way.PIP


def install_command(*words: str, prefix: Path | None = None, has_pip: bool | None = None) -> str:
    """Return what to type to install packages here; `words` are options of pip's and the packages.

    `prefix` is the folder of another environment, and `has_pip` whether it has one.
    """
    place = prefix or Path(sys.prefix)
    if (place / SETUP_MARK).is_file():
        return Way.SETUP.repair
    python = str(_python(place))
    has_pip = is_installed("pip") if has_pip is None else has_pip
    if (place / _PIPX).is_file():
        return _line("pipx", "runpip", place.name, "install", *words)
    if (place / _UV_TOOL).is_file() or (not has_pip and _is_of_uv(place)):
        return _line("uv", "pip", "install", "--python", python, *words)
    install = _line(python, "-m", "pip", "install", *words)
    if not has_pip and not (place / _CONDA).is_dir():
        return f"{_line(python, '-m', 'ensurepip')} and then {install}"
    return install


def installer(python: Path | None = None) -> list[str]:
    """Return the program that installs packages into this environment and is here; none where there is none.

    pipx lends its environments a pip, and uv lends its own none: there uv itself is asked.
    """
    interpreter = str(python or _python(Path(sys.prefix)))
    if is_installed("pip"):
        return [interpreter, "-m", "pip", "install"]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path.home() / ".local" / "bin"))
    return [uv, "pip", "install", "--python", interpreter] if uv else []


def pinned(package: str) -> str:
    """Return `package==version`, as it was tested with this version of the program; the bare name where none is said.

    Raises nothing: a file that is missing is a file that says nothing.
    """
    try:
        lines = _constraints().read_text("utf-8").splitlines()
    except OSError:
        return package
    wanted = _normal(package)
    found = (line.partition(";")[0].strip() for line in lines if _normal(line.partition("==")[0]) == wanted)
    return next(found, package)


def is_installed(name: str) -> bool:
    """Whether a package is there, by its metadata."""
    try:  # not by `find_spec`: setuptools answers that one for pip, with a warning
        return bool(version(name))
    except PackageNotFoundError:
        return False


def torn_record(package: str) -> Path | None:
    """Return the folder with a package's record where pip or uv did not write that to its end: neither of them removes
    or replaces such a package."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return None
    whole = found.read_text("RECORD") and "\nVersion:" in (found.read_text("METADATA") or "")
    if whole or (found.read_text("INSTALLER") or "pip").strip() not in ("pip", "uv"):
        return None
    wanted, packages = _normal(package), Path(str(found.locate_file("")))
    records = (path for path in packages.glob("*.dist-info") if _normal(path.name.partition("-")[0]) == wanted)
    return next(records, None) if packages.name == "site-packages" else None


def repair_advice() -> str:
    """Return what makes this program and all its libraries anew."""
    repair = way_of_installation().repair
    if not repair:
        return say("Make a new environment, and install QLoRA Studio there.")
    return say("Make all of them anew: {command}", command=repair)


def _constraints() -> Path:
    """Return the file of pins: in the package, or in a checkout."""
    installed = resource("constraints.txt")
    return installed if installed.is_file() else resource("").parent / "packaging" / "constraints.txt"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).strip().lower()


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
