"""How should threads wait for each other: spinning, sleeping, or spinning for a while and then sleeping?

    python -m tests.benchmarks.threads [--steps 6] [--rounds 3] [--busy 2]

Forward and backward steps of the starter model in NF4 with two threads, in a process of its own for each way to wait,
interleaved, on the machine as it is and then beside `--busy` other processes that take all they can get. The clock is
told, since that is what a waiting thread costs, and the processor's seconds beside it.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from typing import Any

WAYS: dict[str, dict[str, str]] = {
    "active": {"OMP_WAIT_POLICY": "active"},
    "as it comes": {},
    "spin 100,000": {"GOMP_SPINCOUNT": "100000"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
_STEP = "import sys; from tests.benchmarks.threads import step; step(int(sys.argv[1]))"


def main() -> None:
    """Print the median seconds a step of each way, alone and beside others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=2)
    arguments = parser.parse_args()
    for busy in (0, arguments.busy):
        others = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(busy)]
        for other in others:
            other.start()
        taken = _rounds(arguments.rounds, arguments.steps)
        for other in others:
            other.kill()
        print(f"Beside {busy} busy processes, seconds a step (min / median / max) and processor seconds:")
        for way, samples in taken.items():
            walls, cpus = zip(*samples, strict=True)
            spread = f"{min(walls):.2f} / {statistics.median(walls):.2f} / {max(walls):.2f}"
            print(f"  {way:<14}{spread}   {statistics.median(cpus):.2f}", flush=True)


def step(steps: int) -> None:
    """Take training steps; print the clock's and the processor's seconds of each."""
    import torch
    from transformers import set_seed

    from qlora_studio.core.config.run_config import RunConfig
    from qlora_studio.engine.model.adapted import attach_adapters, cast_adapters, load_base, make_trainable
    from qlora_studio.engine.model.base import base_folder
    from qlora_studio.engine.model.device import Device

    set_seed(0)
    device = Device("cpu", torch.bfloat16, "adamw_torch", True)
    model: Any = attach_adapters(load_base(base_folder("starter"), RunConfig(), device), RunConfig())
    make_trainable(model, device)
    cast_adapters(model, torch.float32)
    model.train()
    ids = torch.randint(0, 49000, (4, 128))
    samples = []
    for _ in range(steps + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=ids, labels=ids).loss.backward()
        samples.append((time.perf_counter() - wall, time.process_time() - cpu))
    print(json.dumps(samples[1:]))  # the first prepares


def _rounds(rounds: int, steps: int) -> dict[str, list[tuple[float, float]]]:
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, variables in WAYS.items():
            environment = {**os.environ, "OMP_NUM_THREADS": "2", **variables}
            command = [sys.executable, "-W", "ignore", "-c", _STEP, str(steps)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            taken[way] += [tuple(sample) for sample in json.loads(done.stdout)]
    return taken


def _spin() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
