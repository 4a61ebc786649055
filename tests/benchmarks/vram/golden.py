"""Traces published runs and prints how far off each is:  python -m tests.benchmarks.vram.golden FILE.csv

Rows are those of the fitcheck archive (MIT, by Anassbzdd): a Tesla T4, fp16, adapters on q, k, v and o. The columns
used are model, batch, seq, attention (eager, or eff for SDPA's memory-efficient kernel), quant (nf4 or none), rank,
peak_alloc_mib and peak_reserved_mib. The last line is one JSON object with the errors over all rows.
"""

import csv
import json
import multiprocessing
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

MIB = 1 << 20
T4_CONTEXT_MIB = 140.875  # the process's share outside of the allocator's pool at its peak, over 69 rows
WITHIN_PCT = 5.0

# family, hidden, layers, heads, kv heads, intermediate, vocabulary, head size, tied
MODELS = {
    "Qwen2.5-1.5B": ("qwen2", 1536, 28, 12, 2, 8960, 151936, 128, True),
    "Qwen2.5-7B": ("qwen2", 3584, 28, 28, 4, 18944, 152064, 128, False),
    "SmolLM2-135M": ("llama", 576, 30, 9, 3, 1536, 49152, 64, True),
    "SmolLM2-360M": ("llama", 960, 32, 15, 5, 2560, 49152, 64, True),
    "SmolLM2-1.7B": ("llama", 2048, 24, 32, 32, 8192, 49152, 64, True),
    "TinyLlama-1.1B": ("llama", 2048, 22, 32, 4, 5632, 32000, 64, False),
    "Mistral-7B-v0.3": ("mistral", 4096, 32, 32, 8, 14336, 32768, 128, False),
    "deepseek-coder-1.3b": ("llama", 2048, 24, 16, 16, 5504, 32256, 128, False),
    "Llama-3.2-1B": ("llama", 2048, 16, 32, 8, 8192, 128256, 64, True),
    "Llama-3.2-3B": ("llama", 3072, 28, 24, 8, 8192, 128256, 128, True),
}


def main(path: str) -> int:
    """Trace every row of the file and print the errors."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    allocated, process = [], []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for row, (found_allocated, found_process) in zip(rows, pool.imap(errors_of, rows), strict=True):
            allocated.append(found_allocated)
            process.append(found_process)
            print(
                f"{row['model']:20s} b{row['batch']} s{row['seq']:5s} {row['attention']:5s} {row['quant']:4s} "
                f"r{row['rank']:3s} allocated {found_allocated:+7.3f} %  process {found_process:+7.3f} %",
                flush=True,
            )
    print(json.dumps(summary(allocated, process)))
    return 0


def errors_of(row: dict[str, str]) -> tuple[float, float]:
    """Return the errors of one row, in percent of the measured: of what was allocated, and of the whole process."""
    warnings.simplefilter("ignore")
    traced = trace_row(row)
    context = float(row.get("context_mib") or T4_CONTEXT_MIB)
    allocated = traced.allocated / MIB / float(row["peak_alloc_mib"]) - 1
    process = (traced.reserved / MIB + context) / (float(row["peak_reserved_mib"]) + context) - 1
    return 100 * allocated, 100 * process


def trace_row(row: dict[str, str]) -> Any:
    """Return the trace of one row."""
    import torch

    from qlora_studio.core.memory.setup import MemorySetup
    from tests.benchmarks.plain_recipe import trace_plain_loop

    quantized = row["quant"] != "none"
    setup = MemorySetup(
        quantization="nf4" if quantized else "none",
        double=False,
        rank=int(row["rank"]),
        targets=frozenset({"q_proj", "k_proj", "v_proj", "o_proj"}),
        adapter_bytes=4,
        batch=int(row["batch"]),
        row_tokens=int(row["seq"]),
        attention="eager" if row["attention"] == "eager" else "efficient",
        loss="plain",
        upcast=quantized,
    )
    return trace_plain_loop(model_config(row["model"]), setup, torch.float16)


def model_config(name: str) -> Any:
    """Return the transformers config of a model of the table. Raises SystemExit where it is not in it."""
    from transformers import AutoConfig

    if name not in MODELS:
        raise SystemExit(f"{name} is not among the models known here: {', '.join(MODELS)}")
    family, hidden, layers, heads, kv_heads, intermediate, vocabulary, head_dim, tied = MODELS[name]
    extra: dict[str, Any] = {} if family == "qwen2" else {"head_dim": head_dim}
    if family == "mistral":
        extra["sliding_window"] = None
    return AutoConfig.for_model(
        family,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=32768,
        **extra,
    )


def summary(allocated: list[float], process: list[float]) -> dict[str, float]:
    """Return the errors over all rows."""
    within = sum(abs(error) <= WITHIN_PCT for error in process) / len(process)
    return {
        "allocated_mean_pct": round(statistics.mean(map(abs, allocated)), 4),
        "allocated_worst_pct": round(max(map(abs, allocated)), 4),
        "process_mean_pct": round(statistics.mean(map(abs, process)), 4),
        "process_worst_pct": round(max(map(abs, process)), 4),
        "process_within_5_pct_share": round(within, 4),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    raise SystemExit(main(sys.argv[1]))
