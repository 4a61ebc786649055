"""A llama.cpp on this machine: found, never installed; asked only for what nothing else here can do."""

import os
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from qlora_studio.core.problem import StudioError
from qlora_studio.engine.context import JobContext

FOLDER_VARIABLE = "QLORA_STUDIO_LLAMA_CPP"
_PACKAGES = ("ik_llama_cpp", "llama_cpp")
_POLL_SECONDS = 0.1


def find_program(name: str) -> Path | None:
    """Return a program of llama.cpp: from the folder named in the environment, the PATH, or an installed package."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if found := shutil.which(name, path=folder) if folder else shutil.which(name):
        return Path(found)
    for package in _PACKAGES:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(place).rglob(f"{name}*")):
                if path.is_file() and path.stem == name and os.access(path, os.X_OK):
                    return path
    return None


def quantize(source: Path, out: Path, precision: str, context: JobContext) -> None:
    """Quantize a GGUF file. Raises StudioError where there is no llama-quantize, or where it fails."""
    program = find_program("llama-quantize")
    if program is None:
        raise StudioError(
            f"{precision} needs the program llama-quantize of llama.cpp, and it was not found.",
            kind="tool_missing",
            advice=f"Install llama.cpp, or name its folder in {FOLDER_VARIABLE}. q8_0 needs no program.",
        )
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [program, source, out, precision.upper()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LD_LIBRARY_PATH": _libraries(program)},
        )
        try:
            while process.poll() is None:
                context.raise_if_stopped()
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    if process.returncode != 0 or not out.is_file():
        raise StudioError(
            f"llama-quantize ended with {process.returncode}.",
            kind="error",
            advice="The details hold its own words; q8_0 needs no such program.",
            detail=text[-4000:],
        )


def _libraries(program: Path) -> str:
    places = [program.parent, program.parent.parent / "lib", os.environ.get("LD_LIBRARY_PATH", "")]
    return os.pathsep.join(str(place) for place in places if str(place))
