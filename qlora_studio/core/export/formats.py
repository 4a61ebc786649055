"""The shapes that a trained model can be exported in: `safetensors`, `adapter`, `gguf:q8_0`, `ollama:q4_K_M` …"""

from dataclasses import dataclass
from typing import Literal

from qlora_studio.core.errors import FailureKind, StudioError

Kind = Literal["safetensors", "adapter", "gguf", "ollama", "gguf_adapter"]


@dataclass(frozen=True)
class Precision:
    """How numbers are stored. `bits` per weight, scales included; `tool` is a program that must be on the machine."""

    name: str
    bits: float
    help: str
    tool: str = ""


_QUANTIZER = "llama-quantize"
PRECISIONS = {
    item.name: item
    for item in (
        Precision("bf16", 16, "As trained; what servers on newer cards expect."),
        Precision("fp16", 16, "For cards older than RTX 30."),
        Precision("fp32", 32, "Only for further processing."),
        Precision("f16", 16, "Full size; the source for other quantizations."),
        Precision("q8_0", 8.5, "Half the size of 16 bit, hardly a difference to measure."),
        Precision("q6_K", 6.57, "Very close to q8_0, a quarter smaller.", _QUANTIZER),
        Precision("q5_K_M", 5.7, "A good middle.", _QUANTIZER),
        Precision("q4_K_M", 4.9, "Fits where nothing else does; a small loss that should be measured.", _QUANTIZER),
        Precision("q3_K_M", 3.9, "Noticeably worse; only where q4_K_M does not fit.", _QUANTIZER),
    )
}
_OF_KIND: dict[str, tuple[str, ...]] = {
    "safetensors": ("bf16", "fp16", "fp32"),
    "gguf": ("q8_0", "bf16", "f16", "q6_K", "q5_K_M", "q4_K_M", "q3_K_M"),
    "ollama": ("q8_0", "bf16", "f16", "q6_K", "q5_K_M", "q4_K_M", "q3_K_M"),
    "adapter": (),
    "gguf_adapter": (),
}
_TITLES = {
    "safetensors": "Merged model (safetensors)",
    "adapter": "Adapter alone (PEFT)",
    "gguf": "GGUF",
    "ollama": "Ollama",
    "gguf_adapter": "Adapter alone (GGUF)",
}
_FOR = {
    "safetensors": "For transformers, vLLM, TGI and further training.",
    "adapter": "A few megabytes; needs the base model beside it.",
    "gguf": "For llama.cpp, LM Studio, Jan and others.",
    "ollama": "A GGUF with a Modelfile: one command, and Ollama answers.",
    "gguf_adapter": "For llama.cpp's --lora, beside a GGUF of the base.",
}


@dataclass(frozen=True)
class ExportFormat:
    """A shape to export in. `precision` is empty where the numbers stay as they are."""

    kind: Kind
    precision: str = ""

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
        return f"{_TITLES[self.kind]} {self.precision}".strip()

    @property
    def help(self) -> str:
        """What it is for, and what the precision costs."""
        precision = PRECISIONS.get(self.precision)
        return f"{_FOR[self.kind]} {precision.help if precision else ''}".strip()

    @property
    def tool(self) -> str:
        """The external program that it needs, or nothing."""
        return PRECISIONS[self.precision].tool if self.precision else ""

    @property
    def is_merged(self) -> bool:
        """Whether it holds a whole model."""
        return self.kind in ("safetensors", "gguf", "ollama")

    def size(self, parameters: int, adapter_bytes: int = 0) -> int:
        """Return about how many bytes it takes for a base of so many parameters."""
        if not self.is_merged:
            return adapter_bytes
        return int(parameters * (PRECISIONS[self.precision].bits if self.precision else 16) / 8)


def parse_format(text: str) -> ExportFormat:
    """Return the format that `text` names. Raises StudioError with the ones there are."""
    kind, _, precision = text.strip().partition(":")
    choices = _OF_KIND.get(kind)
    if choices is None:
        raise _unknown(text)
    match = {name.lower(): name for name in choices}.get(precision.lower(), "")
    if precision and not match:
        raise _unknown(text)
    default = "q8_0" if kind in ("gguf", "ollama") else ""
    return ExportFormat(kind, match or default)  # type: ignore[arg-type]


def all_formats() -> tuple[ExportFormat, ...]:
    """Return every format, the plain ones first."""
    whole = [ExportFormat("safetensors"), ExportFormat("adapter"), ExportFormat("gguf_adapter")]
    kinds: tuple[Kind, ...] = ("gguf", "ollama")
    return (*whole, *(ExportFormat(kind, name) for kind in kinds for name in _OF_KIND[kind]))


def _unknown(text: str) -> StudioError:
    known = ", ".join(item.text for item in all_formats() if item.kind != "ollama")
    return StudioError(
        f'"{text}" is no export format.',
        kind=FailureKind.INVALID_CONFIG,
        advice=f"There are: {known}; and ollama with the same.",
    )
