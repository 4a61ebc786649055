"""The starter model trained on a text that it does not know, written as GGUF in few bits: what does each bit buy?

    python -m tests.benchmarks.few_bits [--steps 40] [--run RUN_DIR] [--precisions P,P] [--tokens N] [--json FILE]

The text and the training are those of `finished_model`. Every precision is written as it is, and by an importance
matrix: of the held-out rows, as an export does it, and of the training rows. Loss and divergence from the unmerged
adapter on the 16-bit base are measured in fp32 on held-out rows that no importance matrix was made of.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.finished_model import work, write_rows

_PRECISIONS = ("bf16", "q8_0", "q6_K", "q5_K_M", "q4_K_M", "q3_K_M")
_PLAIN = ("bf16", "q8_0")  # there is nothing to choose
_SETTINGS = (
    "training.batch_size=4",
    "training.gradient_accumulation=1",
    "training.max_length=256",
    "training.loss_on=all",
    "training.learning_rate=5e-4",
    "evaluation.every_steps=1000",
    "lora.alpha=32",
    "export.merge=false",
)


def main() -> None:
    """Train where no run is named, write, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--run", type=Path, default=None, help="a run that is over, to train none")
    parser.add_argument("--precisions", default=",".join(_PRECISIONS))
    parser.add_argument(
        "--tokens", type=int, default=8_000, help="that an importance matrix is made of; half are measured"
    )
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ.setdefault("QLORA_STUDIO_HOME", place)
        began = time.monotonic()
        run = arguments.run or _trained(Path(place), arguments.steps)
        found = measure(run, Path(place), arguments.precisions.split(","), arguments.tokens)
        result = {**found, "seconds": round(time.monotonic() - began)}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "table"}))


def measure(place: Path, scratch: Path, precisions: list[str], tokens: int) -> dict[str, Any]:
    """Return the table, with how it came about."""
    import torch

    from qlora_studio.engine.context import QUIET
    from qlora_studio.engine.data.prepared import prepare_datasets
    from qlora_studio.engine.export.sidecar import versions
    from qlora_studio.engine.export.source import export_source, tokenizer_folder
    from qlora_studio.engine.gguf.reading import load_gguf
    from qlora_studio.engine.gguf.writer import write_gguf
    from qlora_studio.engine.model.base import tokenizer_of
    from qlora_studio.engine.model.loading import load_with_adapter
    from qlora_studio.storage.runs.run_folder import RunFolder

    run = RunFolder(place)
    source = export_source(run, "final", "original", QUIET, force=False)
    data = prepare_datasets(source.config, tokenizer_of(source.base), run, QUIET)
    calibration, rest = _split(data.evaluation, tokens)
    held_out, _ = _split(rest, tokens // 2)
    importance = {
        "held-out rows": _importance(source, calibration),
        "training rows": _importance(source, _split(data.training, tokens)[0]),
    }
    reference = load_with_adapter(source.base, source.adapter, dtype=torch.float32, device="cpu")
    wanted = [_log_probabilities(reference, ids) for ids in held_out]
    table = [{"precision": "adapter", "rounded_by": "", "bytes": 0, **_compared(reference, held_out, wanted)}]
    _tell(table[0])
    weights = source.merged(torch.float32)
    for precision in precisions:
        for rounded_by in ("", *(() if precision in _PLAIN else importance)):
            known = importance[rounded_by].stored(weights) if rounded_by else {}
            facts = write_gguf(
                weights,
                tokenizer_folder(source),
                scratch,
                name="few",
                precision=precision,
                channel=QUIET,
                importance=known,
            )
            file = scratch / facts["file"]
            found = _compared(load_gguf(file, source.base, dtype=torch.float32), held_out, wanted)
            size = file.stat().st_size
            table.append({"precision": precision, "rounded_by": rounded_by, "bytes": size, **found})
            file.unlink()
            _tell(table[-1])
    return {
        "table": table,
        "steps": run.state().step,
        "tokens_measured": sum(len(ids) - 1 for ids in held_out),
        "tokens_of_importance": sum(map(len, calibration)),
        "versions": versions(),
    }


def _tell(row: dict[str, Any]) -> None:
    print(f"{row['precision']:7} {row['rounded_by']:14} {row['bytes']:>11,} B  loss {row['loss']:.4f}  ", end="")
    print(f"divergence {row['divergence']:.5f}", flush=True)


def _trained(place: Path, steps: int) -> Path:
    from qlora_studio.core.config.run_config_text import from_mapping
    from qlora_studio.storage.runs.run_folder import create_run_folder

    write_rows(place / "rows.jsonl")
    mapping = {
        "name": "few bits",
        "model": {"source": "starter"},
        "data": {"path": str(place / "rows.jsonl"), "evaluation_share": 0.1},
    }
    run = create_run_folder(place / "runs", from_mapping(mapping, [*_SETTINGS, f"training.max_steps={steps}"]))
    work(run)
    return run.path


def _split(rows: Any, budget: int) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """Return the ids of the first rows, and what is left of the rows."""
    rows, chosen, tokens = list(rows), [], 0
    while rows and tokens < budget:
        chosen.append(list(rows.pop(0)["input_ids"]))
        tokens += len(chosen[-1])
    return chosen, rows


def _importance(source: Any, rows: list[list[int]]) -> Any:
    from qlora_studio.engine.context import QUIET
    from qlora_studio.engine.export.importance import Importance, mean_squares
    from qlora_studio.engine.model.adapted import load_base
    from qlora_studio.engine.model.device import choose_device
    from qlora_studio.engine.model.saved_adapter import with_saved_adapter

    base = load_base(source.base, source.config, choose_device(source.config, QUIET), source.adapter)
    return Importance(values=mean_squares(with_saved_adapter(base, source.adapter).eval(), rows, QUIET))


def _log_probabilities(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
    return torch.log_softmax(logits.float(), dim=-1)


def _compared(model: Any, rows: list[list[int]], wanted: list[Any]) -> dict[str, float]:
    """Return loss and divergence, mean nats a token."""
    import torch

    loss = divergence = tokens = 0.0
    for ids, reference in zip(rows, wanted, strict=True):
        found = _log_probabilities(model, ids)
        loss -= float(found.gather(1, torch.tensor(ids[1:])[:, None]).sum())
        divergence += float((reference.exp() * (reference - found)).sum())
        tokens += len(ids) - 1
    return {"loss": loss / tokens, "divergence": divergence / tokens}


if __name__ == "__main__":
    main()
