"""The facts that a worker tells, in the past tense. `events.jsonl` is a list of these and the only channel out of it.

A worker's session begins with `WorkerStarted` and ends with exactly one of `Finished`, `Failed` or `Paused`; a resumed
run appends another session to the same file. Sizes are bytes, durations seconds. Numbers that were NaN or infinite are
None here, and a `Warned` says so.
"""

from typing import Literal

from pydantic import Field

from qlora_studio.core.data.source_facts import EvaluationFacts, SourceFacts
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.fingerprint import Fingerprint
from qlora_studio.core.run.message import Message, UnionReader, parse_line
from qlora_studio.core.run.reports import AnyReported, ExportedFacts, Facts, NoFacts


class WorkerStarted(Message):
    """A worker took the folder's lock and began."""

    type: Literal["worker_started"] = "worker_started"
    job: str
    studio: str
    pid: int


class EnvironmentTold(Message):
    """What a training session runs on. `packages` are versions, `commit` is that of the checkout it runs from.

    Nothing of it names a computer, a person or a folder; what is not known is empty.
    """

    type: Literal["environment_told"] = "environment_told"
    studio: str = ""
    commit: str = ""
    python: str = ""
    system: str = ""
    packages: dict[str, str] = Field(default_factory=dict)
    driver: str = ""
    cards: list[str] = Field(default_factory=list)


class PhaseChanged(Message):
    """The worker turned to something else. `phase` is an activity of `core/run/activity.py`, or of a later version."""

    type: Literal["phase_changed"] = "phase_changed"
    phase: str


class Progressed(Message):
    """`done` of `total` units within the phase; a total of 0 is unknown."""

    type: Literal["progressed"] = "progressed"
    what: str
    done: int
    total: int
    unit: str = ""


class ModelLoaded(Message):
    """The base is in memory with its adapters. `parameters` counts the base's, `footprint_bytes` weighs both.

    `card` is the UUID of the card that computes, as the driver names it; empty on a processor.
    Of a model that also sees or hears it is what is trained; `text_model` is the class that this has of its own.
    `checkpointed_layers` of its `layers` are computed twice; both are 0 where that is not told.
    """

    type: Literal["model_loaded"] = "model_loaded"
    architecture: str
    parameters: int
    trainable: int
    footprint_bytes: int
    quantization: str
    compute_dtype: str
    optimizer: str
    device: str
    card: str = ""
    target_modules: list[str]
    text_model: str = ""
    layers: int = 0
    checkpointed_layers: int = 0


class DatasetPrepared(Message):
    """The rows are rendered, tokenized and split.

    `training_rows` counts each row once, `rows_per_epoch` as often as a weight repeats it. `bad_rows` and `duplicates`
    are what the user chose, `excluded_rows` were left out by hand. `packs` is how many sequences the rows of an epoch
    fill; 0 without packing.
    """

    type: Literal["dataset_prepared"] = "dataset_prepared"
    training_rows: int
    evaluation_rows: int
    rejected_rows: int
    tokens: int
    trained_tokens: int
    longest: int
    mask: str = ""
    rows_per_epoch: int = 0
    repaired_rows: int = 0
    dropped_rows: int = 0
    bad_rows: str = ""
    duplicates: str = ""
    sources: list[SourceFacts] = Field(default_factory=list)
    evaluation: EvaluationFacts | None = None
    packs: int = 0
    excluded_rows: int = 0


class TrainingStarted(Message):
    """The first optimizer step is next; `step` is above 0 after a resume."""

    type: Literal["training_started"] = "training_started"
    step: int
    total_steps: int


class StepDone(Message):
    """An optimizer step was taken. Memory is the card's by torch's count; `process_bytes` is the worker's in RAM."""

    type: Literal["step_done"] = "step_done"
    step: int
    total_steps: int
    epoch: float
    loss: float | None
    learning_rate: float
    gradient_norm: float | None = None
    tokens: int = 0
    tokens_per_second: float = 0.0
    seconds: float = 0.0
    eta_seconds: float | None = None
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    peak_bytes: int = 0
    process_bytes: int = 0


class Evaluated(Message):
    """The held-out rows were measured; loss is the mean over trained tokens."""

    type: Literal["evaluated"] = "evaluated"
    step: int
    loss: float | None
    perplexity: float | None
    seconds: float = 0.0


class SampleGenerated(Message):
    """An answer to a sample prompt, to be read."""

    type: Literal["sample_generated"] = "sample_generated"
    step: int
    prompt: str
    answer: str


class CheckpointSaved(Message):
    """A checkpoint is safe: every byte is on disk and every hash was read back right."""

    type: Literal["checkpoint_saved"] = "checkpoint_saved"
    step: int
    name: str
    size_bytes: int
    seconds: float
    evaluation_loss: float | None = None


class AdapterSaved(Message):
    """The final adapter and its tokenizer are in the run folder."""

    type: Literal["adapter_saved"] = "adapter_saved"
    path: str
    step: int


class Exported(Message):
    """An export is complete under `path`."""

    type: Literal["exported"] = "exported"
    format: str
    path: str
    size_bytes: int
    facts: ExportedFacts = ExportedFacts()


class Resumed(Message):
    """A checkpoint was verified and loaded; training goes on from its step."""

    type: Literal["resumed"] = "resumed"
    step: int
    checkpoint: str


class Probed(Message):
    """One real step on the longest rows was tried before the run, and undone, and one evaluation batch.

    `allocated_bytes` and `reserved_bytes` are the peaks of both by torch's count; `training_bytes` and
    `evaluation_bytes` are the allocated peaks of each. `managed_bytes` is the optimizer's paged memory, which torch
    does not count. `tokens` is the longest row's.
    `process_bytes` is what NVML says of the worker and `context_bytes` what of it is neither torch's nor managed: the
    CUDA context. 0 is not told. Card, driver and versions say what these hold for.
    """

    type: Literal["probed"] = "probed"
    rows: int
    tokens: int
    allocated_bytes: int
    reserved_bytes: int
    seconds: float
    training_bytes: int = 0
    evaluation_bytes: int = 0
    managed_bytes: int = 0
    process_bytes: int = 0
    context_bytes: int = 0
    card: str = ""
    card_uuid: str = ""
    driver: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


class MemoryMeasured(Message):
    """The most that a phase of the run took so far, by torch's count.

    `phase` is one of an estimate's: load, forward, backward, optimizer, evaluation, save.
    """

    type: Literal["memory_measured"] = "memory_measured"
    phase: str
    allocated_bytes: int
    reserved_bytes: int


class Recovering(Message):
    """A fault that the run can get over: a new process goes on from the last safe checkpoint, with this batch size.

    `checkpoints_all` says that from now on no layer keeps its activations.
    """

    type: Literal["recovering"] = "recovering"
    kind: FailureKind
    message: str
    step: int
    batch_size: int
    gradient_accumulation: int
    checkpoints_all: bool = False


class RateLowered(Message):
    """From this step on the learning rate is `scale` times what the run config says, as the user asked."""

    type: Literal["rate_lowered"] = "rate_lowered"
    step: int
    scale: float


class AdapterContinued(Message):
    """Training goes on from an adapter that was there: its file's hash, and the run and checkpoint where it is of one.

    `parent` is what it is called; `taken_over` are the settings of this run that gave way to its own, in words.
    `stages` are the names of the runs before this one, the first one first: pre-training, instructions …
    """

    type: Literal["adapter_continued"] = "adapter_continued"
    parent: str
    run: str = ""
    checkpoint: str = ""
    sha256: str = ""
    taken_over: list[str] = Field(default_factory=list)
    stages: list[str] = Field(default_factory=list)

    @property
    def words(self) -> str:
        """What it goes on from: every stage before, or the adapter's name."""
        return " → ".join(self.stages) or self.run or self.parent


class ChangeAccepted(Message):
    """The user goes on with another base model or dataset than before. `fingerprint` is what was accepted."""

    type: Literal["change_accepted"] = "change_accepted"
    what: Literal["base", "data"]
    step: int
    changes: list[str]
    fingerprint: Fingerprint = Fingerprint()


class StoppedEarly(Message):
    """The held-out loss did not get better for so many evaluations: training ends here."""

    type: Literal["stopped_early"] = "stopped_early"
    step: int
    evaluations: int

    @property
    def words(self) -> str:
        """What happened, for window and terminal."""
        times = f"{self.evaluations} evaluation{'' if self.evaluations == 1 else 's'}"
        return f"Stopped early: the held-out loss did not get better for {times} (step {self.step:,})."


class TextGenerated(Message):
    """A piece of an answer in a chat, streamed. `variant` is base, tuned, merged …; `done` marks the last piece.

    `way` is how it was computed, with the last piece: one of ANSWER_WAYS, or empty where nothing is to be said.
    """

    type: Literal["text_generated"] = "text_generated"
    request: int
    variant: str
    text: str
    done: bool = False
    tokens: int = 0
    seconds: float = 0.0
    way: str = ""


class Warned(Message):
    """Something that the user should know and that stops nothing."""

    type: Literal["warned"] = "warned"
    kind: str
    message: str


class Paused(Message):
    """Ends a session: the work is safe in `checkpoint`, the card is free, the run can be resumed."""

    type: Literal["paused"] = "paused"
    step: int
    checkpoint: str
    message: str = ""


class Finished(Message):
    """Ends a session well: `completed`, or `stopped` by the user."""

    type: Literal["finished"] = "finished"
    status: Literal["completed", "stopped"] = "completed"
    facts: Facts = NoFacts()


class Failed(Message):
    """Ends a session badly: what happened in one sentence, what to do, and the traceback for whoever asks for it."""

    type: Literal["failed"] = "failed"
    kind: FailureKind
    message: str
    advice: str = ""
    detail: str = ""


Event = (
    WorkerStarted
    | EnvironmentTold
    | PhaseChanged
    | Progressed
    | ModelLoaded
    | DatasetPrepared
    | TrainingStarted
    | StepDone
    | Evaluated
    | SampleGenerated
    | CheckpointSaved
    | AdapterSaved
    | Exported
    | Resumed
    | Probed
    | MemoryMeasured
    | Recovering
    | RateLowered
    | AdapterContinued
    | ChangeAccepted
    | StoppedEarly
    | TextGenerated
    | AnyReported
    | Warned
    | Paused
    | Finished
    | Failed
)
TerminalEvent = Paused | Finished | Failed

_READER = UnionReader(Event, "type")


def parse_event(line: bytes) -> Event | None:
    """Return the event of a line of `events.jsonl`, or None where a kind that is not known, or garbage, stands there.

    Raises NewerVersion.
    """
    event: Event | None = parse_line(_READER, line)
    return event
