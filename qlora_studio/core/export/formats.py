"""The shapes that a trained model can be exported in: `safetensors`, `adapter`, `gguf:q8_0`, `ollama:q4_K_M` …"""

from dataclasses import dataclass

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say


@dataclass(frozen=True)
class Precision:
    """How numbers are stored. `bits` per weight, scales included.

    `uneven_bits` are those of a model whose width is no multiple of 256: its rows are stored in larger types.
    """

    name: str
    bits: float
    help: str
    uneven_bits: float = 0.0


PRECISIONS = {
    item.name: item
    for item in (
        Precision("bf16", 16, say("As trained; what servers on newer cards expect.")),
        Precision("fp16", 16, say("For cards older than RTX 30.")),
        Precision("fp32", 32, say("Only for further processing.")),
        Precision("f16", 16, say("Full size; the source for other quantizations.")),
        Precision("q8_0", 8.5, say("Half the size of 16 bit, hardly a difference to measure.")),
        Precision("q6_K", 6.57, say("Very close to q8_0, a quarter smaller."), 8.2),
        Precision("q5_K_M", 5.7, say("A good middle."), 6.7),
        Precision("q5_K_S", 5.5, say("A little smaller than q5_K_M."), 6.5),
        Precision("q4_K_M", 4.9, say("Fits where nothing else does; a small loss that should be measured."), 6.3),
        Precision("q4_K_S", 4.6, say("A little smaller than q4_K_M."), 6.1),
        Precision("q3_K_M", 3.9, say("Noticeably worse; only where q4_K_M does not fit."), 5.6),
    )
}
EXPORT_VARIANTS = {"merged": say("merged model"), "gguf": "GGUF"}  # as what an export can answer in a chat
_WEIGHED_BELOW = {"on": 8.0, "auto": 5.5}  # bits: from q8_0 up, types have no use for an importance matrix
_GGUF_PRECISIONS = ("q8_0", "bf16", "f16", "q6_K", "q5_K_M", "q5_K_S", "q4_K_M", "q4_K_S", "q3_K_M")


@dataclass(frozen=True, kw_only=True)
class ExportKind:
    """A kind of export. `purpose` says what it is for, `name` what it is called among what is written.

    One with a `default_precision` is offered in each of its precisions, another as it is. Its weights are GGUF's or
    safetensors', and a copy of the adapter lies beside them where it `keeps_adapter`. `is_text_alone` is of models that
    also see or hear. `answers_as` is one of EXPORT_VARIANTS. `loads` is whether it can be read here and compared with
    the adapter that it was made from.
    """

    title: str
    purpose: str
    name: str = ""
    precisions: tuple[str, ...] = ()
    default_precision: str = ""
    is_merged: bool = False
    keeps_adapter: bool = True
    is_gguf: bool = False
    is_text_alone: bool = False
    answers_as: str = ""
    has_tokenizer: bool = True
    has_modelfile: bool = False
    loads: bool = True


EXPORT_KINDS = {
    "safetensors": ExportKind(
        title=say("Merged model (safetensors)"),
        purpose=say("For transformers, vLLM, TGI and further training."),
        name=say("merged model"),
        precisions=("bf16", "fp16", "fp32"),
        is_merged=True,
        answers_as="merged",
    ),
    "text_model": ExportKind(
        title=say("Text model alone (safetensors)"),
        purpose=say("The language model of one that also sees or hears, for programs that know no pictures."),
        name=say("text model alone"),
        precisions=("bf16", "fp16", "fp32"),
        is_merged=True,
        is_text_alone=True,
        answers_as="merged",
    ),
    "adapter": ExportKind(
        title=say("Adapter alone (PEFT)"),
        purpose=say("A few megabytes; needs the base model beside it."),
        name=say("adapter alone"),
        keeps_adapter=False,
    ),
    "gguf_adapter": ExportKind(
        title=say("Adapter alone (GGUF)"),
        purpose=say("For llama.cpp's --lora, beside a GGUF of the base."),
        name=say("adapter as GGUF"),
        is_gguf=True,
        has_tokenizer=False,
        loads=False,
    ),
    "gguf": ExportKind(
        title="GGUF",
        purpose=say("For llama.cpp, LM Studio, Jan and others."),
        precisions=_GGUF_PRECISIONS,
        default_precision="q8_0",
        is_merged=True,
        is_gguf=True,
        answers_as="gguf",
    ),
    "ollama": ExportKind(
        title="Ollama",
        purpose=say("A GGUF with a Modelfile: one command, and Ollama answers."),
        precisions=_GGUF_PRECISIONS,
        default_precision="q8_0",
        is_merged=True,
        is_gguf=True,
        answers_as="gguf",
        has_modelfile=True,
    ),
}


@dataclass(frozen=True)
class ExportFormat:
    """A shape to export in. `precision` is empty where the numbers stay as they are."""

    kind: str
    precision: str = ""

    @property
    def traits(self) -> ExportKind:
        """What holds of its kind in every precision."""
        return EXPORT_KINDS[self.kind]

    @property
    def text(self) -> str:
        """As it is written in a run config: gguf:q8_0."""
        return f"{self.kind}:{self.precision}" if self.precision else self.kind

    @property
    def folder_name(self) -> str:
        """The name of its folder under `exports/`."""
        return self.text.replace(":", "-").replace("_adapter", "-adapter")

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.traits.title} {self.precision}".strip()

    @property
    def help(self) -> str:
        """What it is for, and what the precision costs."""
        precision = PRECISIONS.get(self.precision)
        return f"{self.traits.purpose} {precision.help if precision else ''}".strip()

    def takes_importance(self, wish: str) -> bool:
        """Whether it is rounded by what matters most. `wish` is on, off, or auto: where few bits are left."""
        bits = PRECISIONS[self.precision].bits if self.precision else 16
        return self.traits.is_merged and self.traits.is_gguf and bits < _WEIGHED_BELOW.get(wish, 0)

    def size(self, parameters: int, adapter_bytes: int = 0, *, width: int = 0) -> int:
        """Return about how many bytes its weights take for a base of so many parameters, and of that width."""
        if not self.traits.is_merged:
            return adapter_bytes * (2 if self.traits.is_gguf else 1)  # an adapter in a GGUF is one in fp32
        precision = PRECISIONS.get(self.precision)
        bits = precision.bits if precision else 16
        if precision and precision.uneven_bits and width % 256:
            bits = precision.uneven_bits
        return int(parameters * bits / 8)


def parse_format(text: str) -> ExportFormat:
    """Return the format that `text` names. Raises StudioError with the ones there are."""
    kind, _, precision = text.strip().partition(":")
    traits = EXPORT_KINDS.get(kind)
    if traits is None:
        raise _unknown(text)
    match = {name.lower(): name for name in traits.precisions}.get(precision.lower(), "")
    if precision and not match:
        raise _unknown(text)
    return ExportFormat(kind, match or traits.default_precision)


def all_formats() -> tuple[ExportFormat, ...]:
    """Return every format that is offered, the plain ones first."""
    pairs = ((kind, traits.precisions if traits.default_precision else ("",)) for kind, traits in EXPORT_KINDS.items())
    return tuple(ExportFormat(kind, name) for kind, names in pairs for name in names)


def answering_kinds(variant: str) -> tuple[str, ...]:
    """Return the kinds that answer as a variant in a chat, in the order of preference."""
    return tuple(kind for kind, traits in EXPORT_KINDS.items() if traits.answers_as == variant)


def kind_of_text(text: str) -> str:
    """Return the kind of a format as it is written, known or not."""
    return text.strip().partition(":")[0]


def _unknown(text: str) -> StudioError:
    words = (
        f"{kind}:{' or '.join(traits.precisions)}" if traits.default_precision else kind
        for kind, traits in EXPORT_KINDS.items()
    )
    return StudioError(
        say('"{text}" is no export format.', text=text),
        kind=FailureKind.INVALID_CONFIG,
        advice=say("There are: {words}.", words=", ".join(words)),
    )
