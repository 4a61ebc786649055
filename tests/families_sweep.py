"""Every causal language model class of the installed transformers, tried: `python -m tests.families_sweep`.

Writes tests/families.json and, from it, docs/MODELS.md. The libraries are imported once; each family is tried in a
child that was forked from there, within a limit of time, so that a crash of one does not end the sweep.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from tests.models_page import PAGE, RESULTS, page

_SECONDS = 300
_LARGEST = 6 << 30  # bytes of memory that a child may hold; a limit of the kernel's own would count mapped files
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclasses.dataclass
class _Child:
    process: Any
    deadline: float
    name: str
    ended_for: str = ""


def sweep(names: list[str], jobs: int) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each family, as they come."""
    from tests.engine.family_trial import make_parts

    with tempfile.TemporaryDirectory() as place:
        os.environ["QLORA_STUDIO_HOME"] = f"{place}/home"
        parts = make_parts(Path(place))
        waiting, running = list(names), dict[Connection, _Child]()
        at_once = 1  # until the first has prepared the rows for all
        while waiting or running:
            while waiting and len(running) < at_once:
                pipe, child = _started(waiting.pop(0), parts)
                running[pipe] = child
            for ready in wait(list(running), timeout=1):
                assert isinstance(ready, Connection)
                yield _ended(ready, running.pop(ready))
                at_once = jobs
            for child in running.values():
                _end_where_it_exceeds(child)


def _started(name: str, parts: Path) -> tuple[Connection, _Child]:
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_work, args=(name, parts, theirs))
    process.start()
    theirs.close()
    return ours, _Child(process, time.monotonic() + _SECONDS, name)


def _end_where_it_exceeds(child: _Child) -> None:
    with suppress(psutil.NoSuchProcess):
        if psutil.Process(child.process.pid).memory_info().rss > _LARGEST:
            child.ended_for = f"took more than {_LARGEST >> 30} GiB of memory"
    if time.monotonic() > child.deadline:
        child.ended_for = f"not done in {_SECONDS} s"
    if child.ended_for:
        child.process.kill()


def _ended(pipe: Connection, child: _Child) -> dict[str, Any]:
    try:
        found: dict[str, Any] = pipe.recv()
        child.process.join()
    except EOFError:
        child.process.join()
        why = child.ended_for or f"ended with {child.process.exitcode}"
        found = {"model_type": child.name, "verdict": "fails", "reason": why}
    return found


def _work(name: str, parts: Path, pipe: Connection) -> None:
    from tests.engine.family_trial import try_family

    log = os.open(os.environ.get("SWEEP_LOG", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with tempfile.TemporaryDirectory(dir=parts) as folder:
        outcome = try_family(name, parts, Path(folder))
    if outcome.trace:
        print(name, outcome.trace, file=sys.stderr, flush=True)
    pipe.send(dataclasses.asdict(dataclasses.replace(outcome, trace="")))


def main() -> int:
    """Try the families; write results and page as they come."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    os.environ.update(_ENVIRONMENT)
    import torch

    from tests.engine.family_trial import today
    from tests.engine.tiny_families import families

    torch.set_num_threads(1)
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    for outcome in sweep(options.only or families(), options.jobs):
        name = outcome.pop("model_type")
        found[name] = {key: value for key, value in outcome.items() if value not in ("", None)} | {"tried": today()}
        print(f"{name:26} {outcome['verdict']:9} {outcome['reason']}", flush=True)
        RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
