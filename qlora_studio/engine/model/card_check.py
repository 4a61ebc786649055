"""Whether the libraries can use the card that the driver has: a run never goes to the processor without a word."""

import os

import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.memory.gpu_catalogue import is_built_for
from qlora_studio.core.words import say
from qlora_studio.engine.model.environment import driver_and_cards
from qlora_studio.storage.installation import install_command

_PYTORCH = "https://pytorch.org/get-started/locally/"
_PROCESSOR = say("Or train on the processor: --set hardware.gpus=cpu")


def require_usable_card(config: RunConfig) -> None:
    """Raise StudioError where there is a card that nobody declined, and PyTorch or bitsandbytes cannot use it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1"):  # as hardware.gpus = "cpu" sets it, too
        return
    if not torch.cuda.is_available():
        driver, names = driver_and_cards()
        if names:
            raise _unusable(" and ".join(names), *_why_not(driver))
    elif not is_built_for(torch.cuda.get_device_capability(), torch.cuda.get_arch_list()):
        major, minor = torch.cuda.get_device_capability()
        raise _unusable(
            torch.cuda.get_device_name(),
            say(
                "PyTorch {version} has no kernels for its compute capability, {major}.{minor}",
                version=torch.__version__,
                major=major,
                minor=minor,
            ),
            say(
                "A card of the RTX 20 series or newer is needed; for a newer card than this PyTorch, "
                "install its newest build: {pytorch}",
                pytorch=_PYTORCH,
            ),
        )
    elif config.quantization.method != "none" and not _bitsandbytes_has_cuda():
        raise _unusable(
            torch.cuda.get_device_name(0),
            say("bitsandbytes has no CUDA library for it, so that no weights can be put into 4 bits there"),
            say(
                "Install bitsandbytes again: {command}",
                command=install_command("--force-reinstall", "--no-deps", "bitsandbytes"),
            ),
        )


def _why_not(driver: str) -> tuple[str, str, str]:
    """Return why PyTorch does not see a card that the driver has, what to do, and PyTorch's own words."""
    if torch.version.cuda is None:
        build = f"the installed PyTorch ({torch.__version__}) is built for the processor alone"
        return build, f"Install the CUDA build: {_PYTORCH}", ""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        words = str(error)
    else:
        words = ""
    if "driver" in words and "old" in words:
        why = f"the driver {driver} is too old for PyTorch {torch.__version__}"
        return why, "Install NVIDIA's newest driver and restart the computer.", words
    return f"PyTorch {torch.__version__} finds no card", "See what qlora-studio doctor says.", words


def _bitsandbytes_has_cuda() -> bool:
    from bitsandbytes.cextension import lib

    return bool(getattr(lib, "compiled_with_cuda", False))


def _unusable(card: str, why: str, advice: str, detail: str = "") -> StudioError:
    return StudioError(
        say("There is a card here ({card}) that cannot be used: {why}.", card=card, why=why),
        kind=FailureKind.CARD_UNUSABLE,
        advice=f"{advice} {_PROCESSOR}",
        detail=detail,
    )
