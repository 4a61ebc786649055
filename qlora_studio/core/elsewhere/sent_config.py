"""What a run's settings are at its place: files named by where they are sent, cards as the job gets them, no merge."""

from collections.abc import Mapping
from dataclasses import dataclass

from qlora_studio.core.config.run_config import ALL_CARDS, AUTO_CARD, CPU, RunConfig
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.run.named_places import MODEL, renamed
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
    words = []
    if model and model != config.model.source:
        words.append(say("The base model is {model} there.", model=model))
    sent = renamed(config, lambda setting, name: (model or name) if setting == MODEL else moved.get(name, name))
    cards = _cards(config.hardware.gpus, place)
    if cards != config.hardware.gpus:
        sent = sent.with_value("hardware.gpus", cards)
        words.append(say("It computes on the cards that the job is given there, not on those chosen here."))
    if config.export.merge:
        sent = sent.with_value("export.merge", False)
        words.append(say("Nothing is merged there: export here, once the adapter is here."))
    return SentConfig(sent, tuple(words))


def ranks_there(config: RunConfig, place: Place) -> int:
    """Return how many processes train a run together at a place: one a card, or a node."""
    of_node = place.card_count if _cards(config.hardware.gpus, place) == ALL_CARDS else 1
    return of_node * place.nodes


def _cards(wish: str, place: Place) -> str:
    """Return the cards in words that mean those of the job: it sees no others, whatever they are called here."""
    if wish == CPU or not place.card_count:
        return CPU if wish == CPU else AUTO_CARD
    return ALL_CARDS if place.card_count > 1 else AUTO_CARD
