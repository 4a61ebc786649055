"""The facts that a worker tells, in the past tense. `events.jsonl` is a list of these and the only channel out of it.

A worker's session begins with `WorkerStarted` and ends with exactly one of `Finished`, `Failed` or `Paused`; a resumed
run appends another session to the same file. Sizes are bytes, durations seconds. Numbers that were NaN or infinite are
None here, and a `Warned` says so.
"""

from typing import Annotated, Literal

from pydantic import Field

from qlora_studio.core.bounds import Amount, Count, Energy, Measured, Moment, Names, Number, Seconds, Words
from qlora_studio.core.data.source_facts import EvaluationFacts, SourceFacts
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.fingerprint import Fingerprint
from qlora_studio.core.run.message import Message, UnionReader, parse_line
from qlora_studio.core.run.reports import AnyReported, ExportedFacts, Facts, NoFacts
from qlora_studio.core.words import say, say_count

UNREADABLE_LINES = "unreadable_lines"  # the kind of a `Warned` that stands in no file: readers tell it


class WorkerStarted(Message):
    """A worker took the folder's lock and began."""

    type: Literal["worker_started"] = "worker_started"
    job: Words
    studio: Words
    pid: Count


class EnvironmentTold(Message):
    """What a training session runs on. `packages` are versions, `commit` is that of the checkout it runs from.

    Nothing of it names a computer, a person or a folder; what is not known is empty.
    """

    type: Literal["environment_told"] = "environment_told"
    studio: Words = ""
    commit: Words = ""
    python: Words = ""
    system: Words = ""
    packages: dict[str, str] = Field(default_factory=dict)
    driver: Words = ""
    cards: Names = Field(default_factory=list)


class PhaseChanged(Message):
    """The worker turned to something else. `phase` is an activity of `core/run/activity.py`, or of a later version."""

    type: Literal["phase_changed"] = "phase_changed"
    phase: Words


class Progressed(Message):
    """`done` of `total` units within the phase; a total of 0 is unknown."""

    type: Literal["progressed"] = "progressed"
    what: Words
    done: Amount
    total: Amount
    unit: Words = ""


class ModelLoaded(Message):
    """The base is in memory with its adapters. `parameters` counts the base's, `footprint_bytes` weighs both.

    `card` is the UUID of the card that computes, as the driver names it; empty on a processor. `cards` are all of them
    where several train the run.
    Of a model that also sees or hears it is what is trained; `text_model` is the class that this has of its own.
    `checkpointed_layers` of its `layers` are computed twice; both are 0 where that is not told. With `rows_end_to_end`
    the rows of a batch lie in one sequence without padding; runs of earlier versions padded theirs.
    """

    type: Literal["model_loaded"] = "model_loaded"
    architecture: Words
    parameters: Amount
    trainable: Amount
    footprint_bytes: Amount
    quantization: Words
    compute_dtype: Words
    optimizer: Words
    device: Words
    card: Words = ""
    cards: Names = Field(default_factory=list)
    target_modules: Names
    text_model: Words = ""
    layers: Count = 0
    checkpointed_layers: Count = 0
    rows_end_to_end: bool = False


class DatasetPrepared(Message):
    """The rows are rendered, tokenized and split.

    `training_rows` counts each row once, `rows_per_epoch` as often as a weight repeats it. `bad_rows` and `duplicates`
    are what the user chose, `excluded_rows` were left out by hand. `packs` is how many sequences the rows of an epoch
    fill; 0 without packing.
    """

    type: Literal["dataset_prepared"] = "dataset_prepared"
    training_rows: Count
    evaluation_rows: Count
    rejected_rows: Count
    tokens: Amount
    trained_tokens: Amount
    longest: Amount
    mask: Words = ""
    rows_per_epoch: Count = 0
    repaired_rows: Count = 0
    dropped_rows: Count = 0
    bad_rows: Words = ""
    duplicates: Words = ""
    sources: list[SourceFacts] = Field(default_factory=list)
    evaluation: EvaluationFacts | None = None
    packs: Count = 0
    excluded_rows: Count = 0


class TrainingStarted(Message):
    """The first optimizer step is next; `step` is above 0 after a resume."""

    type: Literal["training_started"] = "training_started"
    step: Count
    total_steps: Count


class StepDone(Message):
    """An optimizer step was taken. Memory is the card's by torch's count; `process_bytes` is the worker's in RAM.

    `energy_joules` is what the card took since the session began to train, evaluations and savings included; None where
    it does not tell.
    """

    type: Literal["step_done"] = "step_done"
    step: Count
    total_steps: Count
    epoch: Number
    loss: Number | None
    learning_rate: Number
    gradient_norm: Number | None = None
    tokens: Amount = 0
    tokens_per_second: Number = 0.0
    seconds: Seconds = 0.0
    eta_seconds: Seconds | None = None
    allocated_bytes: Amount = 0
    reserved_bytes: Amount = 0
    peak_bytes: Amount = 0
    process_bytes: Amount = 0
    energy_joules: Energy | None = None


class Evaluated(Message):
    """The held-out rows were measured; loss is the mean over trained tokens. `energy_joules` is as with a step."""

    type: Literal["evaluated"] = "evaluated"
    step: Count
    loss: Measured
    perplexity: Measured
    seconds: Seconds = 0.0
    energy_joules: Energy | None = None


class SampleGenerated(Message):
    """An answer to a sample prompt, to be read."""

    type: Literal["sample_generated"] = "sample_generated"
    step: Count
    prompt: Words
    answer: Words


class CheckpointSaved(Message):
    """A checkpoint is safe: every byte is on disk and every hash was read back right."""

    type: Literal["checkpoint_saved"] = "checkpoint_saved"
    step: Count
    name: Words
    size_bytes: Amount
    seconds: Seconds
    evaluation_loss: Measured = None


class AdapterSaved(Message):
    """The final adapter and its tokenizer are in the run folder."""

    type: Literal["adapter_saved"] = "adapter_saved"
    path: Words
    step: Count


class Exported(Message):
    """An export is complete under `path`."""

    type: Literal["exported"] = "exported"
    format: Words
    path: Words
    size_bytes: Amount
    facts: ExportedFacts = ExportedFacts()


class Resumed(Message):
    """A checkpoint was verified and loaded; training goes on from its step."""

    type: Literal["resumed"] = "resumed"
    step: Count
    checkpoint: Words


class Probed(Message):
    """One real step on the longest rows was tried before the run, and undone, and one evaluation batch.

    `allocated_bytes` and `reserved_bytes` are the peaks of both by torch's count; `training_bytes` and
    `evaluation_bytes` are the allocated peaks of each. `managed_bytes` is the optimizer's paged memory, which torch
    does not count. `tokens` is the longest row's.
    `process_bytes` is what NVML says of the worker and `context_bytes` what of it is neither torch's nor managed: the
    CUDA context. 0 is not told. Card, driver and versions say what these hold for.
    """

    type: Literal["probed"] = "probed"
    rows: Count
    tokens: Amount
    allocated_bytes: Amount
    reserved_bytes: Amount
    seconds: Seconds
    training_bytes: Amount = 0
    evaluation_bytes: Amount = 0
    managed_bytes: Amount = 0
    process_bytes: Amount = 0
    context_bytes: Amount = 0
    card: Words = ""
    card_uuid: Words = ""
    driver: Words = ""
    versions: dict[str, str] = Field(default_factory=dict)


class MemoryMeasured(Message):
    """The most that a phase of the run took so far, by torch's count.

    `phase` is one of an estimate's: load, forward, backward, optimizer, evaluation, save.
    """

    type: Literal["memory_measured"] = "memory_measured"
    phase: Words
    allocated_bytes: Amount
    reserved_bytes: Amount


class Recovering(Message):
    """A fault that the run can get over: a new process goes on from the last safe checkpoint, with this batch size.

    `checkpoints_all` says that from now on no layer keeps its activations.
    """

    type: Literal["recovering"] = "recovering"
    kind: FailureKind
    message: Words
    step: Count
    batch_size: Annotated[Count, Field(ge=1)]
    gradient_accumulation: Annotated[Count, Field(ge=1)]
    checkpoints_all: bool = False


class RateLowered(Message):
    """From this step on the learning rate is `scale` times what the run config says, as the user asked."""

    type: Literal["rate_lowered"] = "rate_lowered"
    step: Count
    scale: Annotated[Number, Field(gt=0, le=1)]


class AdapterContinued(Message):
    """Training goes on from an adapter that was there: its file's hash, and the run and checkpoint where it is of one.

    `parent` is what it is called; `taken_over` are the settings of this run that gave way to its own, in words.
    `stages` are the names of the runs before this one, the first one first: pre-training, instructions …
    """

    type: Literal["adapter_continued"] = "adapter_continued"
    parent: Words
    run: Words = ""
    checkpoint: Words = ""
    sha256: Words = ""
    taken_over: Names = Field(default_factory=list)
    stages: Names = Field(default_factory=list)

    @property
    def words(self) -> str:
        """What it goes on from: every stage before, or the adapter's name."""
        return " → ".join(self.stages) or self.run or self.parent


class ChangeAccepted(Message):
    """The user goes on with another base model or dataset than before. `fingerprint` is what was accepted."""

    type: Literal["change_accepted"] = "change_accepted"
    what: Literal["base", "data"]
    step: Count
    changes: Names
    fingerprint: Fingerprint = Fingerprint()


class StoppedEarly(Message):
    """The held-out loss did not get better for so many evaluations: training ends here."""

    type: Literal["stopped_early"] = "stopped_early"
    step: Count
    evaluations: Count

    @property
    def words(self) -> str:
        """What happened, for window and terminal."""
        times = say_count(self.evaluations, "{count} evaluation", "{count} evaluations")
        return say(
            "Stopped early: the held-out loss did not get better for {times} (step {step:,}).",
            times=times,
            step=self.step,
        )


class ElsewhereTold(Message):
    """How a run stands that trains on another computer. It stands in no events.jsonl: whoever follows the run tells it.

    `state`, `reason` and `node` are its scheduler's own words. `unreached_since` is when the place was reached last,
    where it is not reached now: nothing is known of the job since then. `problem` is a sentence. `clock_ahead` is by
    how many seconds the clock there, which all other events have their times of, is ahead of the one here.
    """

    type: Literal["elsewhere_told"] = "elsewhere_told"
    place: Words
    job: Words = ""
    standing: Literal["submitted", "waiting", "running", "over"] = "submitted"
    state: Words = ""
    reason: Words = ""
    node: Words = ""
    unreached_since: Moment = 0.0
    problem: Words = ""
    clock_ahead: Number = 0.0


class TextGenerated(Message):
    """A piece of an answer in a chat, streamed. `variant` is base, tuned, merged …; `done` marks the last piece.

    `way` is how it was computed, with the last piece: one of ANSWER_WAYS, or empty where nothing is to be said.
    """

    type: Literal["text_generated"] = "text_generated"
    request: Count
    variant: Words
    text: str
    done: bool = False
    tokens: Amount = 0
    seconds: Seconds = 0.0
    way: Words = ""


class Warned(Message):
    """Something that the user should know and that stops nothing."""

    type: Literal["warned"] = "warned"
    kind: Words
    message: Words


class Paused(Message):
    """Ends a session: the work is safe in `checkpoint`, the card is free, the run can be resumed."""

    type: Literal["paused"] = "paused"
    step: Count
    checkpoint: Words
    message: Words = ""


class Finished(Message):
    """Ends a session well: `completed`, or `stopped` by the user."""

    type: Literal["finished"] = "finished"
    status: Literal["completed", "stopped"] = "completed"
    facts: Facts = NoFacts()


class Failed(Message):
    """Ends a session badly: what happened in one sentence, what to do, and the traceback for whoever asks for it."""

    type: Literal["failed"] = "failed"
    kind: FailureKind
    message: Words
    advice: Words = ""
    detail: Words = ""


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
    | ElsewhereTold
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
    """Return the event of a line of `events.jsonl`, or None where it is of a kind that is not known.

    Raises DamagedLine, NewerVersion.
    """
    event: Event | None = parse_line(_READER, line)
    return event
