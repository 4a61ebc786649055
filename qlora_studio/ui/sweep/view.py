"""What the dialog of a sweep says, as values: which settings, which values to begin with, what the runs will take."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qlora_studio.core.comparison.sweep import Variation, sweepable_settings
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.setting import SettingInfo
from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.core.quantity import bytes_text, duration_text, number_text
from qlora_studio.core.words import say, say_count

_FIRST = ("lora.rank", "training.learning_rate", "lora.alpha", "lora.dropout", "training.epochs", "training.seed")
_FITS = {FitVerdict.FITS: say("fits"), FitVerdict.TIGHT: say("is tight"), FitVerdict.NO: say("does not fit")}
_TONES = {FitVerdict.FITS: "", FitVerdict.TIGHT: "warn", FitVerdict.NO: "bad"}
_SMALL = (0.0, 0.05, 0.1)  # for a share that is 0


@dataclass(frozen=True)
class Forecast:
    """What a run will take, as far as that is known: bytes of the card, whether it has them, seconds of training."""

    name: str
    memory_bytes: int | None = None
    verdict: FitVerdict | None = None
    seconds: float | None = None

    @property
    def memory(self) -> str:
        """The memory in words."""
        return "–" if self.memory_bytes is None else f"≈ {bytes_text(self.memory_bytes)}"

    @property
    def fit(self) -> str:
        """Whether the card has it, in words."""
        return _FITS[self.verdict] if self.verdict else "–"

    @property
    def tone(self) -> str:
        """The colour of whether it fits."""
        return _TONES[self.verdict] if self.verdict else "muted"

    @property
    def time(self) -> str:
        """The time in words."""
        return "–" if self.seconds is None else f"≈ {duration_text(self.seconds)}"


def setting_choices() -> dict[str, str]:
    """Return the settings that can be varied, by their paths, those that are varied most first."""
    infos = {info.path: info for info in sweepable_settings()}
    often = Counter(info.title for info in infos.values())
    ordered = [infos[path] for path in _FIRST] + [info for path, info in infos.items() if path not in _FIRST]
    return {info.path: info.title if often[info.title] == 1 else f"{info.title} ({info.path})" for info in ordered}


def suggested(info: SettingInfo, value: Any) -> str:
    """Return values to begin with: around the run's own, or all that there are."""
    if info.kind is bool:
        return say("no, yes")
    if info.choices:
        return ", ".join(info.choices)
    if not isinstance(value, int | float):
        return str(value)
    if info.name == "seed":
        return ", ".join(str(value + number) for number in range(3))
    around = [value / 2, value, value * 2] if value else list(_SMALL if info.kind is float else (0, 1, 2))
    kept = [item for item in around if _is_within(info, item)]
    whole = [round(item) for item in kept] if info.kind is int else kept
    return ", ".join(number_text(float(item)) for item in dict.fromkeys(whole))


def hint(info: SettingInfo) -> str:
    """Return what a setting is and what can be written."""
    low, high = (None if bound is None else number_text(float(bound)) for bound in (info.minimum, info.maximum))
    if low is None or high is None:
        return info.help
    return f"{info.help} " + say("From {low} to {high}.", low=low, high=high)


def summary(forecasts: Sequence[Forecast]) -> str:
    """Return how many runs there will be, and what they take together."""
    times = [item.seconds for item in forecasts]
    total = sum(seconds for seconds in times if seconds is not None)
    words = [say_count(len(forecasts), "{count:,} run", "{count:,} runs")]
    if total and None not in times:
        words.append(say("≈ {total} of training in all, by how long this run took", total=duration_text(total)))
    largest = max((item.memory_bytes or 0 for item in forecasts), default=0)
    words += [say("at most ≈ {largest} of the card at once", largest=bytes_text(largest))] if largest else []
    return " · ".join(words)


def remark(config: RunConfig, variations: Sequence[Variation]) -> str:
    """Return what is easily overlooked of what is varied."""
    varied = {item.path for item in variations}
    if "lora.rank" in varied and "lora.alpha" not in varied and not config.lora.start_from:
        alpha = config.lora.alpha
        return say(
            "LoRA alpha stays {alpha}: the adapters are scaled by alpha / rank, so the rank changes that, too.",
            alpha=alpha,
        )
    if config.lora.start_from and varied & {"lora.rank", "lora.alpha", "lora.target_modules"}:
        return say(
            "The run goes on from an adapter, whose own rank, alpha and targets count: these values change nothing."
        )
    return ""


def _is_within(info: SettingInfo, value: float) -> bool:
    low, high = info.minimum, info.maximum
    return (low is None or value >= low) and (high is None or value <= high)
