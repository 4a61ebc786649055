"""Everything that a run needs, in one frozen model. `run.toml` is this, and a run can be repeated from it alone.

Defaults are those of the QLoRA article the project is made from, but for dropout, which was measured to bring nothing
(tests/benchmarks/NOTES.md); the preset *As in the article* keeps its values. What it calls a mistake has no setting
here: there is no 8-bit base, no optimizer whose state cannot be paged on a card, no merge into 4-bit weights, no
reentrant checkpointing, no load dtype that fights the quantization.
"""

import re
from datetime import date
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError, PydanticKnownError

from qlora_studio.core.config.optimizer import AUTO, optimizer_choices
from qlora_studio.core.config.setting import SettingInfo, one_of, setting, settings_of
from qlora_studio.core.data.base_templates import BASE_TEMPLATES, template_choices
from qlora_studio.core.data.formats import format_choices
from qlora_studio.core.data.template_variables import objection
from qlora_studio.core.words import say

RUN_CONFIG_VERSION = 1
AUTO_CARD, ALL_CARDS, CPU = "auto", "all", "cpu"
ENCODING_NAMES = {"utf-8": "UTF-8", "utf-16": "UTF-16", "cp1252": say("Windows-1252")}


class Section(BaseModel):
    """A section of `run.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _card_wish(text: str) -> str:
    """Return which card is wished for, or which ones, separated by commas, as it is compared."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if len(names) == 1 and names[0].lower() in (AUTO_CARD, ALL_CARDS, CPU):
        return names[0].lower()
    one = r"[0-9]+|GPU-[0-9A-Za-z/-]+" + (r"|MIG-[0-9A-Za-z/-]+" if len(names) == 1 else "")
    if not all(re.fullmatch(one, name) for name in names):
        expected = say(
            "auto, all, cpu, a number or a UUID (GPU-… or MIG-…), or several numbers or UUIDs of whole cards"
        )
        raise PydanticKnownError("literal_error", {"expected": expected})
    return ",".join(names)


def means_several(wish: str) -> bool:
    """Whether a `hardware.gpus` means cards that train a run together; with all it may be one after all."""
    return wish == ALL_CARDS or "," in wish


def _as_text(wish: Any) -> Any:
    """Return a list of cards as the text that it is kept as."""
    is_list = isinstance(wish, list) and wish and all(isinstance(name, str | int) for name in wish)
    return ",".join(map(str, wish)) if is_list else wish


def _template_variables(variables: dict[str, Any]) -> dict[str, Any]:
    if None in variables.values():
        raise PydanticCustomError("variables", say("no variable can be null; leave it out instead"))
    if why := objection(variables):
        raise PydanticCustomError("variables", "{why}", {"why": why})
    return variables


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise PydanticCustomError("day", say("must be a date such as 2026-05-01")) from None


class ModelSection(Section):
    """Which base model to start from."""

    source: str = setting(
        "", title=say("Base model"), help=say("A hub id such as Qwen/Qwen3-8B, a folder, or a .gguf file.")
    )
    revision: str = setting(
        "", title=say("Revision"), help=say("A branch, tag or commit of the hub repository."), advanced=True
    )


class QuantizationSection(Section):
    """How the frozen base is stored on the card."""

    method: Literal["nf4", "fp4", "none"] = setting(
        "nf4",
        title=say("Base weights"),
        help=say("NF4 is made for normally distributed weights and is more accurate than FP4. 16-bit is plain LoRA."),
        choices={"nf4": say("4-bit NF4"), "fp4": say("4-bit FP4"), "none": say("16-bit (LoRA)")},
        advanced=True,
    )
    double: bool = setting(
        True,
        title=say("Double quantization"),
        help=say("Quantizes the quantization constants too: saves 0.37 bits a parameter at no measurable loss."),
        advanced=True,
    )
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = setting(
        "auto",
        title=say("Compute dtype"),
        help=say("Auto takes bf16 where the card has it (RTX 30 and newer), else fp16."),
        choices={"auto": say("Auto"), "bfloat16": "bf16", "float16": "fp16", "float32": "fp32"},
        advanced=True,
    )
    original: str = setting(
        "",
        title=say("16-bit original"),
        help=say(
            "What a base that is stored in 4 bits was made from: a folder or a hub id. Empty: as its model card says."
        ),
        advanced=True,
    )


class DatasetSource(Section):
    """A dataset, and how its rows are read."""

    path: str = setting(
        "",
        title=say("Dataset"),
        help=say("A JSON Lines, JSON, CSV, TSV, Parquet or text file, a folder, or a hub name."),
    )
    subset: str = setting(
        "", title=say("Subset"), help=say("Which of several that a dataset on the hub has."), advanced=True
    )
    split: str = setting("", title=say("Split"), help=say("Which of several: train, test …"), advanced=True)
    revision: str = setting("", title=say("Revision"), help=say("A branch, tag or commit on the hub."), advanced=True)
    weight: float = setting(
        1.0,
        title=say("Weight"),
        help=say("How often a row is seen per epoch: 0.5 takes a half of the rows, drawn by the seed; 2 repeats each."),
        gt=0,
        le=100,
        advanced=True,
    )
    format: Annotated[str, one_of(format_choices)] = setting(
        "auto", title=say("Format"), help=say("Auto looks at every row, not only the first.")
    )
    mapping: dict[str, str] = setting(
        title=say("Columns"),
        help=say(
            "Which column plays which part (conversation, prompt, completion, context, system, "
            "tools, text), by which keys turns have role and content, and what roles are called "
            "(user_role, assistant_role …)."
        ),
        advanced=True,
        default_factory=dict,
    )
    encoding: Literal["utf-8", "utf-16", "cp1252"] = setting(
        "utf-8",
        title=say("Text encoding"),
        help=say("Never guessed. UTF-8 with or without BOM is the rule; choose another if the preview looks wrong."),
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
        title=say("More datasets"),
        help=say("Further datasets of the same run, each a table with path, weight, format … of its own."),
        advanced=True,
        default_factory=list,
    )
    reasoning: Literal["template", "keep"] = setting(
        "template",
        title=say("Earlier reasoning"),
        help=say(
            "Many templates drop the reasoning of all answers but the last: it is not learned "
            "then. Kept, each answer stands as if it were the last; rows get longer, and a chat "
            "does not show the model such a text."
        ),
        choices={"template": say("As the template"), "keep": say("Keep in all answers")},
        advanced=True,
    )
    same_role: Literal["template", "join"] = setting(
        "template",
        title=say("Same role twice"),
        help=say("Turns of one role after another. Where a template refuses them, they can be joined to one turn."),
        choices={"template": say("As the template"), "join": say("Join where refused")},
        advanced=True,
    )
    duplicates: Literal["keep", "drop_exact", "drop_near"] = setting(
        "keep",
        title=say("Duplicates"),
        help=say("Rows that repeat an earlier one. Near ones differ in case, white space or punctuation only."),
        choices={
            "keep": say("Keep"),
            "drop_exact": say("Drop exact ones"),
            "drop_near": say("Drop exact and near ones"),
        },
    )
    exclude: list[str] = setting(
        title=say("Left out by hand"),
        help=say("Rows that are not used, by the key that the row's preview shows: all rows that say the same."),
        advanced=True,
        default_factory=list,
    )
    evaluation_path: str = setting(
        "", title=say("Evaluation file"), help=say("Held-out rows of your own."), advanced=True
    )
    evaluation_split: str = setting(
        "",
        title=say("Evaluation split"),
        help=say("The split of the evaluation file; without a file, another split of the dataset."),
        advanced=True,
    )
    evaluation_share: float = setting(
        0.1,
        title=say("Held-out share"),
        help=say("Part of the rows kept for evaluation, never trained on."),
        ge=0.0,
        le=0.5,
    )
    chat_template: Annotated[str, one_of(template_choices)] = setting(
        AUTO,
        title=say("Chat template"),
        help=say(
            "Auto is the model's own, or for a base model without one ChatML or plain words. Saved with the adapter."
        ),
        costs={name: template.terms for name, template in BASE_TEMPLATES.items()},
        advanced=True,
    )
    template_variables: Annotated[dict[str, Any], AfterValidator(_template_variables)] = setting(
        title=say("Template variables"),
        help=say("What the chat template reads besides the conversation, such as enable_thinking: a table of names."),
        advanced=True,
        default_factory=dict,
    )
    template_date: Annotated[str, AfterValidator(_day)] = setting(
        "",
        title=say("Date in prompts"),
        help=say("What templates take for today, such as 2026-05-01. Empty: the day on which the run began."),
        advanced=True,
    )
    bad_rows: Literal["skip", "stop"] = setting(
        "skip",
        title=say("Bad rows"),
        help=say("Leave rejected rows out and report them, or refuse to start."),
        choices={"skip": say("Leave out and report"), "stop": say("Refuse to start")},
        advanced=True,
    )
    seed: int = setting(
        42, title=say("Split seed"), help=say("Which rows are held out, and drawn by a weight."), ge=0, advanced=True
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
        16,
        title=say("LoRA rank"),
        help=say("Width of the adapters. More learns more and costs memory."),
        ge=1,
        le=65_536,
    )
    alpha: int = setting(
        16,
        title=say("LoRA alpha"),
        help=say("Scale of the adapters; equal to the rank keeps it at 1."),
        ge=1,
        le=1_048_576,
    )
    dropout: float = setting(
        0.0,
        title=say("LoRA dropout"),
        help=say("Against overfitting, where few rows are seen often. 0 is faster and takes less memory."),
        ge=0.0,
        lt=1.0,
    )
    target_modules: str = setting(
        "auto",
        title=say("Target modules"),
        help=say(
            "Auto adapts every linear layer but the head, found in the model itself. Or names, separated by commas."
        ),
        advanced=True,
    )
    experts: bool = setting(
        False,
        title=say("Routed experts too"),
        help=say("In a mixture of experts, adapts the experts beside attention and dense layers. Dropout is 0 then."),
        advanced=True,
    )
    start_from: str = setting(
        "",
        title=say("Go on from"),
        help=say(
            "An adapter to train further: its folder, a run, a checkpoint, an export. Brings rank, alpha and targets."
        ),
        advanced=True,
    )
    rslora: bool = setting(False, title="rsLoRA", help=say("Scales by alpha / √rank, for high ranks."), advanced=True)
    dora: bool = setting(
        False,
        title=say("DoRA"),
        help=say("Trains direction and magnitude apart: slower, sometimes better."),
        advanced=True,
    )

    @property
    def used_dropout(self) -> float:
        """The dropout in effect: what is on experts cannot have any, and an adapter has one for all."""
        return 0.0 if self.experts else self.dropout


class TrainingSection(Section):
    """How the adapters are trained."""

    epochs: float = setting(2.0, title=say("Epochs"), help=say("How often each row is seen."), gt=0, le=1000)
    max_steps: int = setting(
        0, title=say("Steps"), help=say("Ends after so many optimizer steps; 0 goes by epochs."), ge=0, advanced=True
    )
    batch_size: int = setting(
        2, title=say("Per-device batch size"), help=say("Rows on the card at once."), ge=1, le=4096
    )
    gradient_accumulation: int = setting(
        8,
        title=say("Gradient accumulation"),
        help=say("Batches per optimizer step: the effective batch is the product."),
        ge=1,
        le=4096,
    )
    learning_rate: float = setting(
        2e-4, title=say("Learning rate"), help=say("Peak rate; 2e-4, or 1e-4 from 33B up."), gt=0, le=1.0
    )
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = setting(
        "cosine",
        title=say("Schedule"),
        help=say("How the learning rate falls."),
        choices={
            "cosine": say("Cosine"),
            "linear": say("Linear"),
            "constant": say("Constant"),
            "constant_with_warmup": say("Constant after warmup"),
        },
        advanced=True,
    )
    warmup_ratio: float = setting(
        0.03,
        title=say("Warmup"),
        help=say("Share of the steps over which the rate rises."),
        ge=0.0,
        le=0.5,
        advanced=True,
    )
    max_grad_norm: float = setting(
        0.3, title=say("Max gradient norm"), help=say("Gradients are clipped to it."), gt=0, le=1000, advanced=True
    )
    max_length: int = setting(
        2048, title=say("Max length"), help=say("Longer rows are cut here."), unit=say("tokens"), ge=16, le=1_048_576
    )
    packing: bool = setting(
        False,
        title=say("Packing"),
        help=say(
            "Puts short rows together up to the max length: fewer, fuller sequences in a step. "
            "Most models train without padding as it is; for the others packs save most of it, "
            "for more work of attention."
        ),
        advanced=True,
    )
    loss_on: Literal["assistant", "last", "marked", "all"] = setting(
        "assistant",
        title=say("Learn from"),
        help=say(
            "The assistant's answers, the last one, those that the rows mark to be learned, or "
            "every token. Turns that a row marks as not to be learned never are."
        ),
        choices={
            "assistant": say("All answers"),
            "last": say("The last answer"),
            "marked": say("Marked answers"),
            "all": say("The full text"),
        },
    )
    optimizer: Annotated[str, one_of(optimizer_choices)] = setting(
        AUTO,
        title=say("Optimizer"),
        help=say(
            "Auto is paged AdamW, 32-bit, on a card: its state may leave the card in a spike. "
            "Plain AdamW on the CPU. Windows pages nothing, and nobody pages small adapters: "
            "there those that are not paged do the same."
        ),
        advanced=True,
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = setting(
        "auto",
        title=say("Gradient checkpointing"),
        help=say(
            "Computes activations twice instead of keeping them: far less memory for up to half "
            "more time. Auto does that for as few layers as the card's free memory needs, and "
            "on the processor for none."
        ),
        choices={"auto": say("Auto"), "on": say("On"), "off": say("Off")},
        advanced=True,
    )
    checkpointed_layers: int = setting(
        0,
        title=say("Checkpointed layers"),
        help=say("How many layers, from the first on, are checkpointed. 0: as few as the memory needs, or all (On)."),
        unit=say("layers"),
        ge=0,
        advanced=True,
    )
    seed: int = setting(
        42, title=say("Seed"), help=say("Of adapter initialisation, dropout and data order."), ge=0, advanced=True
    )


class EvaluationSection(Section):
    """When the held-out rows are measured."""

    every_steps: int = setting(
        100, title=say("Evaluate every"), help=say("0 measures only before and after."), unit=say("steps"), ge=0
    )
    patience: int = setting(
        0,
        title=say("Stop early after"),
        help=say("Ends training when the held-out loss has not improved in so many evaluations; 0 never does."),
        unit=say("evaluations"),
        ge=0,
        advanced=True,
    )
    prompts: list[str] = setting(
        title=say("Sample prompts"),
        help=say("Answered at each evaluation, to be read."),
        advanced=True,
        default_factory=list,
    )


class CheckpointSection(Section):
    """When the work so far is made safe."""

    every_steps: int = setting(
        0, title=say("Also checkpoint every"), help=say("0 goes by time alone."), unit=say("steps"), ge=0, advanced=True
    )
    every_minutes: float = setting(
        10.0,
        title=say("Checkpoint every"),
        help=say("At most so much work can be lost."),
        unit=say("minutes"),
        gt=0,
        le=1440,
    )
    keep: int = setting(
        3, title=say("Checkpoints kept"), help=say("The newest; the best is always kept."), ge=2, le=1000, advanced=True
    )


class ExportSection(Section):
    """What is written at the end."""

    merge: bool = setting(
        True, title=say("Merge at the end"), help=say("Into the 16-bit base; the adapter and checkpoints stay.")
    )
    formats: list[str] = setting(
        title=say("Formats"),
        help=say("safetensors, gguf:q8_0, ollama, adapter, text_model …"),
        advanced=True,
        default_factory=lambda: ["safetensors"],
    )
    importance_matrix: Literal["auto", "on", "off"] = setting(
        "auto",
        title=say("Importance matrix"),
        help=say("Rounds a GGUF of few bits by what matters on your held-out rows. Auto does so below q5."),
        choices={"auto": say("Auto"), "on": say("On"), "off": say("Off")},
        advanced=True,
    )
    verification_minutes: float = setting(
        10.0,
        title=say("Minutes of verification"),
        help=say("How many held-out tokens an export is compared on goes by this; 256 at least."),
        unit=say("min"),
        ge=0.1,
        le=1440,
        advanced=True,
    )


class HardwareSection(Section):
    """What the run computes on."""

    gpus: Annotated[str, BeforeValidator(_as_text), AfterValidator(_card_wish)] = setting(
        AUTO_CARD,
        title=say("Graphics card"),
        help=say(
            "Auto takes the one with the most free memory. Or a UUID (GPU-…, MIG-…), a number, or cpu. All of them, or "
            "several with commas between, train the run together: each takes its share of a step's batches."
        ),
        advanced=True,
    )
    sharding: Literal["auto", "on", "off"] = setting(
        "auto",
        title=say("Sharding (FSDP)"),
        help=say(
            "Of several cards each keeps a part of the frozen base, and gathers a layer while it works: a larger model "
            "fits, and steps take longer. Auto does so only where a card cannot hold the base alone."
        ),
        choices={"auto": say("Auto"), "on": say("On"), "off": say("Off")},
        advanced=True,
    )


class RunConfig(Section):
    """The complete description of a run."""

    version: int = setting(
        RUN_CONFIG_VERSION, title=say("Version"), help=say("Of this file's format."), ge=1, advanced=True
    )
    name: str = setting("my-run", title=say("Name"), help=say("Of the run and its folder."))
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


@cache
def all_settings() -> tuple[SettingInfo, ...]:
    """Return every setting of the run config, section by section."""
    return tuple(info for section, model in SECTIONS.items() for info in settings_of(section, model))
