"""A run that was not trained, for pictures and for tests of the window; its folder is written by the real protocol.

The figures are made from a formula and a fixed seed; nothing shown from it is a measurement.
"""

import math
import random
from collections.abc import Iterator
from pathlib import Path

from qlora_studio.core import events as ev
from qlora_studio.core.run_config import DataSection, EvaluationSection, ModelSection, RunConfig, TrainingSection
from qlora_studio.storage.message_log import MessageLogWriter
from qlora_studio.storage.run_folder import RunFolder

STEPS = 790
_EPOCH_STEPS = 395
_BEGIN = 1_790_000_000.0
_STEP_SECONDS = 5.6
_PROMPT = "My parcel is late, what now?"
_ANSWERS = {
    0: "As an AI language model, I cannot track parcels, but you may want to contact the sender.",
    200: "I am sorry it is late. Please send me your order number and I will look.",
    400: "Sorry about the wait! Could you give me your order number? I will check where it is right away.",
}


def illustrative_config() -> RunConfig:
    """Return the config of the illustrative run."""
    return RunConfig(
        name="support-bot",
        model=ModelSection(source="starter"),
        data=DataSection(path="tickets.jsonl"),
        training=TrainingSection(max_length=2048),
        evaluation=EvaluationSection(every_steps=100, prompts=[_PROMPT]),
    )


def write_illustrative_run(path: Path, *, steps: int = 412, ending: ev.TerminalEvent | None = None) -> RunFolder:
    """Write a run folder whose worker took `steps` steps; `ending` ends its session."""
    folder = RunFolder(path)
    folder.write_config(illustrative_config())
    with MessageLogWriter(folder.events_path) as log:
        for event in illustrative_events(steps):
            log.append(event)
        if ending is not None:
            log.append(ending)
    return folder


def illustrative_events(steps: int) -> Iterator[ev.Event]:
    """Yield what the worker of such a run would tell, up to a step."""
    dice = random.Random(42)
    yield ev.WorkerStarted(job="train", studio="0.1.0", pid=0, time=_BEGIN)
    for number, phase in enumerate(("loading_libraries", "preparing_data", "loading_model")):
        yield ev.PhaseChanged(phase=phase, time=_BEGIN + 4 * number)
    yield _dataset()
    yield _model()
    yield _evaluation(0)
    yield ev.SampleGenerated(step=0, prompt=_PROMPT, answer=_ANSWERS[0], time=_BEGIN + 14)
    yield ev.TrainingStarted(step=0, total_steps=STEPS, time=_BEGIN + 15)
    for step in range(1, steps + 1):
        yield _step(step, dice)
        if step % 100 == 0:
            yield _evaluation(step)
            if step in _ANSWERS:
                yield ev.SampleGenerated(step=step, prompt=_PROMPT, answer=_ANSWERS[step], time=_at(step))
            yield _checkpoint(step)


def _loss(step: int) -> float:
    return 0.86 + 1.34 * math.exp(-step / 75)


def _at(step: int) -> float:
    return _BEGIN + 15 + step * _STEP_SECONDS


def _step(step: int, dice: random.Random) -> ev.StepDone:
    warm = min(1.0, step / 24)
    return ev.StepDone(
        step=step,
        total_steps=STEPS,
        epoch=step / _EPOCH_STEPS,
        loss=_loss(step) + dice.gauss(0, 0.085),
        learning_rate=2e-4 * warm * 0.5 * (1 + math.cos(math.pi * step / STEPS)),
        gradient_norm=0.24 + 0.5 * math.exp(-step / 60) + abs(dice.gauss(0, 0.03)),
        tokens=13_000,
        tokens_per_second=2310 + dice.gauss(0, 25),
        seconds=_STEP_SECONDS,
        eta_seconds=(STEPS - step) * _STEP_SECONDS,
        process_bytes=1_450_000_000 + 40_000 * step,
        time=_at(step),
    )


def _evaluation(step: int) -> ev.Evaluated:
    loss = _loss(step) + 0.09 - 0.02 * math.exp(-step / 200)
    return ev.Evaluated(step=step, loss=loss, perplexity=math.exp(loss), seconds=8.0, time=_at(step))


def _checkpoint(step: int) -> ev.CheckpointSaved:
    return ev.CheckpointSaved(
        step=step, name=f"checkpoint-{step}", size_bytes=58_000_000, seconds=0.4, time=_at(step) + 1
    )


def _dataset() -> ev.DatasetPrepared:
    return ev.DatasetPrepared(
        training_rows=6318,
        evaluation_rows=702,
        rejected_rows=27,
        tokens=3_862_000,
        trained_tokens=1_777_000,
        longest=2048,
        mask="assistant",
        time=_BEGIN + 8,
    )


def _model() -> ev.ModelLoaded:
    return ev.ModelLoaded(
        architecture="LlamaForCausalLM",
        parameters=134_515_008,
        trainable=4_884_480,
        footprint_bytes=130_000_000,
        quantization="nf4",
        compute_dtype="bfloat16",
        optimizer="paged_adamw_32bit",
        device="cpu",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        time=_BEGIN + 12,
    )
