"""What a run's settings are at its place: files named by where they are sent, cards as the job gets them, no merge."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.run.run_config import ALL_CARDS, AUTO_CARD, CPU, RunConfig, Section
from qlora_studio.core.words import say


@dataclass(frozen=True)
class SentConfig:
    """The settings as they are sent, and in sentences what is other than here."""

    config: RunConfig
    changes: tuple[str, ...]


def sent_config(config: RunConfig, place: Place, moved: Mapping[str, str], *, model: str = "") -> SentConfig:
    """Return the settings for a place. `moved` says where each file or folder that is sent will lie there.

    `model` is the base model's path there, where it is not called there as it is here.
    """
    changes: dict[str, str] = {name: moved[path] for name, path in paths_of(config) if path in moved}
    words = [say("{path} is read there from {there}.", path=path, there=there) for path, there in moved.items()]
    if model and model != config.model.source:
        changes["model.source"] = model
        words.append(say("The base model is {model} there.", model=model))
    cards = _cards(config.hardware.gpus, place)
    if cards != config.hardware.gpus:
        changes["hardware.gpus"] = cards
        words.append(say("It computes on the cards that the job is given there, not on those chosen here."))
    sent = _with(config, changes, moved)
    if config.export.merge:
        sent = sent.with_value("export.merge", False)
        words.append(say("Nothing is merged there: export here, once the adapter is here."))
    return SentConfig(sent, tuple(words))


def paths_of(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield the settings that name data or an adapter, which may be files of this computer, with what they say."""
    yield "data.path", config.data.path
    yield "data.evaluation_path", config.data.evaluation_path
    yield "lora.start_from", config.lora.start_from
    for item in config.data.more:
        yield "data.more", item.path


def _cards(wish: str, place: Place) -> str:
    """Return the cards in words that mean those of the job: it sees no others, whatever they are called here."""
    if wish == CPU or not place.card_count:
        return CPU if wish == CPU else AUTO_CARD
    return ALL_CARDS if place.card_count > 1 else AUTO_CARD


def _with(config: RunConfig, changes: Mapping[str, str], moved: Mapping[str, str]) -> RunConfig:
    more = [item.model_copy(update={"path": moved.get(item.path, item.path)}) for item in config.data.more]
    config = config.model_copy(update={"data": config.data.model_copy(update={"more": more})})
    for path, value in changes.items():
        if path != "data.more":
            section, _, name = path.partition(".")
            changed: Section = getattr(config, section).model_copy(update={name: value})
            config = config.model_copy(update={section: changed})
    return config
