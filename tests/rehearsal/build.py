"""Compile the card and NVIDIA's library, once for each torch and each text of them."""

import hashlib
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

_HERE = Path(__file__).parent
CARD = "libcard.so"
NVML = "libnvidia-ml.so.1"  # by this name pynvml asks for it


def missing_compilers() -> list[str]:
    """Return which of the compilers are not installed."""
    return [name for name in ("g++", "gcc") if shutil.which(name) is None]


def build(cache: Path) -> Path:
    """Return a folder under `cache` with both libraries, compiled now where they are not there."""
    texts = (_HERE / "card.cpp").read_bytes() + (_HERE / "nvml.c").read_bytes()
    folder = cache / f"card-{version('torch')}-{hashlib.sha256(texts).hexdigest()[:16]}"
    with FileLock(cache / "card.lock"):
        if not folder.exists():
            staging = cache / "card-staging"
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            _compile("gcc", "-O1", "-shared", "-fPIC", _HERE / "nvml.c", "-o", staging / NVML)
            _compile_card(staging / CARD)
            staging.rename(folder)
    return folder


def _compile_card(out: Path) -> None:
    spec = find_spec("torch")
    assert spec is not None and spec.origin is not None
    torch = Path(spec.origin).parent
    libraries = ("-L", torch / "lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch / 'lib'}")
    _compile(
        *("g++", "-O1", "-std=c++20", "-shared", "-fPIC", "-w", "-isystem", torch / "include"),
        *(_HERE / "card.cpp", "-o", out, *libraries),
    )


def _compile(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
