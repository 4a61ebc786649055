"""Merge and verification of ours beside peft's merge, save, and running the same three models over the same rows.

    python -m tests.benchmarks.streaming [--sizes 300m 1b 3b 7b 70b-4-layers] [--ways studio whole peft]
                                         [--threads 2] [--rows 8] [--folder DIR] [--json FILE]

The last figures are kept in tests/benchmarks/results/streaming.json.

Time on the clock and of the processor, the load meanwhile, and the peak of anonymous and shared memory beyond what the
imports take, sampled. Random bf16 Llamas; all of their layers hold the same noise. Three times a size is needed on the
disk for a moment (twice without peft's), and everything is deleted. On a busy machine take one thread and the seconds
of the processor: threads that wait for each other burn it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.benchmarks import merging

_OF_70B = {"hidden_size": 8192, "intermediate_size": 28672, "heads": 64, "kv": 8}
merging.SIZES |= {
    "300m": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16, "heads": 16, "kv": 8},
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "heads": 32, "kv": 32},
    "70b-2-layers": {**_OF_70B, "num_hidden_layers": 2},
    "70b-4-layers": {**_OF_70B, "num_hidden_layers": 4},
}
_ROOM = 1.1  # times a model's bytes, for each model that is written
_TOKENS = 64  # a row


def main() -> None:
    """Measure each size and way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["300m"], choices=sorted(merging.SIZES))
    parser.add_argument("--ways", nargs="+", default=["studio", "peft"], choices=["studio", "whole", "peft"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=8, help=f"of {_TOKENS} tokens")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--child", nargs=2, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        way, folder = arguments.child
        print(json.dumps(_measured(way, Path(folder), arguments.rows, arguments.threads)))
        return
    results = [_size(size, arguments) for size in arguments.sizes]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def _size(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="streaming-", dir=arguments.folder))
    try:
        _make(size, folder)
        weighs = sum(path.stat().st_size for path in (folder / "base").glob("*.safetensors"))
        if shutil.disk_usage(folder).free < weighs * _ROOM:
            raise SystemExit(f"{size} needs {weighs * _ROOM / 1e9:.0f} GB more for a moment.")
        result: dict[str, Any] = {
            "size": size,
            "bytes": weighs,
            "tokens": arguments.rows * _TOKENS,
            "threads": arguments.threads,
        }
        for way in arguments.ways:
            result[way] = _in_child(way, folder, arguments)
            print(size, way, result[way], flush=True)
        if {"studio", "peft"} <= result.keys():
            times = ("seconds", "processor_seconds")
            result["ratio"] = {name: round(result["studio"][name] / result["peft"][name], 3) for name in times}
            print(size, "beside peft's", result["ratio"], flush=True)
        if {"studio", "whole"} <= result.keys():
            result["is_bit_equal"] = result["studio"]["found"] == result["whole"]["found"]
            print(size, "bit-equal to whole models", result["is_bit_equal"], flush=True)
        for way in arguments.ways:
            result[way].pop("found", None)
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_child(way: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a way in a process of its own, and delete what it wrote."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.streaming", "--child", way, str(folder)]
    options = ["--threads", str(arguments.threads), "--rows", str(arguments.rows)]
    done = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE, text=True)
    shutil.rmtree(_out(folder, way))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _out(folder: Path, way: str) -> Path:
    return folder / f"{way}-out"


def _make(size: str, folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.benchmarks import merging, streaming; "
        "folder = Path(sys.argv[2]); merging.make_model(folder / 'base', sys.argv[1]); "
        "merging.make_adapter(folder / 'adapter', folder / 'base')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, size, str(folder)], check=True, capture_output=True)


def _measured(way: str, folder: Path, rows: int, threads: int) -> dict[str, Any]:
    """Do one way in this process; what its imports take, in time and memory, is not counted."""
    work: Callable[[Path, int], dict[str, Any]] = {"studio": _streamed, "whole": _whole, "peft": _peft}[way]
    import peft  # noqa: F401
    import torch
    from transformers.models.llama import modeling_llama  # noqa: F401

    import qlora_studio.engine.merge.writer
    import qlora_studio.engine.verification.job  # noqa: F401

    torch.set_num_threads(threads)
    before, peak, done = _memory(), [0], Event()

    def sample() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], _memory())

    sampling = Thread(target=sample, daemon=True)
    sampling.start()
    began, computed = time.monotonic(), time.process_time()
    facts = work(folder, rows)
    seconds, computed = time.monotonic() - began, time.process_time() - computed
    done.set()
    sampling.join()
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(computed, 2),
        "load": round(os.getloadavg()[0], 1),
        "peak_bytes": peak[0] - before,
        "imports_bytes": before,
        **facts,
    }


def _memory() -> int:
    """Anonymous and shared bytes of this process."""
    status = Path("/proc/self/status").read_text("utf-8")
    return sum(int(kilobytes) * 1024 for kilobytes in re.findall(r"(?:RssAnon|RssShmem):\s+(\d+) kB", status))


def _streamed(folder: Path, rows: int) -> dict[str, Any]:
    return _studio(folder, "studio", rows)


def _whole(folder: Path, rows: int) -> dict[str, Any]:
    return _studio(folder, "whole", rows)


def _studio(folder: Path, way: str, rows: int) -> dict[str, Any]:
    """Merge, then run unmerged, base and merged over the rows, and compare them."""
    import torch

    from qlora_studio.engine.context import QUIET
    from qlora_studio.engine.merge.writer import merge_adapter
    from qlora_studio.engine.model.loading import load_plain
    from qlora_studio.engine.verification.comparison import batches_of, compare
    from qlora_studio.engine.verification.measurement import Rows
    from qlora_studio.engine.verification.passes import Pass, Passes, unmerged
    from qlora_studio.engine.verification.states import StatesStore

    base, adapter, out = folder / "base", folder / "adapter", _out(folder, way)
    merge_adapter(base, adapter, out)
    merged = time.monotonic()
    store = StatesStore({"benchmark": str(folder)}) if way == "studio" else None
    batches = batches_of([], Rows(tuple((tuple(ids), tuple(ids)) for ids in _rows(rows))))
    passes = Passes(batches, QUIET, store)

    def load() -> Any:
        return load_plain(out, dtype=torch.float32, device="cpu")

    found = passes.run(unmerged(base, adapter, dtype=torch.float32, device="cpu"), flags=(True, False))
    other = passes.run(Pass("merged", load, load, "cpu"))
    models = {"unmerged": found.outcomes[True], "base": found.outcomes[False], "merged": other.outcomes[True]}
    compared = compare(models, [("unmerged", "merged"), ("unmerged", "base")], batches, rows=rows)
    if store is not None:
        store.remove()
    numbers = {" ".join(pair): vars(item) for pair, item in compared.pairs.items()} | dict(compared.losses)
    return {"verification_seconds": round(time.monotonic() - merged, 2), "found": numbers}


def _peft(folder: Path, rows: int) -> dict[str, Any]:
    """peft's merge and save, and the same three models loaded and run over the same rows; nothing is compared."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = _out(folder, "peft")
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, str(folder / "adapter")).merge_and_unload().save_pretrained(out)
    merged = time.monotonic()
    del model
    base: Any = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    unmerged = PeftModel.from_pretrained(base, str(folder / "adapter")).eval()
    _run(unmerged, rows)
    with unmerged.disable_adapter():
        _run(unmerged, rows)
    del base, unmerged
    _run(AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval(), rows)
    return {"verification_seconds": round(time.monotonic() - merged, 2)}


def _run(model: Any, rows: int) -> None:
    import torch

    with torch.inference_mode():
        for ids in _rows(rows):
            model(input_ids=torch.tensor([ids]), use_cache=False)


def _rows(count: int) -> list[list[int]]:
    import torch

    torch.manual_seed(5)
    return torch.randint(10, merging.VOCABULARY, (count, _TOKENS)).tolist()


if __name__ == "__main__":
    main()
