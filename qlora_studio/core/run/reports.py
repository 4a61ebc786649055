"""What jobs report, and what they finish with, as models: told apart by `kind` in an event's line.

A report of a kind that this version does not know is passed over, as is a key that it does not know.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from qlora_studio.core.bounds import Amount, Count, Measured, Number, Seconds, Words
from qlora_studio.core.data.report import DataReport, RowsReport, SourcesReport
from qlora_studio.core.quantity import duration_text
from qlora_studio.core.run.message import Message

Level = Literal["instant", "traced", "probed"]
_SURE_ENDS = 0.5


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class EstimateReport(_Facts):
    """An estimate of graphics memory; `components` and `phases` go by the keys of `core/memory/estimate.py`."""

    level: Level
    total_bytes: Amount
    error_share: Number
    allocated_bytes: Amount
    reserved_bytes: Amount
    managed_bytes: Amount
    context_bytes: Amount
    peak_phase: Words
    components: dict[str, Amount]
    phases: dict[str, Amount]
    notes: tuple[str, ...] = ()


class CheckOutcome(_Facts):
    """One check of a verification."""

    name: Words
    passed: bool
    message: Words = ""


class FormatCheck(CheckOutcome):
    """One check of one of several exports."""

    format: Words = ""


class ComparedAnswer(_Facts):
    """A greedy answer of the adapter and of the export; where they part, and by how much one token leads there."""

    prompt: Words
    adapter: Words
    export: Words
    same: bool
    first_difference: Count | None = None
    lead: Measured = None


class MeasuredBase(_Facts):
    """What a merge into one base gives: the held-out loss, and the divergence from the adapter as trained."""

    base: Words
    loss: Measured = None
    divergence: Measured = None


class BasesReport(_Facts):
    """Which base is better to merge into. `gain_of_nf4` is by how much the loss is lower on the 4-bit one."""

    bases: tuple[MeasuredBase, ...] = ()
    recommended: Words = ""
    trained_loss: Measured = None
    tokens: Amount = 0
    gain_of_nf4: Measured = None
    standard_error: Measured = None


class EndsReport(_Facts):
    """How surely answers end: the mean probability of the end token behind each of the held-out `answers`.

    `before` is of the base, `after` of the adapter as trained, `export` of the export, `lowest` its lowest one. Of
    `asked` answers that it gave anew, as far as a model was loaded whole, `stopped` ended by themselves.
    """

    answers: Count
    before: Number
    after: Number
    export: Number
    lowest: Number
    asked: Count = 0
    stopped: Count = 0

    @property
    def words(self) -> str:
        """The figures in a sentence or two."""
        found = (
            f"After {self.answers:,} held-out answers the end token has a probability of {self.export:.1%} on average "
            f"({self.lowest:.1%} at least); before training it was {self.before:.1%}, of the adapter {self.after:.1%}."
        )
        return found + (f" {self.stopped} of {self.asked} answers given anew stopped." if self.asked else "")

    @property
    def warning(self) -> str:
        """What to mind, or nothing. A model that seldom ends is no wrong export."""
        is_sure = self.export >= _SURE_ENDS and self.stopped * 2 >= self.asked
        return "" if is_sure else "The model may not stop after an answer: train longer, or on more rows."


class VerificationPlan(_Facts):
    """How a verification goes about it, told before it begins: models `whole` or `streamed` layer by layer, over how
    many held-out tokens, and the seconds that this should take.
    """

    way: Words
    tokens: Amount
    seconds: Seconds

    @property
    def words(self) -> str:
        """In a sentence."""
        how = "models layer by layer" if self.way == "streamed" else "models loaded whole"
        rows = f"{self.tokens:,} held-out tokens" if self.tokens else "no held-out rows"
        return f"Verification: {how}, {rows}, about {duration_text(self.seconds)}"


class VerificationReport(_Facts):
    """What a verification found of the export at `path`; the same stands in its `verification.json`.

    Losses are mean nats per trained token of the held-out rows, divergences nats a token, None where not measured.
    `way`: whether models were loaded `whole`, or `streamed` layer by layer; empty in older reports, or where none was.
    `ends` is None in older reports, and where no held-out answer has an end token.
    """

    verified: bool = False
    format: Words = ""
    checks: tuple[CheckOutcome, ...] = ()
    losses: dict[str, Measured] = Field(default_factory=dict)
    answers: tuple[ComparedAnswer, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    base_weights: Words = ""
    checkpoint: Words = ""
    divergence: Measured = None
    divergence_as_trained: Measured = None
    tokens: Amount = 0
    seconds: Seconds = 0.0
    way: Words = ""
    bases: BasesReport | None = None
    ends: EndsReport | None = None
    path: Words = ""

    def named_checks(self) -> list[FormatCheck]:
        """Return the checks, each with the format that it was of."""
        return [FormatCheck(**check.model_dump(), format=self.format) for check in self.checks]


class UploadReport(_Facts):
    """What was uploaded from `path`, and where it is."""

    url: Words
    repository: Words = ""
    commit: Words = ""
    private: bool = True
    files: tuple[str, ...] = ()
    bytes: Amount = 0
    path: Words = ""


class AwakeReport(_Facts):
    """Whether the worker keeps the computer from falling asleep."""

    active: bool


class Reported(Message):
    """A job's result, or part of it. `kind` names the report."""

    type: Literal["reported"] = "reported"


class DatasetReported(Reported):
    """A data job tells of its rows, checks and lengths, more complete each time."""

    kind: Literal["dataset"] = "dataset"
    report: DataReport


class SourcesReported(Reported):
    """A data job tells of its datasets before they are read."""

    kind: Literal["sources"] = "sources"
    report: SourcesReport


class RowsReported(Reported):
    """A data job answers a `ShowRows`."""

    kind: Literal["rows"] = "rows"
    report: RowsReport


class EstimateReported(Reported):
    """An estimate job's result."""

    kind: Literal["estimate"] = "estimate"
    report: EstimateReport


class RunEstimateReported(Reported):
    """What a run on a card should take, told before its probe."""

    kind: Literal["memory_estimate"] = "memory_estimate"
    report: EstimateReport


class BasesReported(Reported):
    """Which base is better to merge into, measured during a verification."""

    kind: Literal["bases"] = "bases"
    report: BasesReport


class VerificationPlanned(Reported):
    """How a verification goes about it, before it begins."""

    kind: Literal["verification_plan"] = "verification_plan"
    report: VerificationPlan


class VerificationReported(Reported):
    """What was found of one export."""

    kind: Literal["verification"] = "verification"
    report: VerificationReport


class UploadReported(Reported):
    """An upload is done."""

    kind: Literal["upload"] = "upload"
    report: UploadReport


class AwakeReported(Reported):
    """A training session says whether the computer is kept awake."""

    kind: Literal["awake"] = "awake"
    report: AwakeReport


AnyReported = Annotated[
    DatasetReported
    | SourcesReported
    | RowsReported
    | EstimateReported
    | RunEstimateReported
    | BasesReported
    | VerificationPlanned
    | VerificationReported
    | UploadReported
    | AwakeReported,
    Field(discriminator="kind"),
]


class ExportedFacts(_Facts):
    """How an export came about: of which checkpoint, merged into which weights. `file` is the name of a GGUF file.

    `importance_rows` are held-out or training: on how many tokens of which it was measured what matters in how many
    tensors of the GGUF; empty where it was not. Of an adapter, `vllm_applied` of `vllm_modules` are applied by vLLM.
    """

    tensors_merged: Count = 0
    tensors: Count = 0
    file: Words = ""
    template: bool | None = None
    seconds: Seconds = 0.0
    peak_rss_bytes: Amount = 0
    base: Words = ""
    checkpoint: Words = ""
    importance_rows: Words = ""
    importance_tokens: Amount = 0
    importance_tensors: Count = 0
    vllm_applied: Count = 0
    vllm_modules: Count = 0
    vllm_problem: Words = ""

    @property
    def vllm_words(self) -> str:
        """What vLLM will do with an adapter, in words; nothing for what is no adapter."""
        words = f"{self.vllm_applied} of {self.vllm_modules} modules will be applied by vLLM. {self.vllm_problem}"
        return words.strip() if self.vllm_modules else ""

    @property
    def importance_words(self) -> str:
        """What was done about what matters, in words; nothing where nothing was."""
        measured = f"measured on {self.importance_tokens:,} tokens of the {self.importance_rows} rows"
        return f"importance matrix of {self.importance_tensors} tensors, {measured}" if self.importance_tensors else ""


class TrainingFacts(_Facts):
    """What a run finishes with; `exports` are paths by format, `verified` is None where nothing was exported."""

    steps: Count
    adapter_dir: Words
    status: Words = "completed"
    exports: dict[str, str] = Field(default_factory=dict)
    verified: bool | None = None


class ExportFacts(_Facts):
    """What an export, a merge or a verification finishes with: whether every check passed, and all of them."""

    verified: bool
    checks: tuple[FormatCheck, ...]
    out_dir: Words = ""
    exports: dict[str, str] = Field(default_factory=dict)
    tensors_merged: Count = 0
    seconds: Seconds = 0.0
    peak_rss_bytes: Amount = 0


class DownloadFacts(_Facts):
    """What a download finishes with: where the model is."""

    path: Words
    source: Words


class DataFacts(_Facts):
    """What a data job finishes with: why a run would be refused, or nothing."""

    refused: Words


class NoFacts(_Facts):
    """A job that has told everything in its events finishes with nothing."""


Facts = Annotated[TrainingFacts | ExportFacts | DownloadFacts | DataFacts | NoFacts, Field(union_mode="left_to_right")]
