"""Everything that a run needs, in one frozen model. `run.toml` is this, and a run can be repeated from it alone.

Defaults are those of the QLoRA article the project is made from, but for dropout, which was measured to bring nothing
(tests/benchmarks/NOTES.md); the preset *As in the article* keeps its values. What it calls a mistake has no setting
here: there is no 8-bit base, no optimizer whose state cannot be paged on a card, no merge into 4-bit weights, no
reentrant checkpointing, no load dtype that fights the quantization.
"""

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError, PydanticKnownError

from qlora_studio.core.data.base_templates import BASE_TEMPLATES, template_choices
from qlora_studio.core.data.formats import format_choices
from qlora_studio.core.data.template_variables import objection
from qlora_studio.core.run.optimizer import AUTO, optimizer_choices
from qlora_studio.core.run.setting import SettingInfo, one_of, setting, settings_of

RUN_CONFIG_VERSION = 1
AUTO_CARD, CPU = "auto", "cpu"
ENCODING_NAMES = {"utf-8": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}


class Section(BaseModel):
    """A section of `run.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _card_wish(text: str) -> str:
    """Return which card is wished for, as it is compared; one alone, until several can train one run."""
    wish = text.strip()
    if wish.lower() in (AUTO_CARD, CPU) or wish.isdecimal():
        return wish.lower()
    if not re.fullmatch(r"(GPU|MIG)-[0-9A-Za-z/-]+", wish):
        raise PydanticKnownError("literal_error", {"expected": "auto, cpu, a number or a UUID (GPU-… or MIG-…)"})
    return wish


def _template_variables(variables: dict[str, Any]) -> dict[str, Any]:
    if None in variables.values():
        raise PydanticCustomError("variables", "no variable can be null; leave it out instead")
    if why := objection(variables):
        raise PydanticCustomError("variables", "{why}", {"why": why})
    return variables


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise PydanticCustomError("day", "must be a date such as 2026-05-01") from None


class ModelSection(Section):
    """Which base model to start from."""

    source: str = setting("", title="Base model", help="A hub id such as Qwen/Qwen3-8B, a folder, or a .gguf file.")
    revision: str = setting("", title="Revision", help="A branch, tag or commit of the hub repository.", advanced=True)


class QuantizationSection(Section):
    """How the frozen base is stored on the card."""

    method: Literal["nf4", "fp4", "none"] = setting(
        "nf4",
        title="Base weights",
        help="NF4 is made for normally distributed weights and is more accurate than FP4. 16-bit is plain LoRA.",
        choices={"nf4": "4-bit NF4", "fp4": "4-bit FP4", "none": "16-bit (LoRA)"},
        advanced=True,
    )
    double: bool = setting(
        True,
        title="Double quantization",
        help="Quantizes the quantization constants too: saves 0.37 bits a parameter at no measurable loss.",
        advanced=True,
    )
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = setting(
        "auto",
        title="Compute dtype",
        help="Auto takes bf16 where the card has it (RTX 30 and newer), else fp16.",
        choices={"auto": "Auto", "bfloat16": "bf16", "float16": "fp16", "float32": "fp32"},
        advanced=True,
    )
    original: str = setting(
        "",
        title="16-bit original",
        help="What a base that is stored in 4 bits was made from: a folder or a hub id. Empty: as its model card says.",
        advanced=True,
    )


class DatasetSource(Section):
    """A dataset, and how its rows are read."""

    path: str = setting(
        "", title="Dataset", help="A JSON Lines, JSON, CSV, TSV, Parquet or text file, a folder, or a hub name."
    )
    subset: str = setting("", title="Subset", help="Which of several that a dataset on the hub has.", advanced=True)
    split: str = setting("", title="Split", help="Which of several: train, test …", advanced=True)
    revision: str = setting("", title="Revision", help="A branch, tag or commit on the hub.", advanced=True)
    weight: float = setting(
        1.0,
        title="Weight",
        help="How often a row is seen per epoch: 0.5 takes a half of the rows, drawn by the seed; 2 repeats each.",
        gt=0,
        le=100,
        advanced=True,
    )
    format: Annotated[str, one_of(format_choices)] = setting(
        "auto", title="Format", help="Auto looks at every row, not only the first."
    )
    mapping: dict[str, str] = setting(
        title="Columns",
        help="Which column plays which part (conversation, prompt, completion, context, system, tools, text), by which "
        "keys turns have role and content, and what roles are called (user_role, assistant_role …).",
        advanced=True,
        default_factory=dict,
    )
    encoding: Literal["utf-8", "utf-16", "cp1252"] = setting(
        "utf-8",
        title="Text encoding",
        help="Never guessed. UTF-8 with or without BOM is the rule; choose another if the preview looks wrong.",
        choices=ENCODING_NAMES,
        advanced=True,
    )

    @property
    def name(self) -> str:
        """What the dataset is called in words: the last part of its path, or its name on the hub."""
        is_path = self.path.startswith(("/", ".", "~")) or "\\" in self.path
        return self.path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if is_path else self.path


class DataSection(DatasetSource):
    """What to learn from, and what to hold out."""

    more: list[DatasetSource] = setting(
        title="More datasets",
        help="Further datasets of the same run, each a table with path, weight, format … of its own.",
        advanced=True,
        default_factory=list,
    )
    reasoning: Literal["template", "keep"] = setting(
        "template",
        title="Earlier reasoning",
        help="Many templates drop the reasoning of all answers but the last: it is not learned then. Kept, each answer "
        "stands as if it were the last; rows get longer, and a chat does not show the model such a text.",
        choices={"template": "As the template", "keep": "Keep in all answers"},
        advanced=True,
    )
    same_role: Literal["template", "join"] = setting(
        "template",
        title="Same role twice",
        help="Turns of one role after another. Where a template refuses them, they can be joined to one turn.",
        choices={"template": "As the template", "join": "Join where refused"},
        advanced=True,
    )
    duplicates: Literal["keep", "drop_exact", "drop_near"] = setting(
        "keep",
        title="Duplicates",
        help="Rows that repeat an earlier one. Near ones differ in case, white space or punctuation only.",
        choices={"keep": "Keep", "drop_exact": "Drop exact ones", "drop_near": "Drop exact and near ones"},
    )
    exclude: list[str] = setting(
        title="Left out by hand",
        help="Rows that are not used, by the key that the row's preview shows: all rows that say the same.",
        advanced=True,
        default_factory=list,
    )
    evaluation_path: str = setting("", title="Evaluation file", help="Held-out rows of your own.", advanced=True)
    evaluation_split: str = setting(
        "",
        title="Evaluation split",
        help="The split of the evaluation file; without a file, another split of the dataset.",
        advanced=True,
    )
    evaluation_share: float = setting(
        0.1, title="Held-out share", help="Part of the rows kept for evaluation, never trained on.", ge=0.0, le=0.5
    )
    chat_template: Annotated[str, one_of(template_choices)] = setting(
        AUTO,
        title="Chat template",
        help="Auto is the model's own, or for a base model without one ChatML or plain words. Saved with the adapter.",
        costs={name: template.terms for name, template in BASE_TEMPLATES.items()},
        advanced=True,
    )
    template_variables: Annotated[dict[str, Any], AfterValidator(_template_variables)] = setting(
        title="Template variables",
        help="What the chat template reads besides the conversation, such as enable_thinking: a table of names.",
        advanced=True,
        default_factory=dict,
    )
    template_date: Annotated[str, AfterValidator(_day)] = setting(
        "",
        title="Date in prompts",
        help="What templates take for today, such as 2026-05-01. Empty: the day on which the run began.",
        advanced=True,
    )
    bad_rows: Literal["skip", "stop"] = setting(
        "skip",
        title="Bad rows",
        help="Leave rejected rows out and report them, or refuse to start.",
        choices={"skip": "Leave out and report", "stop": "Refuse to start"},
        advanced=True,
    )
    seed: int = setting(
        42, title="Split seed", help="Which rows are held out, and drawn by a weight.", ge=0, advanced=True
    )

    @property
    def sources(self) -> tuple[DatasetSource, ...]:
        """Every dataset of the run, the first one first."""
        return (self, *self.more)

    @property
    def evaluation(self) -> DatasetSource | None:
        """The dataset that the evaluation rows are taken from, read as the first one is; None where it is a share."""
        if not self.evaluation_path and not self.evaluation_split:
            return None
        changes = {"path": self.evaluation_path or self.path, "split": self.evaluation_split, "weight": 1.0}
        if self.evaluation_path and self.evaluation_path != self.path:
            changes |= {"subset": "", "revision": ""}
        own = {name: getattr(self, name) for name in DatasetSource.model_fields}
        return DatasetSource.model_validate(own | changes)


class LoraSection(Section):
    """The low-rank adapters that are trained."""

    rank: int = setting(
        16, title="LoRA rank", help="Width of the adapters. More learns more and costs memory.", ge=1, le=65_536
    )
    alpha: int = setting(
        16, title="LoRA alpha", help="Scale of the adapters; equal to the rank keeps it at 1.", ge=1, le=1_048_576
    )
    dropout: float = setting(
        0.0,
        title="LoRA dropout",
        help="Against overfitting, where few rows are seen often. 0 is faster and takes less memory.",
        ge=0.0,
        lt=1.0,
    )
    target_modules: str = setting(
        "auto",
        title="Target modules",
        help="Auto adapts every linear layer but the head, found in the model itself. Or names, separated by commas.",
        advanced=True,
    )
    experts: bool = setting(
        False,
        title="Routed experts too",
        help="In a mixture of experts, adapts the experts beside attention and dense layers. Dropout is 0 then.",
        advanced=True,
    )
    start_from: str = setting(
        "",
        title="Go on from",
        help="An adapter to train further: its folder, a run, a checkpoint, an export. Brings rank, alpha and targets.",
        advanced=True,
    )
    rslora: bool = setting(False, title="rsLoRA", help="Scales by alpha / √rank, for high ranks.", advanced=True)
    dora: bool = setting(
        False, title="DoRA", help="Trains direction and magnitude apart: slower, sometimes better.", advanced=True
    )

    @property
    def used_dropout(self) -> float:
        """The dropout in effect: what is on experts cannot have any, and an adapter has one for all."""
        return 0.0 if self.experts else self.dropout


class TrainingSection(Section):
    """How the adapters are trained."""

    epochs: float = setting(2.0, title="Epochs", help="How often each row is seen.", gt=0, le=1000)
    max_steps: int = setting(
        0, title="Steps", help="Ends after so many optimizer steps; 0 goes by epochs.", ge=0, advanced=True
    )
    batch_size: int = setting(2, title="Per-device batch size", help="Rows on the card at once.", ge=1, le=4096)
    gradient_accumulation: int = setting(
        8,
        title="Gradient accumulation",
        help="Batches per optimizer step: the effective batch is the product.",
        ge=1,
        le=4096,
    )
    learning_rate: float = setting(
        2e-4, title="Learning rate", help="Peak rate; 2e-4, or 1e-4 from 33B up.", gt=0, le=1.0
    )
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = setting(
        "cosine",
        title="Schedule",
        help="How the learning rate falls.",
        choices={
            "cosine": "Cosine",
            "linear": "Linear",
            "constant": "Constant",
            "constant_with_warmup": "Constant after warmup",
        },
        advanced=True,
    )
    warmup_ratio: float = setting(
        0.03, title="Warmup", help="Share of the steps over which the rate rises.", ge=0.0, le=0.5, advanced=True
    )
    max_grad_norm: float = setting(
        0.3, title="Max gradient norm", help="Gradients are clipped to it.", gt=0, le=1000, advanced=True
    )
    max_length: int = setting(
        2048, title="Max length", help="Longer rows are cut here.", unit="tokens", ge=16, le=1_048_576
    )
    packing: bool = setting(
        False,
        title="Packing",
        help="Puts short rows together up to the max length: fewer, fuller sequences in a step. Most models train "
        "without padding as it is; for the others packs save most of it, for more work of attention.",
        advanced=True,
    )
    loss_on: Literal["assistant", "last", "marked", "all"] = setting(
        "assistant",
        title="Learn from",
        help="The assistant's answers, the last one, those that the rows mark to be learned, or every token. Turns "
        "that a row marks as not to be learned never are.",
        choices={
            "assistant": "All answers",
            "last": "The last answer",
            "marked": "Marked answers",
            "all": "The full text",
        },
    )
    optimizer: Annotated[str, one_of(optimizer_choices)] = setting(
        AUTO,
        title="Optimizer",
        help="Auto is paged AdamW, 32-bit, on a card: its state may leave the card in a spike. Plain AdamW on the CPU. "
        "Windows pages nothing, and nobody pages small adapters: there those that are not paged do the same.",
        advanced=True,
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = setting(
        "auto",
        title="Gradient checkpointing",
        help="Computes activations twice instead of keeping them: far less memory for up to half more time. "
        "Auto does that for as few layers as the card's free memory needs, and on the processor for none.",
        choices={"auto": "Auto", "on": "On", "off": "Off"},
        advanced=True,
    )
    checkpointed_layers: int = setting(
        0,
        title="Checkpointed layers",
        help="How many layers, from the first on, are checkpointed. 0: as few as the memory needs, or all (On).",
        unit="layers",
        ge=0,
        advanced=True,
    )
    seed: int = setting(
        42, title="Seed", help="Of adapter initialisation, dropout and data order.", ge=0, advanced=True
    )


class EvaluationSection(Section):
    """When the held-out rows are measured."""

    every_steps: int = setting(
        100, title="Evaluate every", help="0 measures only before and after.", unit="steps", ge=0
    )
    patience: int = setting(
        0,
        title="Stop early after",
        help="Ends training when the held-out loss has not improved in so many evaluations; 0 never does.",
        unit="evaluations",
        ge=0,
        advanced=True,
    )
    prompts: list[str] = setting(
        title="Sample prompts", help="Answered at each evaluation, to be read.", advanced=True, default_factory=list
    )


class CheckpointSection(Section):
    """When the work so far is made safe."""

    every_steps: int = setting(
        0, title="Also checkpoint every", help="0 goes by time alone.", unit="steps", ge=0, advanced=True
    )
    every_minutes: float = setting(
        10.0, title="Checkpoint every", help="At most so much work can be lost.", unit="minutes", gt=0, le=1440
    )
    keep: int = setting(
        3, title="Checkpoints kept", help="The newest; the best is always kept.", ge=2, le=1000, advanced=True
    )


class ExportSection(Section):
    """What is written at the end."""

    merge: bool = setting(
        True, title="Merge at the end", help="Into the 16-bit base; the adapter and checkpoints stay."
    )
    formats: list[str] = setting(
        title="Formats",
        help="safetensors, gguf:q8_0, ollama, adapter, text_model …",
        advanced=True,
        default_factory=lambda: ["safetensors"],
    )
    importance_matrix: Literal["auto", "on", "off"] = setting(
        "auto",
        title="Importance matrix",
        help="Rounds a GGUF of few bits by what matters on your held-out rows. Auto does so below q5.",
        choices={"auto": "Auto", "on": "On", "off": "Off"},
        advanced=True,
    )
    verification_minutes: float = setting(
        10.0,
        title="Minutes of verification",
        help="How many held-out tokens an export is compared on goes by this; 256 at least.",
        unit="min",
        ge=0.1,
        le=1440,
        advanced=True,
    )


class HardwareSection(Section):
    """What the run computes on."""

    gpus: Annotated[str, AfterValidator(_card_wish)] = setting(
        AUTO_CARD,
        title="Graphics card",
        help="Auto takes the one with the most free memory. Or a UUID (GPU-…, MIG-…), a number, or cpu.",
        advanced=True,
    )


class RunConfig(Section):
    """The complete description of a run."""

    version: int = setting(RUN_CONFIG_VERSION, title="Version", help="Of this file's format.", ge=1, advanced=True)
    name: str = setting("my-run", title="Name", help="Of the run and its folder.")
    model: ModelSection = ModelSection()
    quantization: QuantizationSection = QuantizationSection()
    data: DataSection = DataSection()
    lora: LoraSection = LoraSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    checkpoint: CheckpointSection = CheckpointSection()
    export: ExportSection = ExportSection()
    hardware: HardwareSection = HardwareSection()

    @property
    def effective_batch(self) -> int:
        """Rows per optimizer step."""
        return self.training.batch_size * self.training.gradient_accumulation

    def value(self, path: str) -> Any:
        """Return the value of `section.field`."""
        value: Any = self
        for name in path.split("."):
            value = getattr(value, name)
        return value

    def with_value(self, path: str, value: Any) -> "RunConfig":
        """Return this config with `section.field` set to `value`, validated. Raises pydantic's ValidationError."""
        data = self.model_dump()
        *sections, name = path.split(".")
        target = data
        for section in sections:
            target = target[section]
        target[name] = value
        return RunConfig.model_validate(data)


SECTIONS: dict[str, type[Section]] = {
    "model": ModelSection,
    "quantization": QuantizationSection,
    "data": DataSection,
    "lora": LoraSection,
    "training": TrainingSection,
    "evaluation": EvaluationSection,
    "checkpoint": CheckpointSection,
    "export": ExportSection,
    "hardware": HardwareSection,
}


def all_settings() -> tuple[SettingInfo, ...]:
    """Return every setting of the run config, section by section."""
    return tuple(info for section, model in SECTIONS.items() for info in settings_of(section, model))
