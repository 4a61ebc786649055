"""Rows a second and peak memory of the reader, next to `datasets.load_dataset` on the same file.

    python tests/benchmarks/reading.py --rows 1000000 [--container jsonl|json|csv|parquet] [--keep FOLDER]

Each measurement is a process of its own; its peak is what the operating system counted for it.
"""

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = [
    f"{start}{end}" for start in ("lor", "ips", "dol", "sit", "amet", "qua", "ven") for end in ("um", "a", "é", "it")
]


def main() -> None:
    """Measure, or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--container", choices=("jsonl", "json", "csv", "parquet"), default="jsonl")
    parser.add_argument("--row-words", type=int, default=40)
    parser.add_argument("--without-datasets", action="store_true")
    parser.add_argument("--measure", choices=("rows", "survey", "load_dataset"), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.path, arguments.container)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{arguments.container}"
        write(path, arguments.rows, arguments.row_words)
        print(f"{arguments.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB, {arguments.container}")
        for what in ("survey", "rows", *(() if arguments.without_datasets else ("load_dataset",))):
            command = [sys.executable, __file__, "--measure", what, "--path", str(path)]
            subprocess.run([*command, "--container", arguments.container], check=True)


def measure(what: str, path: str, container: str) -> None:
    """Print the figures of one way to read the file."""
    began, began_cpu = time.perf_counter(), time.process_time()
    rows = {"rows": count_rows, "survey": count_surveyed, "load_dataset": count_loaded}[what](path, container)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{what:>13}: {rows:,} rows in {seconds:.1f} s = {rows / seconds:,.0f} rows/s "
        f"({cpu:.1f} s of processor time), peak {peak / 1e6:,.0f} MB"
    )


def count_surveyed(path: str, container: str) -> int:
    """Read with detection, verdicts and duplicates."""
    from qlora_studio.core.config.run_config import DataSection
    from qlora_studio.storage.datasets.reader import open_dataset

    return open_dataset(DataSection(path=path)).survey().ok


def count_rows(path: str, container: str) -> int:
    """Read the rows in a format that is known."""
    from qlora_studio.core.config.run_config import DataSection
    from qlora_studio.storage.datasets.reader import open_dataset

    form = "question_answer" if container == "csv" else "messages"
    return sum(row.example is not None for row in open_dataset(DataSection(path=path, format=form)).rows())


def count_loaded(path: str, container: str) -> int:
    """Load with `datasets`, into an empty cache, and look at every row once, as a trainer's map would."""
    import datasets

    datasets.disable_progress_bars()
    kind = "json" if container == "jsonl" else container
    with tempfile.TemporaryDirectory() as cache:
        loaded = datasets.load_dataset(kind, data_files=path, split="train", cache_dir=cache)
        return sum(1 for _ in loaded)


def write(path: Path, rows: int, words: int) -> None:
    """Write a file of short conversations, the same every time."""
    pairs = conversations(rows, words)
    if path.suffix == ".parquet":
        write_parquet(path, pairs)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(["question", "answer"])
            writer.writerows(pairs)
            return
        lines = (json.dumps(record(*pair), ensure_ascii=False) for pair in pairs)
        if path.suffix == ".json":
            file.write("[")
            file.writelines(f"{',' if number else ''}\n{line}" for number, line in enumerate(lines))
            file.write("\n]\n")
        else:
            file.writelines(f"{line}\n" for line in lines)


def write_parquet(path: Path, pairs: Iterator[tuple[str, str]]) -> None:
    """Write in row groups of 10,000."""
    import pyarrow
    from pyarrow import parquet

    message = pyarrow.struct({"role": pyarrow.string(), "content": pyarrow.string()})
    schema = pyarrow.schema({"messages": pyarrow.list_(message)})
    batch: list[dict[str, object]] = []
    with parquet.ParquetWriter(path, schema) as writer:
        for pair in pairs:
            batch.append(record(*pair))
            if len(batch) == 10_000:
                writer.write_table(pyarrow.Table.from_pylist(batch, schema))
                batch.clear()
        writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def conversations(rows: int, words: int) -> Iterator[tuple[str, str]]:
    """Yield questions and answers."""
    chance = random.Random(7)
    for number in range(rows):
        yield (
            f"{number}: {' '.join(chance.choices(WORDS, k=words // 3))}?",
            " ".join(chance.choices(WORDS, k=words - words // 3)),
        )


def record(question: str, answer: str) -> dict[str, object]:
    """Return a row of chat messages."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


if __name__ == "__main__":
    main()
