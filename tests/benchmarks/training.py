"""Speed and memory of training: the seed article's recipe, a plain trl script of today, and our run, side by side.

    python -m tests.benchmarks.training                          all of it on a quiet machine, an hour and more
    python -m tests.benchmarks.training --quick                  two threads, at most six minutes
    python -m tests.benchmarks.training --quick --data starter --steps 2 --arms seed ours     as small as it gets
    python -m tests.benchmarks.training --size 8b --threads 8    on a card: a model of random weights under --cap-gb

Each arm (training_arms.py) is a process of its own, with the same model in 4 bit, rows, rank, targets and rows a step;
the arms take turns, round by round. A step counts from the second on, the first is told apart. Rates are of real tokens
(padding left out), by the seconds of the processor, which a busy machine does not change much, and by the clock. Peak
memory is that of the whole process, imports included. The other arms each leave out one of our levers. Losses of the
plain script and of ours must agree, or this fails; the recipe's differ, as it learns the questions too.
The figures go to `tests/benchmarks/results/training.json`.
"""

import argparse
import itertools
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks import merging

RESULT = Path(__file__).parent / "results" / "training.json"
STARTER = Path(__file__).parents[2] / "resources" / "starter" / "starter.jsonl"
ARMS = ("seed", "plain", "ours", "every position", "rows as drawn", "padded", "no dropout", "half checkpointed")
QUICK_ARMS = ("seed", "plain", "ours", "no dropout", "half checkpointed")
DATA = ("starter", "mixed")
_LENGTHS = 20, 600  # tokens of a row of mixed lengths, about
_WORDS_PER_TOKEN = 0.75
_LOSS_RANGE = {"first": 2e-3, "later": 2e-2}  # relative: padding rounds otherwise in bf16, dropout is drawn otherwise
_SIZES = {
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "heads": 32, "kv": 8},
    "14b": {"hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40, "heads": 40, "kv": 8},
}
_VOCABULARY = 128_256


def main() -> None:
    """Measure what is asked for, in turn, and tell the ratios."""
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="training-", dir=arguments.folder))
    try:
        results = {
            f"{data}, {threads} thread{'s' * (threads > 1)}": measured(folder, data, threads, arguments)
            for data in arguments.data
            for threads in arguments.threads
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    facts = {"command": " ".join(["python -m tests.benchmarks.training", *sys.argv[1:]]), **machine()}
    arguments.json.parent.mkdir(exist_ok=True)
    arguments.json.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n", encoding="utf-8")
    for name, result in results.items():
        tell(name, result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few steps with two threads")
    parser.add_argument("--data", nargs="+", default=[*DATA], choices=DATA)
    parser.add_argument("--arms", nargs="+", choices=ARMS)
    parser.add_argument("--threads", nargs="+", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--model", default="starter", help="a folder; without one the small model that is packaged")
    parser.add_argument("--size", choices=["1b", "8b", "14b"], help="in place of --model: random weights, for a card")
    parser.add_argument("--cap-gb", type=float, default=24.0, help="what of a card's memory may be taken")
    parser.add_argument("--folder", type=Path, help="where the rows and a random model lie meanwhile")
    parser.add_argument("--json", type=Path, default=RESULT)
    found = parser.parse_args()
    found.arms = found.arms or list(QUICK_ARMS if found.quick else ARMS)
    found.threads = found.threads or ([2] if found.quick else [1, 2])
    found.rounds = found.rounds or (1 if found.quick else 3)
    return found


def measured(folder: Path, data: str, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what each arm took, over all rounds, and the ratios to the seed's recipe."""
    place = folder / f"{data}-{threads}"
    place.mkdir()
    steps = arguments.steps or {"starter": 4 if arguments.quick else 8, "mixed": 2 if arguments.quick else 4}[data]
    rows = starter_rows() if data == "starter" else mixed_rows(steps * arguments.batch * arguments.accumulation)
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {name: getattr(arguments, name) for name in ("batch", "accumulation", "rank", "model")}
    settings |= {"steps": steps, "folder": str(place), "tokenized": str(place / "tokenized.json")}
    settings["cap_gb"] = arguments.cap_gb if arguments.size else 0
    _write(place, settings)
    settings["model"] = _run("tokenize", place, threads).splitlines()[-1]
    if arguments.size:
        settings["model"] = _random_model(folder / arguments.size, arguments.size, Path(settings["model"]))
    _write(place, settings)
    lengths = _lengths(place / "tokenized.json")
    runs: dict[str, list[list[dict[str, Any]]]] = {arm: [] for arm in arguments.arms}
    for number in range(arguments.rounds):
        for arm in arguments.arms:
            _run(arm, place, threads)
            runs[arm].append([json.loads(line) for line in (place / "marks.jsonl").read_text("utf-8").splitlines()])
            print(f"{data}, {threads} threads, round {number + 1}: {arm}: {_in_short(runs[arm][-1])}", flush=True)
    _require_equal_losses(runs)
    taken = steps * arguments.batch * arguments.accumulation
    per_step = {name: total * taken / len(rows) / steps for name, total in lengths.items()}
    return summary(runs, per_step)


def starter_rows() -> list[Any]:
    """Return the rows of the starter project."""
    return [json.loads(line) for line in STARTER.read_text("utf-8").splitlines()]


def mixed_rows(count: int, seed: int = 1) -> list[Any]:
    """Return chats of the starter rows' turns, as many in a chat as come to a length drawn between 20 and 600."""
    draw, turns = random.Random(seed), [row["messages"] for row in starter_rows()]

    def chat() -> Iterator[Any]:
        left = draw.uniform(*_LENGTHS)
        while left > 0:
            turn = draw.choice(turns)
            yield from turn
            left -= sum(len(message["content"].split()) for message in turn) / _WORDS_PER_TOKEN + 10

    return [{"messages": list(chat())} for _ in range(count)]


def summary(runs: dict[str, list[list[dict[str, Any]]]], per_step: dict[str, float]) -> dict[str, Any]:
    """Return each arm's figures as min, median and max over all steps of all rounds, and their ratios."""
    found = {arm: _figures(rounds, per_step) for arm, rounds in runs.items()}
    first = next(iter(found))
    ratios = {
        arm: {
            name: round(figures[name]["median"] / found[first][name]["median"], 3)
            for name in ("tokens a processor second", "tokens a second", "peak bytes")
        }
        for arm, figures in found.items()
    }
    return {"tokens a step": per_step, "arms": found, f"ratios to {first}": ratios}


def _figures(rounds: list[list[dict[str, Any]]], per_step: dict[str, float]) -> dict[str, Any]:
    taken = [_steps(marks) for marks in rounds]
    pairs = [pair for steps in taken for pair in itertools.pairwise(steps)]
    cpu, wall = ([after[name] - before[name] for before, after in pairs] for name in ("cpu", "wall"))
    return {
        "processor seconds a step": _spread(cpu),
        "seconds a step": _spread(wall),
        "tokens a processor second": _spread([per_step["tokens"] / seconds for seconds in cpu]),
        "tokens a second": _spread([per_step["tokens"] / seconds for seconds in wall]),
        "trained tokens a processor second": _spread([per_step["answers"] / seconds for seconds in cpu]),
        "padded tokens a step": statistics.mean(step["slots"] for steps in taken for step in steps),
        "peak bytes": _spread([steps[-1]["peak"] for steps in taken]),
        "peak bytes of the card": max(steps[-1]["card"] for steps in taken),
        "loss": [round(step["loss"], 5) for step in taken[0]],
        "gradient norm": [round(step["norm"], 5) for step in taken[0]],
        "start": _start(rounds),
    }


def _start(rounds: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the seconds of each phase up to the end of the first step, as the clock and the processor took them."""
    found: dict[str, list[tuple[float, float]]] = {}
    for marks in rounds:
        before = {"wall": 0.0, "cpu": 0.0}
        for mark in marks:
            name = mark.get("phase", "first step")
            found.setdefault(name, []).append((mark["wall"] - before["wall"], mark["cpu"] - before["cpu"]))
            before = mark
            if "loss" in mark:
                break
    return {
        name: {
            what: round(statistics.median(values), 2)
            for what, values in zip(("wall", "cpu"), zip(*each, strict=True), strict=True)
        }
        for name, each in found.items()
    }


def _steps(marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [mark for mark in marks if "loss" in mark]


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def _require_equal_losses(runs: dict[str, list[list[dict[str, Any]]]]) -> None:
    """Fail where arms of equal settings do not learn the same."""
    wanted = runs.get("plain") or runs.get("ours")
    for arm in set(runs) - {"seed"} if wanted else ():
        for marks, other in zip(runs[arm], wanted or [], strict=True):
            for number, (step, same) in enumerate(zip(_steps(marks), _steps(other), strict=True)):
                limit = _LOSS_RANGE["later" if number else "first"]
                if abs(step["loss"] - same["loss"]) > limit * abs(same["loss"]):
                    raise SystemExit(f"{arm}: step {number + 1} has the loss {step['loss']}, not {same['loss']}")


def tell(name: str, result: dict[str, Any]) -> None:
    """Print a table of medians and ratios."""
    (ratios,) = (value for key, value in result.items() if key.startswith("ratios"))
    print(f"\n{name}: {result['tokens a step']['tokens']:.0f} tokens a step, min / median / max")
    print(
        f"{'':>16} {'CPU s a step':>20} {'s a step':>20} {'tokens/CPU s':>22} {'ratio':>6} {'peak MB':>8} {'ratio':>6}"
    )
    for arm, figures in result["arms"].items():
        cpu, wall, rate = (
            figures[key] for key in ("processor seconds a step", "seconds a step", "tokens a processor second")
        )
        peak = figures["peak bytes"]["median"] / 1e6
        print(
            f"{arm:>16} {_three(cpu, 2):>20} {_three(wall, 2):>20} {_three(rate, 0):>22}"
            f" {ratios[arm]['tokens a processor second']:>6.2f} {peak:>8,.0f} {ratios[arm]['peak bytes']:>6.2f}"
        )
    for arm, figures in result["arms"].items():
        print(
            f"{arm}: to the first step, s: "
            + ", ".join(f"{phase} {s['wall']}" for phase, s in figures["start"].items())
        )


def _three(spread: dict[str, float], digits: int) -> str:
    return " / ".join(f"{spread[name]:.{digits}f}" for name in ("min", "median", "max"))


def _in_short(marks: list[dict[str, Any]]) -> str:
    steps = _steps(marks)
    seconds = (steps[-1]["cpu"] - steps[0]["cpu"]) / max(1, len(steps) - 1)
    losses = ", ".join(f"{step['loss']:.4f}" for step in steps)
    return f"{seconds:.2f} CPU s a step, peak {steps[-1]['peak'] / 1e6:,.0f} MB, losses {losses}"


def _lengths(tokenized: Path) -> dict[str, float]:
    columns = json.loads(tokenized.read_text("utf-8"))
    answers = sum(label != -100 for labels in columns["labels"] for label in labels[1:])
    return {"tokens": sum(map(len, columns["input_ids"])), "answers": answers}


def _write(place: Path, settings: dict[str, Any]) -> None:
    (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def _run(arm: str, place: Path, threads: int) -> str:
    """Run an arm to its end; return what it printed."""
    # Threads that spin while they wait are counted as work; our worker has them sleep, so all arms do here.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.training_arms", arm, str(place)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arm} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def _random_model(folder: Path, size: str, tokenizer: Path) -> str:
    """Write a random Llama of a size, with the tokenizer of another model."""
    if not folder.exists():
        merging.SIZES |= _SIZES
        merging.VOCABULARY = _VOCABULARY
        merging.make_model(folder, size)
        for path in tokenizer.iterdir():
            if path.name.startswith(("tokenizer", "special_tokens", "chat_template")):
                shutil.copy(path, folder)
    return str(folder)


def machine() -> dict[str, Any]:
    """Return what a figure was measured on."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    libraries = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


if __name__ == "__main__":
    main()
