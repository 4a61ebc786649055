"""The starter model trained on a text that it does not know, then exported every way: what is each worth?

    python -m tests.benchmarks.finished_model [--steps 100] [--folder DIR] [--json FILE]

The last figures are kept in tests/benchmarks/results/finished_model.json.

The text is this program's own source, in pieces, on whose tokens the loss counts in full; a tenth of the pieces is held
out. Training, merging into both bases, GGUF and verification go through the real jobs in processes of their own. The
table is made from the verification reports: held-out loss, and divergence from the adapter as it was trained.
"""

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

_PIECE = 900  # characters: about 256 tokens
_PIECES = 700
_FORMATS = ("safetensors", "gguf:q8_0", "gguf:q4_K_M")


def main() -> None:
    """Train, export, verify, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: a temporary folder)")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        os.environ["QLORA_STUDIO_HOME"] = place
        result = measure(Path(place), arguments.steps)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["table"]:
        print(f"{row['model']:32} loss {row['loss']:.4f}  divergence {row['divergence']}")
    print(json.dumps({key: value for key, value in result.items() if key != "table"}))


def measure(place: Path, steps: int) -> dict[str, Any]:
    """Return the table, with how it came about."""
    from qlora_studio.core.config.run_config_text import from_mapping
    from qlora_studio.engine.export.sidecar import versions
    from qlora_studio.storage.runs.run_folder import create_run_folder

    rows = write_rows(place / "rows.jsonl")
    settings = (
        f"training.max_steps={steps}",
        "training.batch_size=4",
        "training.gradient_accumulation=1",
        "training.max_length=256",
        "training.loss_on=all",
        "training.learning_rate=5e-4",
        "evaluation.every_steps=1000",
        "lora.alpha=32",
        "export.merge=false",
    )
    mapping = {"name": "source", "model": {"source": "starter"}, "data": {"path": str(place / "rows.jsonl")}}
    run = create_run_folder(place / "runs", from_mapping(mapping, list(settings)))
    began = time.monotonic()
    state = work(run)
    trained = time.monotonic() - began
    original, nf4 = _export(run, list(_FORMATS), "original"), _export(run, ["safetensors"], "nf4")
    return {
        "table": _table(original, nf4[0]),
        "steps": state.step,
        "rows": rows,
        "held_out_tokens": original[0]["tokens"],
        "recommended_base": original[0]["bases"]["recommended"],
        "gain_of_nf4": original[0]["bases"]["gain_of_nf4"],
        "standard_error": original[0]["bases"]["standard_error"],
        "bases": original[0]["bases"]["bases"],
        "verified": {report["format"]: report["verified"] for report in original}
        | {"safetensors on nf4": nf4[0]["verified"]},
        "failed": {
            report["format"]: failed
            for report in (*original, *nf4)
            if (failed := [check["message"] for check in report["checks"] if not check["passed"]])
        },
        "training_seconds": round(trained),
        "seconds": round(time.monotonic() - began),
        "versions": versions(),
    }


def write_rows(path: Path) -> int:
    """Write pieces of the program's source, mixed by a fixed seed."""
    import qlora_studio

    pieces = []
    for file in sorted(Path(qlora_studio.__file__).parent.rglob("*.py")):
        text = file.read_text("utf-8")
        pieces += [text[start : start + _PIECE] for start in range(0, len(text) - _PIECE // 2, _PIECE)]
    random.Random(0).shuffle(pieces)
    pieces = pieces[:_PIECES]
    path.write_text("".join(json.dumps({"text": piece}) + "\n" for piece in pieces), encoding="utf-8")
    return len(pieces)


def work(folder: Any) -> Any:
    """Do what a folder asks for in a worker, and return its last state."""
    from qlora_studio.jobs.run_follower import RunFollower
    from qlora_studio.jobs.worker_process import start_worker

    process = start_worker(folder)
    for _ in RunFollower(folder, process).batches():
        pass
    process.wait(60)
    state = folder.state()
    if state.failure is not None:
        raise SystemExit(f"{state.failure.message}\n{state.failure.detail}")
    return state


def _export(run: Any, formats: list[str], base: Any) -> list[dict[str, Any]]:
    """Return a verification report for each format."""
    from qlora_studio.core.run.job import ExportJob
    from qlora_studio.core.run.reports import VerificationReported
    from qlora_studio.storage.runs.run_folder import create_job_folder

    job = ExportJob(run_dir=str(run.path), formats=formats, base=base)
    state = work(create_job_folder(run.jobs_path, job))
    return [item.report.model_dump() for item in state.reports if isinstance(item, VerificationReported)]


def _table(original: list[dict[str, Any]], nf4: dict[str, Any]) -> list[dict[str, Any]]:
    losses = original[0]["losses"]
    rows = [
        {"model": "base", "loss": losses["base"], "divergence": None},
        {"model": "adapter, as trained on NF4", "loss": losses["adapter"], "divergence": 0.0},
        {"model": "adapter on the 16-bit base", "loss": losses["adapter on 16 bit"], "divergence": None},
        _row("merged on original", original[0]),
        _row("merged on NF4", nf4),
    ]
    return rows + [_row(report["format"].replace("gguf:", "GGUF "), report) for report in original[1:]]


def _row(name: str, report: dict[str, Any]) -> dict[str, Any]:
    loss = report["losses"].get("merged", report["losses"].get("gguf"))
    return {"model": name, "loss": loss, "divergence": round(report["divergence_as_trained"], 5)}


if __name__ == "__main__":
    main()
