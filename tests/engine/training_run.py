"""Small real runs for tests: a tiny random Llama, real rows, a real worker in a process of its own."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors import safe_open

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.run.events import Event
from qlora_studio.core.run.run_state import RunState
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder

SETTINGS = (
    "training.batch_size=2",
    "training.gradient_accumulation=2",
    "training.epochs=1",
    "training.max_length=64",
    "training.learning_rate=2e-3",
    "evaluation.every_steps=4",
    "checkpoint.every_steps=2",
    "checkpoint.keep=100",
    "export.merge=false",
)


def write_rows(path: Path, count: int = 40) -> Path:
    """Write small chats of growing length to a JSON Lines file."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            answer = f"Log: {number} and {number} make {2 * number}. " + "Steady as she goes. " * (number % 4)
            turns = [
                {"role": "user", "content": f"What is {number} + {number}?"},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


def make_run(runs: Path, model: Path, *settings: str, rows: int = 40) -> RunFolder:
    """Make a run folder for a model, with rows of its own beside it."""
    runs.mkdir(parents=True, exist_ok=True)
    data = write_rows(runs / "rows.jsonl", rows)
    mapping = {"model": {"source": str(model)}, "data": {"path": str(data)}}
    return create_run_folder(runs, from_mapping(mapping, [*SETTINGS, *settings]))


def follow(process: WorkerProcess, until: Callable[[Event], bool] = lambda event: False) -> list[Event]:
    """Return the events of this session, up to and with the first that `until` says, or to the end."""
    seen: list[Event] = []
    for batch in RunFollower(process.folder, process, from_start=False).batches():
        for event in batch:
            seen.append(event)
            if until(event):
                return seen
    process.wait(60)
    return seen


def run_to_end(folder: RunFolder) -> RunState:
    """Start a worker, wait for its end and return the run's state."""
    follow(start_worker(folder))
    return folder.state()


def tensors(path: Path) -> dict[str, bytes]:
    """Return the bytes of each tensor of a safetensors file."""
    import torch

    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        return {name: file.get_tensor(name).contiguous().view(torch.uint8).numpy().tobytes() for name in names}


def final_weights(folder: RunFolder) -> dict[str, bytes]:
    """Return the final adapter's tensors."""
    return tensors(folder.adapter_path / "adapter_model.safetensors")


def of_type(events: Iterable[Event], name: str) -> list[Event]:
    """Return the events of one type."""
    return [event for event in events if event.type == name]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds; fail when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
