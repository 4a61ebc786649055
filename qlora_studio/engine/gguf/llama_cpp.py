"""A llama.cpp on this machine: found, never installed; asked only for what nothing else here can do."""

import os
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.engine.context import Commands

FOLDER_VARIABLE = "QLORA_STUDIO_LLAMA_CPP"
_BINDINGS = "llama_cpp"  # the package llama-cpp-python: the library, without its programs
_PACKAGES = ("ik_llama_cpp", _BINDINGS)
_POLL_SECONDS = 0.1
_BY_BINDINGS = """
import ctypes, sys
import llama_cpp
source, out, precision = sys.argv[1:]
parameters = llama_cpp.llama_model_quantize_default_params()
parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{precision}")
sys.exit(llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(parameters)))
"""


def find_program(name: str) -> Path | None:
    """Return a program of llama.cpp: from the folder named in the environment, the PATH, or an installed package."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if found := shutil.which(name, path=folder) if folder else shutil.which(name):
        return Path(found).absolute()
    for package in _PACKAGES:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(place).rglob(f"{name}*")):
                if path.is_file() and path.stem == name and os.access(path, os.X_OK):
                    return path
    return None


def find_quantizer() -> list[str] | None:
    """Return the command that makes k-quants, to be followed by source, target and precision; None without one."""
    if program := find_program("llama-quantize"):
        return [str(program)]
    return [*child_process.python("-c", _BY_BINDINGS)] if find_spec(_BINDINGS) else None


def require_quantizer(precision: str) -> list[str]:
    """Return the command that makes k-quants. Raises StudioError where there is none."""
    command = find_quantizer()
    if command is None:
        raise StudioError(
            f"{precision} needs the program llama-quantize of llama.cpp, and it was not found.",
            kind=FailureKind.TOOL_MISSING,
            advice=f"Install llama.cpp, or name its folder in {FOLDER_VARIABLE}. q8_0 needs no program.",
        )
    return command


def quantize(source: Path, out: Path, precision: str, commands: Commands) -> None:
    """Quantize a GGUF file. Raises StudioError where there is no llama-quantize, or where it fails."""
    command = require_quantizer(precision)
    with tempfile.TemporaryFile() as log:
        process = child_process.start(
            [*command, source.absolute(), out.absolute(), precision.upper()],
            environment={"LD_LIBRARY_PATH": _libraries(Path(command[0]))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                commands.raise_if_stopped()
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    if process.returncode != 0 or not out.is_file():
        raise StudioError(
            f"llama-quantize ended with {process.returncode}.",
            kind=FailureKind.ERROR,
            advice="The details hold its own words; q8_0 needs no such program.",
            detail=text[-4000:],
        )


def _libraries(program: Path) -> str:
    places = [program.parent, program.parent.parent / "lib", os.environ.get("LD_LIBRARY_PATH", "")]
    return os.pathsep.join(str(place) for place in places if str(place))
