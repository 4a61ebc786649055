"""What the Model page says, as values. Pure; sizes are bytes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.export.disk_need import run_needs
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import FitVerdict, judge
from qlora_studio.core.memory.method_comparison import MethodRow, compare_methods
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.recommendation import recommended_learning_rate, recommended_rank
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import bytes_text, count_text
from qlora_studio.core.run.titles import STARTER
from qlora_studio.core.words import say
from qlora_studio.storage.models.catalogue import CatalogueModel
from qlora_studio.storage.models.location import ModelFacts, ModelLocation
from qlora_studio.ui.kit.fields import number_text

VERDICT_WORDS = {FitVerdict.FITS: say("fits"), FitVerdict.TIGHT: say("tight"), FitVerdict.NO: say("too large")}
_WHOLE_BYTES = 2  # of a weight in 16 bits, as nearly all models are stored
VERDICT_TONES = {FitVerdict.FITS: "ok", FitVerdict.TIGHT: "warn", FitVerdict.NO: "bad"}


@dataclass(frozen=True)
class MethodLine:
    """A way to train the model, what it takes, and whether that fits the card; None without a card."""

    label: str
    weights_bytes: int
    trained_bytes: int
    activations_bytes: int
    total_bytes: int
    verdict: FitVerdict | None = None

    @property
    def fit(self) -> str:
        """Whether it fits, in a word."""
        return VERDICT_WORDS[self.verdict] if self.verdict else "–"

    @property
    def tone(self) -> str:
        """The colour of the word."""
        return VERDICT_TONES[self.verdict] if self.verdict else "muted"


def method_lines(shape: ModelShape, setup: MemorySetup, free: int, context: int | None) -> tuple[MethodLine, ...]:
    """Return full fine-tuning, LoRA and QLoRA of a model, with a run's setup in all else.

    `free` is what a run can have of the card, 0 where there is none; `context` is the card's, None where not known.
    """
    rows = compare_methods(shape, setup, context_bytes=context)
    return tuple(_method_line(row, free) for row in rows)


def _method_line(row: MethodRow, free: int) -> MethodLine:
    found = row.estimate
    return MethodLine(
        label=row.label,
        weights_bytes=found.component("weights"),
        trained_bytes=found.component("adapter") + found.component("optimizer"),
        activations_bytes=found.component("activations") + found.component("logits"),
        total_bytes=found.total_bytes,
        verdict=judge(found, free).verdict if free else None,
    )


@dataclass(frozen=True)
class CatalogueLine:
    """A line of the catalogue: a model, what a run on it takes, and whether that fits the card; None without a card."""

    id: str
    title: str
    parameters: int
    licence: str
    gated: bool
    template: str
    needed_bytes: int
    verdict: FitVerdict | None = None
    here: bool = False
    date: str = ""
    refused: str = ""  # how it is stored, where no run can start from that

    @property
    def size(self) -> str:
        """The number of parameters."""
        return count_text(self.parameters)

    @property
    def needs(self) -> str:
        """The memory of a run."""
        return bytes_text(self.needed_bytes)

    @property
    def fit(self) -> str:
        """Whether it fits, in a word; of what is not trained as it is stored, how that is."""
        if self.refused:
            return say("stored in {refused}", refused=self.refused)
        return VERDICT_WORDS[self.verdict] if self.verdict else "–"

    @property
    def tone(self) -> str:
        """The colour of the word."""
        return VERDICT_TONES[self.verdict] if self.verdict and not self.refused else "muted"


def in_order(lines: Iterable[CatalogueLine]) -> list[CatalogueLine]:
    """Return the lines in the order in which one would choose: what fits the card first, the newest, the largest."""
    verdicts = [None, *VERDICT_WORDS]
    newest = sorted(lines, key=lambda line: (line.date, line.parameters), reverse=True)
    return sorted(newest, key=lambda line: (bool(line.refused), verdicts.index(line.verdict)))


def matches(line: CatalogueLine, text: str) -> bool:
    """Whether a line has every word of a filter: in its name, its licence, its template or its date."""
    said = f"{line.id} {line.title} {line.licence} {line.template} {line.date}".lower()
    return all(word in said for word in text.lower().split())


def model_summary(facts: ModelFacts) -> str:
    """Return the line below the heading."""
    parts = [facts.architecture]
    parts += [say("{parameters} parameters", parameters=count_text(facts.parameters))] if facts.parameters else []
    parts += [say("context {context_length:,}", context_length=facts.context_length)] if facts.context_length else []
    parts += [facts.licence] if facts.licence else []
    return " · ".join(part for part in parts if part)


def model_fact_pairs(location: ModelLocation, facts: ModelFacts) -> tuple[tuple[str, str], ...]:
    """Return the facts of a model for a grid."""
    stored = f"{bytes_text(facts.weights_bytes)} {facts.stored_dtype}" if facts.weights_bytes else ""
    return (
        (say("Architecture"), facts.architecture),
        (say("Parameters"), f"{facts.parameters:,}" if facts.parameters else say("not told by the files")),
        (
            say("Layers"),
            say("{layers} of width {hidden_size:,}", layers=facts.layers, hidden_size=facts.hidden_size)
            if facts.layers
            else "",
        ),
        (
            say("Context"),
            say("{context_length:,} tokens", context_length=facts.context_length) if facts.context_length else "",
        ),
        (say("Vocabulary"), say("{vocabulary:,} tokens", vocabulary=facts.vocabulary) if facts.vocabulary else ""),
        ("GGUF", facts.gguf),
        (say("Licence"), facts.licence or say("not stated in the files")),
        (say("On disk"), stored),
        (say("Where"), str(location.path) if location.path else say("on the hub")),
    )


def needed_pairs(model: CatalogueModel, config: RunConfig, line: CatalogueLine | None) -> tuple[tuple[str, str], ...]:
    """Return what a model of the catalogue takes, with the settings of a run, before any of it is downloaded.

    `line` is what the catalogue says of it for the card that is here, where that was judged.
    """
    whole = bytes_text(_WHOLE_BYTES * model.parameters)
    download = (
        say("less than {whole}: stored in {stored}", whole=whole, stored=model.stored)
        if model.stored
        else say("about {whole}", whole=whole)
    )
    if line is not None and line.verdict is not None:
        memory = say(
            "about {memory} with this run's settings: {verdict}", memory=line.needs, verdict=VERDICT_WORDS[line.verdict]
        )
    else:
        size = bytes_text(line.needed_bytes if line else estimate(config, model.shape).total_bytes)
        memory = say("about {memory} with this run's settings", memory=size)
    disk = bytes_text(sum(need.size for need in run_needs(config, model.shape)))
    return (
        (say("Download"), download),
        (say("Graphics memory"), memory),
        (say("Disk for a run"), say("about {disk}: checkpoints, adapter and exports, beside the download", disk=disk)),
        (say("Parameters"), f"{model.parameters:,}"),
        (say("Licence"), model.licence + (say(", to be accepted on the hub first") if model.gated else "")),
        (say("Since"), model.date),
    )


def likely_kind(source: str) -> str:
    """Return which of the ways to name a model a source is, by its text alone."""
    if source == STARTER:
        return "starter"
    if source.lower().endswith(".gguf"):
        return "gguf"
    return "folder" if PurePath(source).is_absolute() or source.startswith(("~", ".")) else "hub"


def template_text(facts: ModelFacts) -> str:
    """Return a sentence about the chat template."""
    if facts.chat_template:
        return say(
            "It has a chat template of {chat_template:,} characters: conversations are put in its form.",
            chat_template=len(facts.chat_template),
        )
    return say("It has no chat template: a base model. Plain text can be trained, conversations need a template.")


def four_bit_text(facts: ModelFacts) -> str:
    """Return a sentence on what 4-bit weights save, and whether that helps; or that the files hold no whole weights."""
    config, shape = RunConfig(), facts.shape
    if facts.quantized or shape is None:
        return facts.quantized or say("Known once the model is here.")
    small = estimate(config, shape).component("weights")
    large = estimate(config.with_value("quantization.method", "none"), shape).component("weights")
    share = 1 - small / large if large else 0.0
    sizes = say("{large} of weights become {small} in 4 bits", large=bytes_text(large), small=bytes_text(small))
    if share >= 0.5:
        return say("{sizes}, {share:.0%} less.", sizes=sizes, share=share)
    kept = shape.kept_parameters / max(1, shape.parameters)
    return say(
        "{sizes}, only {share:.0%} less: {kept:.0%} of the parameters stay in 16 bits.",
        sizes=sizes,
        share=share,
        kept=kept,
    )


def advice_text(parameters: int) -> str:
    """Return what the run config should have for a model of this size, in a sentence."""
    rank, rate = recommended_rank(parameters), recommended_learning_rate(parameters)
    return say("For this size: rank {rank}, learning rate {rate}.", rank=rank, rate=number_text(rate))


def follows_advice(config: RunConfig, parameters: int) -> bool:
    """Whether rank and learning rate are as recommended."""
    rate = recommended_learning_rate(parameters)
    return config.lora.rank == recommended_rank(parameters) and config.training.learning_rate == rate
