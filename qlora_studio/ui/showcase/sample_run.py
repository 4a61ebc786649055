"""A run that was not trained, for pictures and for tests of the window; its folder is written by the real protocol.

The figures are made from a formula and a fixed seed; nothing shown from it is a measurement.
"""

import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

from qlora_studio.core.config.optimizer import ON_CARD
from qlora_studio.core.config.run_config import DataSection, EvaluationSection, ModelSection, RunConfig, TrainingSection
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.activity import Activity
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder

STEPS = 790
_EPOCH_STEPS = 395
_PREPARING_SECONDS = 15.0
_STEP_SECONDS = 5.6
_PROMPT = "My parcel is late, what now?"
_ANSWERS = {
    0: "As an AI language model, I cannot track parcels, but you may want to contact the sender.",
    200: "I am sorry it is late. Please send me your order number and I will look.",
    400: "Sorry about the wait! Could you give me your order number? I will check where it is right away.",
}


def sample_config() -> RunConfig:
    """Return the config of the sample run."""
    return RunConfig(
        name="support-bot",
        model=ModelSection(source="starter"),
        data=DataSection(path="tickets.jsonl"),
        training=TrainingSection(max_length=2048),
        evaluation=EvaluationSection(every_steps=100, prompts=[_PROMPT]),
    )


def write_sample_run(path: Path, *, steps: int = 412, ending: ev.TerminalEvent | None = None) -> RunFolder:
    """Write a run folder whose worker took `steps` steps until now; `ending` ends its session."""
    folder = RunFolder(path)
    folder.write_config(sample_config())
    with MessageLogWriter(folder.events_path) as log:
        for event in sample_events(steps):
            log.append(event)
        if ending is not None:
            log.append(ending)
    return folder


def sample_events(steps: int) -> Iterator[ev.Event]:
    """Yield what the worker of such a run would have told until now, when it took its last step."""
    begin = time.time() - _PREPARING_SECONDS - steps * _STEP_SECONDS
    for seconds, event in _timed_events(steps):
        yield event.model_copy(update={"time": begin + seconds})


def _timed_events(steps: int) -> Iterator[tuple[float, ev.Event]]:
    """Yield the events with the seconds since the worker's start."""
    dice = random.Random(42)
    yield 0, ev.WorkerStarted(job="train", studio="0.1.0", pid=0)
    for number, phase in enumerate((Activity.LOADING_LIBRARIES, Activity.PREPARING_DATA, Activity.LOADING_MODEL)):
        yield 4 * number, ev.PhaseChanged(phase=phase)
    yield 8, _dataset()
    yield 12, _model()
    yield 13, _evaluation(0)
    yield 14, ev.SampleGenerated(step=0, prompt=_PROMPT, answer=_ANSWERS[0])
    yield _PREPARING_SECONDS, ev.TrainingStarted(step=0, total_steps=STEPS)
    for step in range(1, steps + 1):
        now = _PREPARING_SECONDS + step * _STEP_SECONDS
        yield now, _step(step, dice)
        if step % 100 == 0:
            yield now, _evaluation(step)
            if step in _ANSWERS:
                yield now, ev.SampleGenerated(step=step, prompt=_PROMPT, answer=_ANSWERS[step])
            yield now, _checkpoint(step)


def _loss(step: int) -> float:
    return 0.86 + 1.34 * math.exp(-step / 75)


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
        eta_seconds=max(0, STEPS - step) * _STEP_SECONDS,
        process_bytes=1_450_000_000 + 40_000 * step,
    )


def _evaluation(step: int) -> ev.Evaluated:
    loss = _loss(step) + 0.09 - 0.02 * math.exp(-step / 200)
    return ev.Evaluated(step=step, loss=loss, perplexity=math.exp(loss), seconds=8.0)


def _checkpoint(step: int) -> ev.CheckpointSaved:
    return ev.CheckpointSaved(step=step, name=f"checkpoint-{step}", size_bytes=58_000_000, seconds=0.4)


def _dataset() -> ev.DatasetPrepared:
    return ev.DatasetPrepared(
        training_rows=6318,
        evaluation_rows=702,
        rejected_rows=27,
        tokens=3_862_000,
        trained_tokens=1_777_000,
        longest=2048,
        mask="assistant",
    )


def _model() -> ev.ModelLoaded:
    return ev.ModelLoaded(
        architecture="LlamaForCausalLM",
        parameters=134_515_008,
        trainable=4_884_480,
        footprint_bytes=130_000_000,
        quantization="nf4",
        compute_dtype="bfloat16",
        optimizer=ON_CARD,
        device="cpu",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
