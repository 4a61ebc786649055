"""Makes the run folders that later versions must still open, resume and export, with the program as it is now.

    python -m tests.compatibility.make_fixtures

Run once for each released version, before a format changes; needs Linux. Makes tests/compatibility/<version>/ with a
tiny model, chats, a run that finished and one that was paused, all of it written by real workers. They work in a folder
whose name tells nothing of this computer, and what they wrote is kept byte for byte, but for paths of libraries in
logs and the disk space that a run holds in reserve.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qlora_studio import __version__
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.events import Evaluated
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.compatibility.keeping import keep
from tests.compatibility.tiny_model import make_model, make_rows
from tests.compatibility.unpacking import FIGURES, MADE_AT
from tests.engine.training_run import follow

_PAUSE_AFTER = 4  # steps; the answers to a prompt that follow leave time for the command to come
_SETTINGS = (
    "quantization.compute_dtype=float32",  # else it is bf16 or not as the processor has it
    "lora.rank=2",
    "training.max_length=64",
    "training.gradient_accumulation=2",
    "training.learning_rate=1e-2",
    "evaluation.every_steps=4",
    'evaluation.prompts=["What is 2 plus 2?"]',
    "checkpoint.keep=2",
)
_ENVIRONMENT = {
    "QLORA_STUDIO_HOME": str(MADE_AT / "home"),
    "HF_HOME": str(MADE_AT / "home" / "huggingface"),
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",  # what is made is the same with a card and without
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",  # peft writes sets of names as they come
}


def main() -> None:
    """Make the folder of this version."""
    target = Path(__file__).parent / f"v{'_'.join(__version__.split('.')[:2])}"
    if target.exists():
        sys.exit(f"{target} exists: what a version left is made once.")
    os.environ.update(_ENVIRONMENT)
    with _workplace():
        make_rows(MADE_AT / "rows.jsonl")
        make_model(MADE_AT / "model")
        _make_finished()
        _make_paused()
        _write_figures()
        shutil.rmtree(MADE_AT / "home")
        size = keep(MADE_AT, target)
    print(f"{target}: {size:,} bytes")


@contextmanager
def _workplace() -> Iterator[None]:
    MADE_AT.mkdir()  # not over another one that is being made
    try:
        yield
    finally:
        shutil.rmtree(MADE_AT)


def _make_finished() -> None:
    """A run to its end with merge and proof; then exported once more, and talked to."""
    run = _new_run("finished", "training.max_steps=6")
    _studio("resume", str(run.path))
    _studio("export", str(run.path), "--to", "gguf:q8_0")
    _studio("chat", str(run.path), "--prompt", "What is 3 plus 3?", "--variant", "both", "--max-new-tokens", "8")


def _make_paused() -> None:
    """A run that was asked to pause half-way, and obeyed."""
    run = _new_run("paused", "training.max_steps=10", "export.merge=false")
    process = start_worker(run)
    follow(process, lambda event: isinstance(event, Evaluated) and event.step == _PAUSE_AFTER)
    run.send(Pause())
    follow(process)
    state = run.state()
    assert state.phase is Phase.PAUSED and 0 < state.step < state.total_steps, state


def _new_run(name: str, *settings: str) -> RunFolder:
    run = RunFolder(MADE_AT / name)
    paths = {"model": {"source": str(MADE_AT / "model")}, "data": {"path": str(MADE_AT / "rows.jsonl")}}
    run.write_config(from_mapping({"name": name, **paths}, [*_SETTINGS, *settings]))
    return run


def _write_figures() -> None:
    """Write what this version says of the runs, for later ones to say the same."""
    told = {name: _studio("watch", str(MADE_AT / name)) for name in ("finished", "paused")}
    listed = _studio("runs", "--runs", str(MADE_AT))
    (MADE_AT / FIGURES).write_text(json.dumps({**told, **listed}, indent=1) + "\n", encoding="utf-8")


def _studio(*arguments: str) -> dict[str, Any]:
    """Run a command in a process of its own; return its report."""
    command = [sys.executable, "-m", "qlora_studio", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    main()
