"""Measures real training steps on this machine's card beside what the estimator says of them.

    python -m tests.gpu.calibrate_vram            eight minutes at most; needs an NVIDIA card
    python -m tests.gpu.calibrate_vram --dry-run  the same steps on the CPU with tiny models: shows that the code runs
    python -m tests.gpu.calibrate_vram --plan     what would be measured, and by the formula how large it is

Some 25 configurations with random weights, two steps each, by the code that a run uses. Prints formula, trace,
allocated, reserved and what NVML shows, and stores the table under tests/benchmarks/results/. What does not fit on the
card, fails, or cannot be traced with the libraries there is noted, and the rest goes on.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.gpu.calibration_plan import Measurement, Plan, plans

if TYPE_CHECKING:
    from qlora_studio.core.memory.setup import MemorySetup
    from qlora_studio.engine.memory.traced_step import TracedStep

MEASURING_LIMIT = 330.0  # seconds until no step is begun
_TRACING = 1.4  # times that, until nothing is traced any more
MIB = 1 << 20
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def main() -> int:
    """Measure every plan, trace it, print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="run tiny models on the CPU")
    parser.add_argument("--seconds", type=float, default=MEASURING_LIMIT, help="begin no step after so many")
    parser.add_argument("--plan", action="store_true", help="list what would be measured, and measure nothing")
    arguments = parser.parse_args()
    dry_run = arguments.dry_run
    if arguments.plan:
        return _print_plans()
    if not dry_run and not _card_name():
        print("No NVIDIA card is here, so nothing was measured. Try --dry-run.")
        return 0
    started = time.monotonic()
    measured: list[Measurement] = []
    for expandable in (True, False):
        chosen = [plan for plan in plans(tiny=dry_run) if plan.expandable == expandable]
        left = arguments.seconds - (time.monotonic() - started)
        measured += _measure_in_child(chosen, dry_run=dry_run, seconds=left)
    by_name = {result.name: result for result in measured}
    rows = []
    for plan in _in_order(dry_run):
        result = by_name.get(plan.name, Measurement(plan.name, note="the measuring process ended"))
        rows.append(_row(plan, result, trace=time.monotonic() - started < arguments.seconds * _TRACING))
        if not dry_run:
            _store(rows)  # after each: what was measured is not lost with a trace that fails
    _print_table(rows)
    if not dry_run:
        print(f"Stored under {RESULTS}")
    return 0


def _print_plans() -> int:
    from qlora_studio.core.memory.estimator import estimate_setup
    from qlora_studio.core.model.shape import shape_from_config

    for plan in _in_order(tiny=False):
        shape = shape_from_config(plan.model)
        found = estimate_setup(shape, plan.setup(shape))
        print(
            f"{plan.name:44s} {found.allocated_bytes / MIB:10,.0f} MiB allocated, {found.total_bytes / MIB:,.0f} in all"
        )
    return 0


def _in_order(tiny: bool) -> list[Plan]:
    return sorted(plans(tiny=tiny), key=lambda plan: not plan.expandable)


def _measure_in_child(chosen: list[Plan], *, dry_run: bool, seconds: float) -> list[Measurement]:
    """Measure in a process of its own: how the allocator grows is decided when torch is imported."""
    expandable = chosen[0].expandable and not dry_run
    setting = f"expandable_segments:{expandable}"
    environment = os.environ | {"PYTORCH_ALLOC_CONF": setting, "HF_HUB_OFFLINE": "1", "BITSANDBYTES_NOWELCOME": "1"}
    command = [sys.executable, "-m", "tests.gpu.calibration_step", "cpu" if dry_run else "cuda"]
    command += [str(_used_bytes() if not dry_run else 0), str(seconds), str(int(chosen[0].expandable))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return [Measurement(**json.loads(line)) for line in lines]


def _row(plan: Plan, measured: Measurement, *, trace: bool) -> dict[str, Any]:
    """Return a line of the table, sizes in MiB; a trace of 0 was not made."""
    from qlora_studio.core.memory.estimator import estimate_setup
    from qlora_studio.core.model.shape import shape_from_config

    shape = shape_from_config(plan.model)
    setup = replace(plan.setup(shape), workspace_bytes=measured.workspace_bytes)
    traced, problem = _traced(plan, setup) if trace else (None, "no time left to trace")
    instant = estimate_setup(shape, setup)
    return {
        "name": plan.name,
        "formula": instant.allocated_bytes / MIB,
        "trace": traced.allocated / MIB if traced else 0.0,
        "allocated": measured.allocated / MIB,
        "trace_reserved": traced.reserved / MIB if traced else 0.0,
        "reserved": measured.reserved / MIB,
        "managed": (traced.managed if traced else instant.managed_bytes) / MIB,
        "process": measured.process / MIB,
        "note": measured.note or problem,
    }


def _traced(plan: Plan, setup: "MemorySetup") -> "tuple[TracedStep | None, str]":
    """Return the trace of a plan, or none and why: the tracer is written for the libraries of the lock file."""
    import torch
    from transformers import AutoConfig

    from qlora_studio.core.errors import StudioError
    from qlora_studio.engine.memory.traced_step import TraceOptions, trace_step

    options = TraceOptions(dtype=torch.bfloat16, expandable=plan.expandable, evaluate=False)
    try:
        return trace_step(AutoConfig.for_model(**plan.model), setup, options), ""
    except (StudioError, RuntimeError, AttributeError, TypeError) as error:
        return None, f"not traced: {error}"


def _print_table(rows: list[dict[str, Any]]) -> None:
    columns = ("formula", "trace", "allocated", "trace_reserved", "reserved", "managed", "process")
    print(f"{'MiB':44s}" + "".join(f"{name:>15s}" for name in columns) + "   trace/allocated")
    for row in rows:
        both = row["allocated"] and row["trace"]
        ratio = f"{row['trace'] / row['allocated'] - 1:+.2%}" if both else row["note"]
        print(f"{row['name']:44s}" + "".join(f"{row[name]:15,.1f}" for name in columns) + f"   {ratio}")
    errors = [abs(row["trace"] / row["allocated"] - 1) for row in rows if row["allocated"] and row["trace"]]
    if errors:
        print(f"allocated: mean {sum(errors) / len(errors):.2%}, worst {max(errors):.2%} over {len(errors)} rows")
    if any(row["allocated"] for row in rows):
        contexts = [row["process"] - row["reserved"] - row["managed"] for row in rows if row["allocated"]]
        print(f"context: {min(contexts):,.0f} to {max(contexts):,.0f} MiB outside of the allocator's pool")


def _store(rows: list[dict[str, Any]]) -> None:
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("torch", "transformers", "trl", "peft", "bitsandbytes")}
    record = {
        "card": _card_name(),
        "libraries": libraries,
        "rows": rows,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"vram-{_card_name().lower().replace(' ', '-')}-{time.strftime('%Y%m%d')}.json"
    path.write_text(json.dumps(record, indent=1), "utf-8")


def _card_name() -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        return ""
    return name if isinstance(name, str) else str(name.decode())


def _used_bytes() -> int:
    """Return what is taken of the card now, by everybody."""
    import pynvml

    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)


if __name__ == "__main__":
    raise SystemExit(main())
