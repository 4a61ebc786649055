"""Holds predicted rates against real steps on this machine's card:  python -m tests.gpu.check_rates

    python -m tests.gpu.check_rates              six minutes at most; needs an NVIDIA card whose speed is known
    python -m tests.gpu.check_rates --dry-run    the same with tiny models on the CPU: shows that the code runs

Layers of an 8B, a 14B and a 32B with random weights, so that all fit 24 GB; the prediction is for as many layers. Each
batch is taken as a run takes it, modules walked; the optimizer's step is left out. Prediction and measurement are
printed, and stored under tests/benchmarks/results/ after each. One that is further off than rates are said to be makes
the exit code 1.
"""

import argparse
import gc
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from qlora_studio.core.memory.gpu_catalogue import GpuSpec, find_gpu
from qlora_studio.core.memory.rate import ERROR_SHARE, batch_seconds
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.engine.memory.checkpointing import checkpoint_layers
from tests.gpu import calibration_step as real
from tests.gpu.calibration_plan import _LLAMA_1B, Plan, _tiny
from tests.gpu.results import FOLDER

_SECONDS = 360.0  # until no model is built any more
_EACH = 6.0  # of steps
_LAYERS = 8
_8B = _LLAMA_1B | {
    "num_hidden_layers": _LAYERS,
    "hidden_size": 4096,
    "head_dim": 128,
    "intermediate_size": 14336,
    "tie_word_embeddings": False,
}
_14B = _8B | {"hidden_size": 5120, "num_attention_heads": 40, "intermediate_size": 17408}
_32B = _8B | {"hidden_size": 5120, "num_attention_heads": 64, "intermediate_size": 25600}
_MASKED = {"masked": True, "attention": "efficient"}


@dataclass(frozen=True)
class Row:
    """A batch as predicted and as measured, in seconds; 0 where it was not."""

    name: str
    tokens: int
    predicted: float = 0.0
    measured: float = 0.0
    note: str = ""

    @property
    def is_off(self) -> bool:
        """Whether the predicted rate is further from the measured one than it may be."""
        return bool(self.measured and self.predicted) and abs(self.measured / self.predicted - 1) > ERROR_SHARE


def plans() -> list[Plan]:
    """Return what is measured: what matters most first, and each lever alone on the 8B."""
    sizes = {"8B": _8B, "14B": _14B, "32B": _32B}
    none = {"checkpointing": False}
    return [
        *(Plan(f"{name} 1 × 2048, all checkpointed", model) for name, model in sizes.items()),
        *(Plan(f"{name} 1 × 2048, none", model, none) for name, model in sizes.items()),
        Plan("8B 4 × 512 of one length, none", _8B, none | {"batch": 4, "row_tokens": 512}),
        Plan("8B 4 × 512 padded, none", _8B, none | {"batch": 4, "row_tokens": 512} | _MASKED),
        Plan("8B 2 × 2048 padded, all", _8B, {"batch": 2} | _MASKED),
        Plan("8B 1 × 2048, half of the layers", _8B, {"checkpointed_layers": _LAYERS // 2}),
        Plan("8B 1 × 2048, none, dropout", _8B, none | {"dropout": 0.05}),
        Plan("8B 1 × 2048, none, a third trained", _8B, none | {"trained_share": 1 / 3}),
        Plan("8B 1 × 8192, all", _8B, {"row_tokens": 8192}),
        Plan("8B 1 × 64, none", _8B, none | {"row_tokens": 64}),
        Plan("1B 1 × 2048, none", _LLAMA_1B, none),
    ]


def main() -> int:
    """Measure every plan while there is time; print and store each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="run tiny models on the CPU")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="begin nothing after so many")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    name = "" if arguments.dry_run or not torch.cuda.is_available() else torch.cuda.get_device_name(0)
    if not name and not arguments.dry_run:
        print("No NVIDIA card is here, so nothing was measured. Try --dry-run.")
        return 0
    card, end = find_gpu(name or "RTX 4090"), time.monotonic() + arguments.seconds
    rows: list[Row] = []
    print(f"{'seconds a batch on ' + (name or 'the processor'):40s} predicted  measured  ratio  tokens/s")
    for plan in plans():
        rows.append(_row(_tiny(plan) if arguments.dry_run else plan, card, end, on_card=bool(name)))
        _print(rows[-1], judged=bool(name))
        if name:
            _store(name, rows)
    return int(any(row.is_off for row in rows) and bool(name))


def _row(plan: Plan, card: GpuSpec | None, end: float, *, on_card: bool) -> Row:
    shape = shape_from_config(plan.model)
    setup = plan.setup(shape)
    predicted = batch_seconds(shape, setup, card) or 0.0
    if time.monotonic() > end:
        return Row(plan.name, setup.tokens, predicted, note="no time left")
    try:
        measured = _measured(plan, "cuda" if on_card else "cpu")
    except torch.OutOfMemoryError:
        return Row(plan.name, setup.tokens, predicted, note="does not fit on this card")
    finally:
        gc.collect()
        if on_card:
            torch.cuda.empty_cache()
    return Row(plan.name, setup.tokens, predicted, measured)


def _measured(plan: Plan, device: str) -> float:
    """Return the median of a batch's seconds, forward and backward, after two that warm up."""
    setup = plan.setup(shape_from_config(plan.model))
    model = real._model(plan.model, setup, device)
    if setup.checkpointed_layers:
        checkpoint_layers(model, setup.checkpointed_layers)
    batch = real._batch(plan, setup, device)

    def step() -> None:
        model.train()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = real._loss(model, batch, setup)
        loss.backward()
        if not math.isfinite(loss.item()):
            raise ValueError(f"{plan.name}: the loss is {loss.item()}")

    for _ in range(2):
        _timed(step, device)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < _EACH and device == "cuda"):
        times.append(_timed(step, device))
    return median(times)


def _timed(step: Callable[[], None], device: str) -> float:
    started = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _print(row: Row, *, judged: bool) -> None:
    if not row.measured:
        print(f"{row.name:40s} {row.predicted:9.4f}  {row.note}")
        return
    ratio = f"{row.measured / row.predicted:5.2f}" if row.predicted else "    –"
    off = "  off" if row.is_off and judged else ""
    rate = row.tokens / row.measured
    print(f"{row.name:40s} {row.predicted:9.4f} {row.measured:9.4f}  {ratio} {rate:9,.0f}{off}", flush=True)


def _store(name: str, rows: list[Row]) -> None:
    from importlib.metadata import version

    libraries = {library: version(library) for library in ("torch", "transformers", "trl", "peft", "bitsandbytes")}
    record: dict[str, Any] = {"card": name, "libraries": libraries, "rows": [asdict(row) for row in rows]}
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"rates-{name.lower().replace(' ', '-')}-{time.strftime('%Y%m%d')}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
