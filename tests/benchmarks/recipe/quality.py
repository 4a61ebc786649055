"""What a setting of the recipe is worth: held-out loss after equal trained tokens, by pairs of runs of the same seed.

    python -m tests.benchmarks.recipe.quality --output FOLDER [--arms dropout precision few] [--until 06:00]

Each run is our own training, in this process, on the starter model in 4 bit. A seed decides which rows are held out,
the adapters' first values, the order of the rows and the draws of dropout, so that two runs of a pair differ in one
setting alone. The plan, with what decides, stands in NOTES.md. Each result is a line of FOLDER/runs.jsonl when it is
there; what has a line is not run again. Sums go to `tests/benchmarks/results/recipe_quality.json`.
"""

import argparse
import copy
import json
import math
import random
import shutil
import statistics
import sys
import time
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.benchmarks.recipe.sets import SETS, rows_of
from tests.benchmarks.training import machine

RESULT = Path(__file__).parents[1] / "results" / "recipe_quality.json"
SEEDS = (1, 2, 3, 4, 5)
# Student's t for 1, 2 … degrees of freedom, 95 % between both sides.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
_HELD_OUT, _TRAINED = 60, 60  # rows: two epochs in 60 steps of 2
_RECIPE: dict[str, Any] = {
    "model": {"source": "starter"},
    "lora": {"rank": 16, "alpha": 32},
    "training": {
        "max_steps": 60,
        "batch_size": 2,
        "gradient_accumulation": 1,
        "learning_rate": 5e-4,
        "max_length": 192,
        "gradient_checkpointing": "off",
    },
    "evaluation": {"every_steps": 0},
    "export": {"merge": False},
}
# What is measured, by its name, and what it is compared with. A card's AdamW keeps its state in fp32, so both dtypes of
# adapters are measured with it.
ARMS: dict[str, dict[str, Any]] = {
    "dropout 0.05": {"dropout": 0.05},
    "dropout 0": {"dropout": 0.0, "beside": "dropout 0.05"},
    "bf16": {"dropout": 0.0, "optimizer": "adamw_32bit"},
    "fp32": {"dropout": 0.0, "optimizer": "adamw_32bit", "dtype": "float32", "beside": "bf16"},
    "by chance": {"dropout": 0.0, "optimizer": "adamw_32bit", "by_chance": True, "beside": "bf16"},
    "few, dropout 0.05": {"dropout": 0.05, "rows": 15},
    "few, dropout 0": {"dropout": 0.0, "rows": 15, "beside": "few, dropout 0.05"},
}
PARTS = {"dropout": [*ARMS][:2], "precision": [*ARMS][2:5], "few": [*ARMS][5:]}


def main() -> None:
    """Run what is not done yet, then sum up all that is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="where the runs and their results lie")
    parser.add_argument("--arms", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--until", default="", help="HH:MM, after which no further run begins")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    log = arguments.output / "runs.jsonl"
    with _weights_kept():
        _measure(arguments, log)
    words = ["FOLDER" if word == str(arguments.output) else word for word in sys.argv[1:]]
    result = {"command": " ".join(["python -m tests.benchmarks.recipe.quality", *words]), **machine()}
    result |= {"recipe": _RECIPE, "pairs": summary(_done(log)), "runs": _done(log)}
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["pairs"], indent=1))


def _measure(arguments: argparse.Namespace, log: Path) -> None:
    bench = _Bench(arguments.output)
    for arm, data, seed in _wanted([arm for part in arguments.arms for arm in PARTS[part]]):
        if arguments.until and time.strftime("%H:%M") >= arguments.until:
            break
        if not any((arm, data, seed) == (run["arm"], run["set"], run["seed"]) for run in _done(log)):
            found = {"arm": arm, "set": data, "seed": seed, **bench.measured(arm, data, seed)}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(found, flush=True)


class _Bench:
    """The base, loaded once. Each run attaches adapters to a copy of its modules that shares the frozen weights."""

    def __init__(self, output: Path) -> None:
        from qlora_studio.core.config.run_config_text import from_mapping
        from qlora_studio.engine.context import QUIET
        from qlora_studio.engine.model.adapted import load_base
        from qlora_studio.engine.model.base import base_folder, tokenizer_of
        from qlora_studio.engine.model.device import choose_device

        self.folder = output / "run"
        base, config = base_folder("starter"), from_mapping(_RECIPE)
        self._tokenizer = tokenizer_of(base)
        self._base = load_base(base, config, choose_device(config, QUIET))

    def measured(self, arm: str, data: str, seed: int) -> dict[str, Any]:
        """Train and return the held-out loss, the seconds of the processor, and what the steps told."""
        from qlora_studio.core.config.run_config_text import from_mapping
        from qlora_studio.engine.context import JobContext
        from qlora_studio.storage.runs.run_folder import create_run_folder

        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        _write_rows(self.folder, data, seed, ARMS[arm].get("rows", _TRAINED))
        began = time.process_time()
        run = create_run_folder(self.folder, from_mapping(_mapping(self.folder, ARMS[arm], seed)))
        context = JobContext(run)
        try:
            self._train(arm, run.config(), context)
        finally:
            context.close()
        return _told(run.events()) | {"processor_seconds": round(time.process_time() - began, 1)}

    def _train(self, arm: str, config: Any, context: Any) -> None:
        """As a run does between its loading and its end (engine/training/job.py), held-out rows at the end alone."""
        import torch
        from transformers import set_seed

        from qlora_studio.core.run.fingerprint import Fingerprint, Fingerprints
        from qlora_studio.engine.data.prepared import prepare_datasets
        from qlora_studio.engine.model.adapted import attach_adapters
        from qlora_studio.engine.model.device import Device, choose_device
        from qlora_studio.engine.training.setup import build_trainer

        data = prepare_datasets(config, self._tokenizer, context.folder, context)
        set_seed(config.training.seed)
        weights = {id(item): item for item in (*self._base.parameters(), *self._base.buffers())}
        model = attach_adapters(copy.deepcopy(self._base, weights), config)
        wanted = getattr(torch, ARMS[arm].get("dtype", "bfloat16"))
        with mock.patch.object(Device, "adapter_dtype", wanted):  # no setting decides it
            trainer = build_trainer(
                model=model,
                tokenizer=self._tokenizer,
                training=data.training,
                evaluation=data.evaluation,
                config=config,
                device=choose_device(config, context),
                context=context,
                made_from=Fingerprints(base=Fingerprint(), data=Fingerprint()),
            )
            if ARMS[arm].get("by_chance"):
                _round_by_chance(trainer.create_optimizer())
            trainer.train()
            trainer.evaluate()


def _round_by_chance(optimizer: Any) -> None:
    """Have each step computed in fp32 and rounded to bf16 by chance, so that small updates are kept on average.

    A value goes up as often as it is near the upper neighbour: 16 random bits are added to those that bf16 cuts off.
    """
    import torch

    in_fp32 = optimizer.step
    chance = torch.Generator().manual_seed(0)
    weights = [item for group in optimizer.param_groups for item in group["params"]]

    def step(_: Any, closure: Any = None) -> None:
        gradients = [item.grad.float() for item in weights]
        for item, gradient in zip(weights, gradients, strict=True):
            item.grad, item.data = None, item.data.float()
            item.grad = gradient
        in_fp32(closure)
        for item in weights:
            bits = item.data.view(torch.int32)
            bits += torch.randint(0, 1 << 16, bits.shape, generator=chance, dtype=torch.int32)
            item.grad, item.data = None, (bits & ~0xFFFF).view(torch.float32).bfloat16()

    optimizer.step = types.MethodType(step, optimizer)  # what plans the rate wants a method


@contextmanager
def _weights_kept() -> Iterator[None]:
    """Dequantize each weight once, not twice a step: the same numbers, sooner for batches so small."""
    import bitsandbytes
    from torch.nn.functional import linear

    kept: dict[int, tuple[Any, Any]] = {}

    def multiplied(inputs: Any, weight: Any, quant_state: Any, bias: Any = None) -> Any:
        if id(weight) not in kept:
            plain = bitsandbytes.functional.dequantize_4bit(weight.data, quant_state)
            kept[id(weight)] = weight, plain.to(inputs.dtype)
        return linear(inputs, kept[id(weight)][1], bias)

    with mock.patch.object(bitsandbytes, "matmul_4bit", multiplied):
        yield


def _write_rows(folder: Path, data: str, seed: int, count: int) -> None:
    rows = rows_of(data)
    random.Random(seed).shuffle(rows)
    for name, part in (("held", rows[:_HELD_OUT]), ("trained", rows[_HELD_OUT : _HELD_OUT + count])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")


def _mapping(folder: Path, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    training = _RECIPE["training"] | {"seed": seed, "optimizer": settings.get("optimizer", "auto")}
    data = {"path": str(folder / "trained.jsonl"), "evaluation_path": str(folder / "held.jsonl")}
    lora = _RECIPE["lora"] | {"dropout": settings["dropout"]}
    return _RECIPE | {"name": "quality", "data": data, "lora": lora, "training": training}


def _told(events: Iterable[Any]) -> dict[str, Any]:
    from qlora_studio.core.run.events import Evaluated, StepDone

    told = list(events)
    steps = [event for event in told if isinstance(event, StepDone)]
    (after,) = (event for event in told if isinstance(event, Evaluated))
    return {
        "held out": after.loss,
        "trained": statistics.mean(step.loss or 0.0 for step in steps[-10:]),
        "steps": len(steps),
        "tokens": sum(step.tokens for step in steps),
        "step_seconds": statistics.median(step.seconds for step in steps),
    }


def _wanted(arms: list[str]) -> Iterator[tuple[str, str, int]]:
    """The runs of a part come after one another, and all sets of a seed, so that what breaks off is even."""
    parts = [[arm for arm in part if arm in arms] for part in PARTS.values()]
    return ((arm, data, seed) for part in parts for seed in SEEDS for data in SETS for arm in part)


def _done(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how much more the held-out loss of each arm is than its pair's, over all sets and for each, in percent."""
    loss = {(run["arm"], run["set"], run["seed"]): run["held out"] for run in runs}
    found = []
    for arm, settings in ARMS.items():
        beside = settings.get("beside")
        more = {
            data: [
                100 * (loss[arm, data, seed] / loss[beside, data, seed] - 1)
                for seed in SEEDS
                if (arm, data, seed) in loss and (beside, data, seed) in loss
            ]
            for data in SETS
        }
        for name, percents in {"all": [item for each in more.values() for item in each], **more}.items():
            if len(percents) > 1:
                found.append({"arm": arm, "beside": beside, "set": name, **_interval(percents)})
    return found


def _interval(percents: list[float]) -> dict[str, Any]:
    """Return the mean and its 95 % interval, in percent."""
    mean = statistics.mean(percents)
    half = _T[len(percents) - 2] * statistics.stdev(percents) / math.sqrt(len(percents))
    return {
        "pairs": len(percents),
        "percent": round(mean, 3),
        "from": round(mean - half, 3),
        "to": round(mean + half, 3),
    }


if __name__ == "__main__":
    main()
