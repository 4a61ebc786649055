"""What a session runs on: versions, driver, cards, and the commit of a checkout. Nothing is imported for it, and
nothing in it names a computer or a person."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import qlora_studio
from qlora_studio.core.run.events import EnvironmentTold

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "triton",
    "numpy",
    "pyarrow",
    "pydantic",
)


def environment() -> EnvironmentTold:
    """Return what this process runs on."""
    driver, cards = driver_and_cards()
    return EnvironmentTold(
        studio=qlora_studio.__version__,
        commit=checkout_commit(Path(qlora_studio.__file__).parents[1]),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages=package_versions(_PACKAGES),
        driver=driver,
        cards=cards,
    )


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def checkout_commit(root: Path) -> str:
    """Return the commit that a checkout of git stands at; nothing where `root` is none."""
    try:
        folder = root / ".git"
        if folder.is_file():  # a worktree's, which says where its folder is
            folder = root / folder.read_text("utf-8").removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head
        shared = folder / "commondir"
        common = folder / shared.read_text("utf-8").strip() if shared.is_file() else folder
        return _commit_of(common, head.removeprefix("ref: "))
    except OSError:
        return ""


def _commit_of(folder: Path, name: str) -> str:
    loose, packed = folder / name, folder / "packed-refs"
    if loose.is_file():
        return loose.read_text("utf-8").strip()
    lines = (line.split() for line in packed.read_text("utf-8").splitlines())
    return next((words[0] for words in lines if words[1:] == [name]), "")


def driver_and_cards() -> tuple[str, list[str]]:
    """Return the NVIDIA driver's version and the names of the cards, as far as the driver tells. Loads no CUDA."""
    import pynvml  # not above: every worker starts with this module, and only a run asks

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return "", []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return str(pynvml.nvmlSystemGetDriverVersion()), [str(pynvml.nvmlDeviceGetName(card)) for card in handles]
    except pynvml.NVMLError:
        return "", []
    finally:
        pynvml.nvmlShutdown()
