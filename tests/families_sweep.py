"""Every causal language model class of the installed transformers, tried: `python -m tests.families_sweep`.

Writes docs/MODELS.md. The libraries are imported once; each family is tried in a child that was forked from there,
within a limit of time, so that a crash of one does not end the sweep.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "MODELS.md"
_SECONDS = 240


@dataclasses.dataclass
class _Child:
    process: Any
    deadline: float
    name: str


def sweep(names: list[str], jobs: int) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each family, as they come."""
    from tests.engine.family_trial import make_parts

    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place:
        os.environ["QLORA_STUDIO_HOME"] = f"{place}/home"
        parts = make_parts(Path(place))
        waiting, running = list(names), dict[Connection, _Child]()
        while waiting or running:
            while waiting and len(running) < jobs:
                ours, theirs = fork.Pipe(duplex=False)
                process = fork.Process(target=_work, args=(waiting[0], parts, theirs))
                process.start()
                theirs.close()
                running[ours] = _Child(process, time.monotonic() + _SECONDS, waiting.pop(0))
            for pipe in wait(list(running), timeout=1):
                assert isinstance(pipe, Connection)
                yield _ended(pipe, running.pop(pipe))
            for pipe in [pipe for pipe, child in running.items() if time.monotonic() > child.deadline]:
                child = running.pop(pipe)
                child.process.kill()
                child.process.join()
                yield {"model_type": child.name, "verdict": "fails", "reason": f"not done in {_SECONDS} s"}


def _ended(pipe: Connection, child: _Child) -> dict[str, Any]:
    try:
        found: dict[str, Any] = pipe.recv()
    except EOFError:
        child.process.join()
        found = {"model_type": child.name, "verdict": "fails", "reason": f"ended with {child.process.exitcode}"}
    child.process.join()
    return found


def _work(name: str, parts: Path, pipe: Connection) -> None:
    from tests.engine.family_trial import try_family

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    log = os.open(os.environ.get("SWEEP_LOG", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=parts) as folder:
        outcome = dataclasses.asdict(try_family(name, parts, Path(folder)))
    pipe.send(outcome | {"seconds": round(time.monotonic() - began, 1)})


def main() -> int:
    """Try the families and write results and page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("families.json"))
    options = parser.parse_args()
    os.environ.update(
        OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1"
    )
    os.environ.update(TRL_EXPERIMENTAL_SILENCE="1", TRANSFORMERS_VERBOSITY="error")
    import torch

    from tests.engine.tiny_families import families

    torch.set_num_threads(1)
    found = json.loads(options.results.read_text("utf-8")) if options.results.is_file() else {}
    for outcome in sweep(options.only or families(), options.jobs):
        found[outcome["model_type"]] = outcome
        print(
            f"{outcome['model_type']:26} {outcome['verdict']:8} {outcome.get('seconds', 0):6} "
            f"{outcome.get('stage', '')}: {outcome['reason']} | {outcome.get('plain', '')}",
            flush=True,
        )
        options.results.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
