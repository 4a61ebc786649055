"""Runs that were not trained, one in each state that a run can be left in, as folders that the real protocol wrote."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.activity import Activity
from qlora_studio.storage.runs.elsewhere_record import ElsewhereRecord, record_sent, write_record
from qlora_studio.storage.runs.export_folder import ExportManifest, staged_export
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.showcase.sample_run import STEPS, sample_config, sample_events

OOM = ev.Failed(
    kind=FailureKind.OUT_OF_MEMORY,
    message="The card's memory ran out at step 212.",
    advice="Halve the batch size and double the gradient accumulation, or shorten the rows; then resume.",
    detail="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB.\n" * 6,
)
NAN = ev.Failed(
    kind=FailureKind.NON_FINITE_LOSS,
    message="The loss was no number at step 307, so the step was not taken.",
    advice="Go on from the last checkpoint with half the learning rate.",
)
_LOST = ev.Recovering(
    kind=FailureKind.OUT_OF_MEMORY,
    message="The card's memory ran out at step 212: the run goes on from step 200 with half the batch.",
    step=200,
    batch_size=1,
    gradient_accumulation=16,
)
_CANCELLED = ev.Failed(
    kind=FailureKind.INTERRUPTED,
    message="The job was cancelled.",
    advice="Resume submits it again: it goes on from its newest safe checkpoint, if there is one.",
)
_MANY = 24


def write_runs(runs: Path) -> dict[str, RunFolder]:
    """Write them all; return those that a scene opens, by what became of them."""
    config = sample_config()
    for number in range(_MANY):
        varied = config.with_value("lora.rank", 2 ** (3 + number % 4))
        _write(runs, f"2026080{1 + number // 9}-1{number % 9}0000-sweep-{number}", varied, 40 + number, [ev.Finished()])
    finished: list[ev.Event] = [ev.AdapterSaved(path="adapter", step=STEPS), ev.Finished()]
    paused: list[ev.Event] = [ev.PhaseChanged(phase=Activity.SAVING), ev.Paused(step=300, checkpoint="checkpoint-300")]
    made = {
        "finished": _write(runs, "20260901-093012-support-bot-first", config, STEPS, finished),
        "wider": _write(runs, "20260901-143012-support-bot-wider", config.with_value("lora.rank", 64), STEPS, finished),
        "hotter": _write(
            runs, "20260901-203012-support-bot-hotter", config.with_value("training.learning_rate", 1e-3), 700, finished
        ),
        "longer": _write(
            runs, "20260902-083012-support-bot-longer", config.with_value("training.max_length", 4096), 600, finished
        ),
        "paused": _write(runs, "20260903-093012-paused", config, 300, paused),
        "memory": _write(runs, "20260904-093012-too-large", config, 212, [OOM]),
        "nan": _write(runs, "20260905-093012-too-hot", config, 307, [NAN]),
        "recovering": _write(runs, "20260906-093012-recovering", config, 212, [_LOST]),
        "cancelled": _write(runs, "20260906-193012-cancelled", config, 140, [_CANCELLED]),
        "broken": _write(runs, "20260907-093012-broken-off", config, 333, []),
        "preparing": _begin(runs / "20260908-093012-preparing", config),
        "training": _write(runs, "20260909-141500-support-bot", config, 412, []),
    }
    there = ElsewhereRecord(place="cluster", home="/home/me/runs", name=made["cancelled"].path.name, job="4711")
    record_sent(made["cancelled"].path, there)
    write_record(made["cancelled"].path, there)
    for name in ("safetensors", "gguf-q4_K_M"):
        _export(made["finished"], name)
    return made


def write_long_run(path: Path, steps: int) -> RunFolder:
    """Write a run of very many steps."""
    folder = RunFolder(path)
    folder.write_config(sample_config().model_copy(update={"name": "long-run"}))
    step = next(event for event in sample_events(1) if isinstance(event, ev.StepDone))
    with MessageLogWriter(folder.events_path) as log:
        for event in sample_events(0):
            log.append(event)
        for event in _thinned(step, steps):
            log.append(event)
        log.append(ev.Finished())
    return folder


def _thinned(step: ev.StepDone, steps: int) -> Iterable[ev.Event]:
    for number in range(1, steps + 1):
        loss = 0.9 + 1.4 / (1 + number / 4000) + 0.1 * ((number * 7919) % 101 - 50) / 50
        told = {"step": number, "total_steps": steps, "epoch": 3 * number / steps, "loss": loss}
        yield step.model_copy(update=told)


def _write(runs: Path, name: str, config: RunConfig, steps: int, ending: Iterable[ev.Event]) -> RunFolder:
    folder = RunFolder(runs / name)
    folder.write_config(config.model_copy(update={"name": name[16:]}))
    with MessageLogWriter(folder.events_path) as log:
        for event in (*sample_events(steps), *ending):
            log.append(event)
    if steps >= 600:
        folder.adapter_path.mkdir()
        (folder.adapter_path / "adapter_config.json").write_text("{}")
        (folder.adapter_path / "adapter_model.safetensors").write_bytes(bytes(1_000_000))
    return folder


def _begin(path: Path, config: RunConfig) -> RunFolder:
    folder = RunFolder(path)
    folder.write_config(config.model_copy(update={"name": "preparing"}))
    with MessageLogWriter(folder.events_path) as log:
        log.append(ev.WorkerStarted(job="train", studio="0.1.0", pid=0))
        log.append(ev.PhaseChanged(phase=Activity.PREPARING_DATA))
        log.append(ev.Progressed(what="tokenizing", done=2600, total=7047, unit="rows"))
    return folder


def _export(run: RunFolder, name: str) -> None:
    """Leave an export with its proof; that of the GGUF failed."""
    is_right = name == "safetensors"
    text = name.replace("-", ":")
    with staged_export(run.exports_path / name) as staged:
        (staged.path / "model.bin").write_bytes(bytes(2_000_000))
        staged.manifest = ExportManifest(
            format=text, file="model.bin", run=run.path.name, base="SmolLM2-135M-Instruct", checkpoint="700"
        )
    checks = [
        {"name": "same_ids", "passed": True, "message": "40 conversations are read into the same token ids."},
        {"name": "held_out_loss", "passed": is_right, "message": "Its loss is 0.0131 nats from the adapter's."},
        {"name": "stop_token", "passed": True, "message": "An answer ends where it should."},
    ]
    report = {
        "verified": is_right,
        "format": text,
        "checks": checks,
        "losses": {"base": 2.4131, "adapter": 0.8642, "merged" if is_right else "gguf": 0.8653},
        "divergence": 0.0021,
        "tokens": 41_280,
        "seconds": 61.0,
        "way": "whole",
        "bases": {
            "bases": [
                {"base": "original", "loss": 0.8653, "divergence": 0.0102},
                {"base": "nf4", "loss": 0.8641, "divergence": 0.0},
            ],
            "recommended": "original",
        },
        "base_weights": "original",
    }
    (run.exports_path / name / "verification.json").write_text(json.dumps(report))
    time.sleep(0.01)  # the next one is newer
