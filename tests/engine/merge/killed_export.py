"""Exports a run again and again, killed at the n-th thing that it does to a file, until one comes to its end.

    python -m tests.engine.merge.killed_export RUN_DIR FORMAT OUT STEP

The libraries are loaded once; each export is a fork of its own. Before every call that opens, renames, removes or makes
something, an audit hook counts. After each death the place is looked at: nothing that could be taken for an export may
stand there. Prints how often it was killed.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.storage.runs.export_folder import damages
from qlora_studio.storage.runs.run_folder import RunFolder

_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree", "os.scandir")


def main() -> None:
    """Kill at 1, 1 + step, 1 + 2 step …"""
    run, shape, out, step = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    import gguf  # noqa: F401  loaded before the forks, as are the tokenizers below
    from transformers import AutoConfig, AutoTokenizer

    AutoTokenizer.from_pretrained(RunFolder(run).config().model.source)
    AutoConfig.from_pretrained(RunFolder(run).config().model.source)
    moment, kills = 1, 0
    while _killed_at(moment, run, shape, out):
        kills, moment = kills + 1, moment + step
        if out.exists() and damages(out):
            raise SystemExit(f"Killed at {moment}, a damaged export was left.")
        if left := [path for path in out.parent.iterdir() if path != out and not path.name.startswith(".staging-")]:
            raise SystemExit(f"Killed at {moment}, something was left: {left}.")
        if out.exists():  # killed after the rename: whole, as it should be
            break
    if not out.exists() or damages(out) or [path.name for path in out.parent.iterdir() if path != out]:
        raise SystemExit("The last export is not whole, or left something beside it.")
    print(kills)


def _killed_at(moment: int, run: str, shape: str, out: Path) -> bool:
    out.parent.mkdir(exist_ok=True)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return os.WTERMSIG(status) == signal.SIGKILL
        if status:
            raise SystemExit(f"An export ended with {os.waitstatus_to_exitcode(status)}.")
        return False
    try:
        _export(moment, run, shape, out)
        os._exit(0)
    except BaseException:  # noqa: BLE001  whatever it is, the fork must not go on as its parent
        import traceback

        traceback.print_exc()
        os._exit(1)


def _export(moment: int, run: str, shape: str, out: Path) -> None:
    place = str(out.parent)
    count = 0

    def count_and_kill(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in _EVENTS and any(isinstance(item, str | Path) and str(item).startswith(place) for item in arguments):
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_and_kill)
    export_run(RunFolder(run), formats=[shape], out_dir=str(out), channel=QUIET)


if __name__ == "__main__":
    main()
