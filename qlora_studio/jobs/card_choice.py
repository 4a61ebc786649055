"""Which card a worker computes on, chosen before it starts: libraries look for cards as soon as they are imported.

The worker sees that one card alone, by its UUID: numbers mean one order to the driver and another to CUDA. Where
several train a run, it is told of all, and each other rank that it starts sees one of them.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence

from qlora_studio.core.config.run_config import ALL_CARDS, AUTO_CARD, CPU, means_several
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.quantity import GIB
from qlora_studio.core.run import ranks
from qlora_studio.core.run.job import (
    ChatJob,
    DataJob,
    DownloadJob,
    EstimateJob,
    ExportJob,
    MachineJob,
    TrainJob,
    UploadJob,
    VerifyJob,
)
from qlora_studio.core.words import say
from qlora_studio.jobs.gpu_sample import GpuCard
from qlora_studio.storage.runs.run_folder import RunFolder

VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"
_PART = "MIG-"  # of a card; the driver does not list it among them
_BY_BUS = "PCI_BUS_ID"  # as the driver numbers them; CUDA's own order begins with the fastest


def worker_environment(folder: RunFolder, cards: Callable[[], Sequence[GpuCard]], gpus: str = "") -> dict[str, str]:
    """Return what the environment of a folder's worker says of cards; `gpus` passes over what its run wishes.

    Raises StudioError where the card that a run is to be trained on is not here. What only looks at a run, or exports
    it, takes any.
    """
    try:
        job = folder.job()
        wish = gpus or _wish(folder, job.run_dir if isinstance(job, ChatJob | ExportJob | VerifyJob) else "")
    except (StudioError, ValueError, OSError):
        return {}  # a broken run.toml or job.json is the worker's to tell
    if isinstance(job, DataJob | DownloadJob | UploadJob | EstimateJob):
        return {}  # they compute on no card
    here = cards()
    if isinstance(job, MachineJob):
        return card_environment(job.config.hardware.gpus, here, os.environ)
    if isinstance(job, TrainJob):
        return card_environment(wish, here, os.environ)
    try:
        several = chosen_cards(wish, here, os.environ)
        wish = max(several, key=_free_gib).uuid if len(several) > 1 else wish
        return card_environment(wish, here, os.environ)
    except StudioError:
        return card_environment(AUTO_CARD, here, os.environ)


def card_environment(wish: str, cards: Sequence[GpuCard], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that let CUDA see what was wished for alone. Raises StudioError where it is not here."""
    if wish == CPU:
        return {VISIBLE: ""}
    if wish.startswith(_PART):
        return {VISIBLE: wish}
    several = chosen_cards(wish, cards, environment)
    if len(several) > 1:
        return {_ORDER: _BY_BUS, VISIBLE: several[0].uuid, ranks.VARIABLE: ",".join(card.uuid for card in several)}
    card = several[0] if several else None
    if card is not None and card.uuid:
        return {_ORDER: _BY_BUS, VISIBLE: card.uuid}
    first, more, _ = environment.get(VISIBLE, "").partition(",")
    return {VISIBLE: first} if more else {}  # in CUDA's own order, and one of them alone


def chosen_cards(wish: str, cards: Sequence[GpuCard], environment: Mapping[str, str]) -> tuple[GpuCard, ...]:
    """Return every card that a wish means now; none where CUDA is to see what it was told to.

    Raises StudioError for a card that is wished for and not there.
    """
    if wish == ALL_CARDS:
        return visible_cards(cards, environment)
    found = [chosen_card(name, cards, environment) for name in wish.split(",")]
    return tuple(dict.fromkeys(card for card in found if card is not None))


def count_together(wish: str, cards: Sequence[GpuCard], environment: Mapping[str, str]) -> int:
    """Return how many cards train a run of this wish together, as far as that is known here."""
    if not means_several(wish):
        return 1
    try:
        return max(1, len(chosen_cards(wish, cards, environment)))
    except StudioError:  # one of them is not here
        return wish.count(",") + 1


def chosen_card(
    wish: str, cards: Sequence[GpuCard], environment: Mapping[str, str], taken: Collection[str] = ()
) -> GpuCard | None:
    """Return the card that a wish means now; None where there is none, or CUDA is to see what it was told to.

    Auto is the card with the most free memory, before those that are `taken`, by UUID, among what CUDA_VISIBLE_DEVICES
    leaves. Of several that train a run it is the one with the least, which decides whether that fits. Raises
    StudioError for a card that is wished for and not there.
    """
    if means_several(wish):
        return min(chosen_cards(wish, cards, environment), key=_free_gib, default=None)
    allowed = visible_cards(cards, environment)
    if wish == AUTO_CARD:
        return max(allowed, key=lambda card: (card.uuid not in taken, _free_gib(card), -card.index), default=None)
    if wish == CPU or wish.startswith(_PART):
        return None
    found = next((card for card in cards if _is(card, wish)), None)
    if found is None or found not in allowed:
        raise _not_here(wish, found, cards)
    return found


def visible_cards(cards: Sequence[GpuCard], environment: Mapping[str, str]) -> tuple[GpuCard, ...]:
    """Return the cards that CUDA_VISIBLE_DEVICES leaves; none where it names what only CUDA itself can find.

    Like CUDA, it takes abbreviated UUIDs, and stops at the first name that is none. A number alone, in CUDA's own
    order, is left to CUDA.
    """
    told = environment.get(VISIBLE)
    if told is None:
        return tuple(cards)
    by_number = environment.get(_ORDER) == _BY_BUS or len(cards) == 1
    found: list[GpuCard] = []
    for name in filter(None, (part.strip() for part in told.split(","))):
        card = next((card for card in cards if _is(card, name) and (by_number or not name.isdecimal())), None)
        if card is None:
            break
        found.append(card)
    return tuple(found)


def _wish(folder: RunFolder, run_dir: str) -> str:
    run = RunFolder(run_dir) if run_dir else folder
    return run.config().hardware.gpus if run.config_path.is_file() else AUTO_CARD


def _is(card: GpuCard, name: str) -> bool:
    return str(card.index) == name if name.isdecimal() else bool(card.uuid) and card.uuid.startswith(name)


def _free_gib(card: GpuCard) -> int:
    """Whole GiB: a card that a desktop flickers on is not another one each second."""
    return (card.free_bytes if card.free_bytes is not None else card.total_bytes or 0) // GIB


def _not_here(wish: str, found: GpuCard | None, cards: Sequence[GpuCard]) -> StudioError:
    name = f"the card {wish}" if not wish.isdecimal() else f"card number {wish}"
    if found is not None:
        why = f"{VISIBLE} in the environment hides it."
    elif cards:
        why = "It is not in this computer, which has " + "; ".join(f"{c.index}: {c.name} ({c.uuid})" for c in cards)
    else:
        why = "No NVIDIA card answers in this computer."
    return StudioError(
        say("This run is to be trained on {name}. {why}.", name=name, why=why.removesuffix(".")),
        kind=FailureKind.NO_CARD,
        advice=say("Choose another card, or auto: --set hardware.gpus=auto"),
    )
