"""Removing the program's environment for one user; what the user made with it stays."""

from qlora_studio.bootstrap.failure import SetupError
from qlora_studio.bootstrap.places import Places, at_work_in, removed
from qlora_studio.core.words import say


def remove(places: Places) -> str:
    """Remove all that the setup made, unless something runs in it; return what was done, in a sentence."""
    if not places.root.is_dir():
        return say("There is nothing to remove in {folder}.", folder=places.root)
    with places.locked():
        if process := at_work_in(places.root):
            raise SetupError(
                say("QLoRA Studio is at work (process {number}).", number=process),
                say("Close its window, let runs end or pause them, and remove it then."),
            )
    if not removed(places.root):
        raise SetupError(
            say("{folder} cannot be removed.", folder=places.root), say("Close QLoRA Studio, and remove it again.")
        )
    return say("Removed {folder}. Runs, models and settings stay where they are.", folder=places.root)
