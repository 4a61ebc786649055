"""Measures real training steps on this machine's card beside what the estimator says of them.

    python tests/gpu/calibrate_vram.py            eight minutes at most; needs an NVIDIA card
    python tests/gpu/calibrate_vram.py --dry-run  the same steps on the CPU with tiny models: shows that the code runs

Some 25 configurations with random weights, two steps each, by the code that a run uses. Prints formula, trace,
allocated, reserved and what NVML shows, and stores the table under tests/benchmarks/results/.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from calibration_plan import Measurement, Plan, plans

TIME_LIMIT = 450.0  # seconds, for all of it
MIB = 1 << 20
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def main() -> int:
    """Measure every plan, trace it, print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="run tiny models on the CPU")
    dry_run = parser.parse_args().dry_run
    if not dry_run and not _card_name():
        print("No NVIDIA card is here, so nothing was measured. Try --dry-run.")
        return 0
    started = time.monotonic()
    measured: list[Measurement] = []
    for expandable in (True, False):
        chosen = [plan for plan in plans(tiny=dry_run) if plan.expandable == expandable]
        left = TIME_LIMIT - (time.monotonic() - started)
        measured += _measure_in_child(chosen, dry_run=dry_run, seconds=left)
    rows = [_row(plan, result) for plan, result in zip(_in_order(dry_run), measured, strict=False)]
    _print_table(rows)
    if not dry_run:
        _store(rows)
    return 0


def _in_order(tiny: bool) -> list[Plan]:
    return sorted(plans(tiny=tiny), key=lambda plan: not plan.expandable)


def _measure_in_child(chosen: list[Plan], *, dry_run: bool, seconds: float) -> list[Measurement]:
    """Measure in a process of its own: how the allocator grows is decided when torch is imported."""
    expandable = chosen[0].expandable and not dry_run
    setting = f"expandable_segments:{expandable}"
    environment = os.environ | {"PYTORCH_ALLOC_CONF": setting, "HF_HUB_OFFLINE": "1", "BITSANDBYTES_NOWELCOME": "1"}
    command = [sys.executable, str(Path(__file__).parent / "calibration_step.py"), "cpu" if dry_run else "cuda"]
    command += [str(_used_bytes() if not dry_run else 0), str(seconds), str(int(chosen[0].expandable))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return [Measurement(**json.loads(line)) for line in lines]


def _row(plan: Plan, measured: Measurement) -> dict[str, Any]:
    """Return a line of the table, sizes in MiB."""
    import torch
    from transformers import AutoConfig

    from qlora_studio.core.estimator import estimate_setup
    from qlora_studio.core.model_shape import shape_from_config
    from qlora_studio.engine.traced_step import TraceOptions, trace_step

    shape = shape_from_config(plan.model)
    setup = replace(plan.setup(shape), workspace_bytes=measured.workspace_bytes)
    options = TraceOptions(dtype=torch.bfloat16, expandable=plan.expandable, evaluate=False)
    traced = trace_step(AutoConfig.for_model(**plan.model), setup, options)
    instant = estimate_setup(shape, setup)
    return {
        "name": plan.name,
        "formula": instant.allocated_bytes / MIB,
        "trace": traced.allocated / MIB,
        "allocated": measured.allocated / MIB,
        "trace_reserved": traced.reserved / MIB,
        "reserved": measured.reserved / MIB,
        "managed": traced.managed / MIB,
        "process": measured.process / MIB,
        "note": measured.note,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    columns = ("formula", "trace", "allocated", "trace_reserved", "reserved", "managed", "process")
    print(f"{'MiB':44s}" + "".join(f"{name:>15s}" for name in columns) + "   trace/allocated")
    for row in rows:
        ratio = f"{row['trace'] / row['allocated'] - 1:+.2%}" if row["allocated"] else row["note"]
        print(f"{row['name']:44s}" + "".join(f"{row[name]:15,.1f}" for name in columns) + f"   {ratio}")
    errors = [abs(row["trace"] / row["allocated"] - 1) for row in rows if row["allocated"]]
    if errors:
        print(f"allocated: mean {sum(errors) / len(errors):.2%}, worst {max(errors):.2%} over {len(errors)} rows")
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
    print(f"Stored in tests/benchmarks/results/{path.name}")


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
