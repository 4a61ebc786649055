"""What the setup will do, in sentences: shown before it begins, in the window and on the terminal."""

from qlora_studio.bootstrap.journey import Wish, is_update, needed
from qlora_studio.bootstrap.places import Places
from qlora_studio.bootstrap.source import size_of, version_of
from qlora_studio.core.torch_builds import PROCESSOR
from qlora_studio.core.words import say
from qlora_studio.storage.qt_libraries import missing_libraries, packages_advice

_GB = 1_000_000_000


def summary(places: Places, wish: Wish) -> list[str]:
    """Return the sentences."""
    return [line for line in (_what(places, wish), _how_much(places, wish), _card(wish), _libraries()) if line]


def _what(places: Places, wish: Wish) -> str:
    version, current = version_of(wish.source.edition), places.current()
    if current is None:
        return say(
            "QLoRA Studio {version} needs PyTorch and other libraries. They are set up once, for your user alone.",
            version=version,
        )
    if (old := version_of(current.folder.name)) != version:
        return say(
            "QLoRA Studio {version} was installed. Its libraries are renewed; {old} stays until that is done.",
            version=version,
            old=old,
        )
    return say(
        "The libraries of QLoRA Studio {version} are set up anew; those in use stay until that is done.",
        version=version,
    )


def _how_much(places: Places, wish: Wish) -> str:
    need, size = needed(places, wish) / _GB, size_of(wish.torch.build)
    if wish.wheels:
        return say(
            "They come from {wheels} and need {need:.0f} GB in {folder}.",
            wheels=wish.wheels,
            need=need,
            folder=places.root,
        )
    if is_update(places, wish):
        return say("Only what is new in it is downloaded; up to {need:.0f} GB are needed.", need=need)
    return say(
        "About {download:.1f} GB are downloaded; {need:.0f} GB are needed in {folder}.",
        download=size.downloaded / _GB,
        need=need,
        folder=places.root,
    )


def _card(wish: Wish) -> str:
    if wish.wheels:
        return ""
    if wish.torch.problem:
        return f"{wish.torch.problem} {wish.torch.advice}".strip()
    if wish.torch.build == PROCESSOR:
        return say("No NVIDIA card was found: PyTorch is set up for the processor, which suits small models.")
    return say("PyTorch is set up for your NVIDIA card ({build}).", build=wish.torch.build)


def _libraries() -> str:
    """Return what the window will miss of the system: no reason to wait, since the command line does without most."""
    missing = missing_libraries()
    if not missing:
        return ""
    return (
        say("The window needs more of the system: {names}.", names=", ".join(missing)) + " " + packages_advice(missing)
    )
