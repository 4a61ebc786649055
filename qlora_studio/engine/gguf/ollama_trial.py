"""Is Ollama here, and does it take what was exported? Made under a name of its own, asked once, and removed again."""

import os
import shutil
import subprocess
from pathlib import Path

_QUICK, _SLOW = 20.0, 600.0  # seconds
_QUESTION = "Hello!"


def try_in_ollama(folder: Path) -> tuple[bool, str] | None:
    """Return whether Ollama made and ran the model, and in words; None where there is no Ollama that answers."""
    program = shutil.which("ollama")
    if program is None or _run(program, folder, _QUICK, "list") is None:
        return None
    name = f"qlora-studio-check-{os.getpid()}"
    try:
        if _run(program, folder, _SLOW, "create", name, "-f", "Modelfile") is None:
            return False, "ollama create did not take the Modelfile."
        answer = _run(program, folder, _SLOW, "run", name, _QUESTION)
        if not answer or not answer.strip():
            return False, "Ollama made the model, and it did not answer."
        return True, f"Ollama made the model, and it answers: {' '.join(answer.split())[:120]}"
    finally:
        _run(program, folder, _QUICK, "rm", name)


def _run(program: str, folder: Path, seconds: float, *words: str) -> str | None:
    """Return what a command prints, or None where it fails or takes too long."""
    try:
        done = subprocess.run(
            [program, *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
