"""Rows a second and peak memory from a file to trained tokens, next to `load_dataset` and `map` on the same file.

    python -m tests.benchmarks.preparing --rows 1000000 [--model starter] [--repeat 1]

Ours reads strictly, renders in the sandbox, finds and verifies the answers, tokenizes, counts for the checks, splits
and writes. The other renders and tokenizes with `apply_chat_template`, and masks and checks nothing. Each is a process
of its own, timed from the file to the end, with its libraries loaded; its memory is that of all its processes together
(each shared page once), looked at ten times a second. The figures go to `tests/benchmarks/results/preparing.json`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.reading import write

RESULT = Path(__file__).parent / "results" / "preparing.json"
WAYS = ("ours", "map")
_LOOK_SECONDS = 0.1


def main() -> None:
    """Measure, or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--row-words", type=int, default=40)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--repeat", type=int, default=1, help="measure each so often, in turn, and take the best")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.path, arguments.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, arguments.rows, arguments.row_words)
        print(f"{arguments.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB")
        runs = [(way, measured(way, path, arguments.model)) for _ in range(arguments.repeat) for way in WAYS]
    best = {
        way: max((run for name, run in runs if name == way), key=lambda run: run["rows_per_second"]) for way in WAYS
    }
    tell(best, arguments)


def measured(way: str, path: Path, model: str) -> dict[str, float]:
    """Return the figures of a way, in a process of its own whose memory is watched."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.preparing",
        "--measure",
        way,
        "--path",
        str(path),
        "--model",
        model,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak, output = 0, ""
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, memory_of(watched))
        time.sleep(_LOOK_SECONDS)
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{way} ended with {process.returncode}")
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    figures["peak_bytes"] = peak
    print(
        f"{way:>5}: {figures['rows']:,} rows, {figures['tokens']:,} tokens in {figures['seconds']:.1f} s = "
        f"{figures['rows_per_second']:,.0f} rows/s ({figures['cpu_seconds']:.1f} s of processor time); "
        f"peak {peak / 1e6:,.0f} MB, {figures['bytes_before'] / 1e6:,.0f} MB of it before"
    )
    return figures


def memory_of(process: psutil.Process) -> int:
    """Return the memory of a process and all below it, in bytes; pages that they share are counted once."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += getattr(one.memory_full_info(), "pss", 0) or one.memory_info().rss
    except psutil.Error:  # one of them has just ended
        pass
    return total


def tell(best: dict[str, dict[str, float]], arguments: argparse.Namespace) -> None:
    """Print and keep the comparison."""
    ours, other = best["ours"], best["map"]
    ratios = {
        "rows_per_second": ours["rows_per_second"] / other["rows_per_second"],
        "cpu_seconds": ours["cpu_seconds"] / other["cpu_seconds"],
        "peak_bytes": ours["peak_bytes"] / other["peak_bytes"],
    }
    print("ours / map: " + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    facts = {
        "rows": arguments.rows,
        "row_words": arguments.row_words,
        "model": arguments.model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **best,
        "ours / map": ratios,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def measure(way: str, path: str, model: str) -> None:
    """Print the figures of one way as JSON."""
    from qlora_studio.engine.model.base import load_tokenizer

    tokenizer = load_tokenizer(model)
    with tempfile.TemporaryDirectory() as home:
        run = {"ours": prepare, "map": load_and_map}[way](path, tokenizer, home)
        before, cpu, began = memory_of(psutil.Process()), cpu_seconds(), time.perf_counter()
        rows, tokens = run()
        seconds = time.perf_counter() - began
    figures = {"rows": rows, "tokens": tokens, "seconds": seconds, "rows_per_second": rows / seconds}
    print(json.dumps({**figures, "cpu_seconds": cpu_seconds() - cpu, "bytes_before": before}))


def cpu_seconds() -> float:
    """Return the processor time of this process and of those below it that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def prepare(path: str, tokenizer: Any, home: str) -> Any:
    """Prepare as a run does, into an empty cache."""
    os.environ["QLORA_STUDIO_HOME"] = home
    from qlora_studio.core.config.run_config import RunConfig
    from qlora_studio.engine.context import JobContext
    from qlora_studio.engine.data.prepared import prepare_datasets
    from qlora_studio.storage.runs.run_folder import RunFolder

    def run() -> tuple[int, int]:
        config = RunConfig.model_validate({"data": {"path": path}})
        context = JobContext(RunFolder(Path(home) / "run"))
        data = prepare_datasets(config, tokenizer, context.folder, context)
        return data.facts.training_rows + data.facts.evaluation_rows, int(data.tally.column("tokens").sum())

    return run


def load_and_map(path: str, tokenizer: Any, home: str) -> Any:
    """Load with `datasets` and tokenize in batches, into an empty cache."""
    import datasets

    datasets.disable_progress_bars()

    def tokenized(batch: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": tokenizer.apply_chat_template(batch["messages"])["input_ids"]}

    def run() -> tuple[int, int]:
        loaded = datasets.load_dataset("json", data_files=path, split="train", cache_dir=home)
        mapped = loaded.map(tokenized, batched=True, remove_columns=["messages"])
        lengths = [batch.column("input_ids").value_lengths().sum().as_py() for batch in mapped.data.to_batches()]
        return len(mapped), sum(lengths)

    return run


if __name__ == "__main__":
    main()
