"""Rows a second and peak memory from a file to trained tokens, next to `load_dataset` and `map` on the same file.

    python tests/benchmarks/preparing.py --rows 1000000 [--model starter]

Ours reads strictly, renders in the sandbox, finds and verifies the answers, tokenizes, counts for the checks, splits
and writes. The other renders and tokenizes with `apply_chat_template`, and masks nothing. Each is a process of its own.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from reading import write


def main() -> None:
    """Measure, or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--row-words", type=int, default=40)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--measure", choices=("ours", "map"), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.path, arguments.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, arguments.rows, arguments.row_words)
        print(f"{arguments.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB")
        for what in ("ours", "map"):
            command = [sys.executable, __file__, "--measure", what, "--path", str(path), "--model", arguments.model]
            subprocess.run(command, check=True)


def measure(what: str, path: str, model: str) -> None:
    """Print the figures of one way."""
    from qlora_studio.engine.base_model import load_tokenizer

    tokenizer = load_tokenizer(model)
    before = peak()
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        rows, tokens = {"ours": prepare, "map": load_and_map}[what](path, tokenizer, home)
        seconds = time.perf_counter() - began
    print(
        f"{what:>5}: {rows:,} rows, {tokens:,} tokens in {seconds:.1f} s = {rows / seconds:,.0f} rows/s; "
        f"peak {peak() / 1e6:,.0f} MB, {before / 1e6:,.0f} MB of it before"
    )


def peak() -> int:
    """Return the largest resident size so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def prepare(path: str, tokenizer: Any, home: str) -> tuple[int, int]:
    """Prepare as a run does, into an empty cache."""
    os.environ["QLORA_STUDIO_HOME"] = home
    from qlora_studio.core.run_config import RunConfig
    from qlora_studio.engine.context import JobContext
    from qlora_studio.engine.prepared_data import prepare_datasets
    from qlora_studio.storage.run_folder import RunFolder

    config = RunConfig.model_validate({"data": {"path": path}})
    data = prepare_datasets(config, tokenizer, JobContext(RunFolder(Path(home) / "run")))
    return data.facts.training_rows + data.facts.evaluation_rows, data.facts.tokens


def load_and_map(path: str, tokenizer: Any, home: str) -> tuple[int, int]:
    """Load with `datasets` and tokenize in batches, into an empty cache."""
    import datasets

    datasets.disable_progress_bars()

    def tokenized(batch: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": tokenizer.apply_chat_template(batch["messages"])["input_ids"]}

    loaded = datasets.load_dataset("json", data_files=path, split="train", cache_dir=home)
    mapped = loaded.map(tokenized, batched=True, remove_columns=["messages"])
    return len(mapped), sum(len(row["input_ids"]) for row in mapped)


if __name__ == "__main__":
    main()
