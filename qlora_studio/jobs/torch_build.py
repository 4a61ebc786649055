"""Whether the installed PyTorch can compute on a card, told without importing it: a window has no seconds for that."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from qlora_studio.core.torch_builds import OLDEST_CAPABILITY, build_of_cuda
from qlora_studio.core.words import say

_CUDA = re.compile(r"^cuda\b[^=]*=\s*(?:None|['\"](?P<version>\d+[\d.]*)['\"])", re.MULTILINE)


def why_unusable(capability: tuple[int, int] | None, driver_cuda: int | None) -> str:
    """Return why runs cannot compute on a card and what to do, or nothing. `driver_cuda` is 13000 for CUDA 13.0.

    What is not known is no reason. Within a major version an older driver serves newer libraries.
    """
    if capability is not None and capability < OLDEST_CAPABILITY:
        return say("Runs cannot use it: it is too old. A card of the RTX 20 series or newer is needed.")
    build = _cuda_of_torch()
    if build is None:
        return ""
    if not build:
        return say(
            "Runs cannot use it: the installed PyTorch is built for the processor alone. Install its CUDA build."
        )
    if driver_cuda and driver_cuda // 1000 < int(build.partition(".")[0]):
        return say(
            "Runs cannot use it: its driver knows CUDA {driver_cuda}, and PyTorch needs {build}. "
            "Install NVIDIA's newest driver.",
            driver_cuda=driver_cuda // 1000,
            build=build,
        )
    known = build_of_cuda(build)
    if known is not None and capability is not None and not known.carries(capability):
        return say(
            "Runs cannot use it: the installed PyTorch, for CUDA {build}, has no kernels for it. "
            "See what qlora-studio doctor says.",
            build=build,
        )
    return ""


@cache
def _cuda_of_torch() -> str | None:
    """Return the CUDA version that PyTorch was built with, empty for the processor's build; None where not known."""
    spec = find_spec("torch")
    try:
        text = (Path(str(spec.origin)).parent / "version.py").read_text("utf-8") if spec else ""
    except OSError:
        return None
    found = _CUDA.search(text)
    return None if found is None else found["version"] or ""
