"""The doctor's questions, each answered by asking the thing itself: the driver, a fresh interpreter, the disk."""

import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from qlora_studio import __version__, child_process
from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.gpu_catalogue import is_built_for
from qlora_studio.core.quantity import GIB, bytes_text
from qlora_studio.core.torch_builds import OLDEST_CAPABILITY, PROCESSOR, Machine, choose_build, system_of
from qlora_studio.core.words import say
from qlora_studio.jobs.gpu_monitor import GpuSample, sample_gpu
from qlora_studio.jobs.process_memory import sample_memory
from qlora_studio.storage.installation import Way, install_command, pinned, repair_advice, way_of_installation
from qlora_studio.storage.installed_packages import PROGRAM, Harm, harmed_packages
from qlora_studio.storage.models.location import starter_path, starter_words
from qlora_studio.storage.qt_libraries import missing_libraries, packages_advice
from qlora_studio.storage.resources import resource
from qlora_studio.storage.settings import cache_path, data_path, load_settings, settings_path

_LEAST_FREE_DISK = 20 * GIB
_LEAST_FOR_A_RUN = GIB
_LEAST_MEMORY = 8 * GIB
_PROBE_SECONDS = 180.0
_TOLD = 5
_PROBE_BYTES = 8192
_OTHER_QT = "PySide6-Essentials!=6.12.0"
_ANEW = ("--force-reinstall", "--no-deps")  # what else it takes stays as it is pinned, or is a finding of its own
_BITSANDBYTES = (*_ANEW, pinned("bitsandbytes"))

_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt): .*$", re.MULTILINE)

# Runs in a fresh interpreter: this process must stay light, and a library that crashes must not take it along.
_TORCH_PROBE = """
import json, torch
cuda = torch.cuda.is_available()
facts = {"version": torch.__version__, "cuda_build": torch.version.cuda, "hip": torch.version.hip, "available": cuda}
if cuda:
    facts["capability"] = torch.cuda.get_device_capability()
    facts["built_for"] = torch.cuda.get_arch_list()
print(json.dumps(facts))
"""
_BITSANDBYTES_PROBE = """
import json, torch, bitsandbytes
device = "cuda" if torch.cuda.is_available() else "cpu"
weights = torch.randn(64, 64, device=device)
packed, state = bitsandbytes.functional.quantize_4bit(weights, quant_type="nf4")
error = (bitsandbytes.functional.dequantize_4bit(packed, state) - weights).abs().mean().item()
print(json.dumps({"version": bitsandbytes.__version__, "device": device, "error": error}))
"""


@dataclass(frozen=True)
class Finding:
    """One answer. An error keeps training from working; a warning is good to know."""

    name: str
    level: Literal["ok", "warning", "error"]
    message: str
    advice: str = ""
    mend: tuple[str, ...] = ()  # what pip is told to install where that mends it


def diagnose() -> Iterator[Finding]:
    """Yield the findings, one by one as they are made: PyTorch's take some seconds."""
    sample = sample_gpu()
    yield program_finding()
    yield python_finding()
    yield window_finding(missing_libraries())
    yield driver_finding(sample)
    if sample.available:
        yield card_finding(sample)
    if len(sample.cards) > 1:
        yield cards_finding(sample)
    harms = {harm.package: harm for harm in harmed_packages()}
    of_torch, of_bitsandbytes = _taken("torch", harms), _taken("bitsandbytes", harms)
    yield libraries_finding(list(harms.values()))  # before those that stand on them
    yield torch_finding(of_torch or _ask(_TORCH_PROBE), machine_of(sample))
    yield bitsandbytes_finding(of_bitsandbytes or _ask(_BITSANDBYTES_PROBE))
    yield memory_finding()
    yield home_finding(settings_path().parent, data_path(), cache_path())
    yield disk_finding(load_settings().runs_path)
    yield starter_finding()


def program_finding() -> Finding:
    """Answer: which version is this, and how was it installed?"""
    way = way_of_installation()
    place = str(resource("").parent if way is Way.CHECKOUT else Path(sys.prefix))
    message = say("{version}, installed by {way} in {place}", version=__version__, way=way.title, place=place)
    return Finding("Program", "ok", message)


def window_finding(missing: Sequence[str]) -> Finding:
    """Answer: are the system's libraries there that a window takes?"""
    if not missing:
        return Finding("Window", "ok", say("The system's libraries that it takes are here."))
    names = ", ".join(missing)
    message = say("Without libraries of the system there is no window: {names}.", names=names)
    return Finding("Window", "warning", message, packages_advice(missing))


def python_finding() -> Finding:
    """Answer: which Python is this, and does this Qt go with it?"""
    python = ".".join(str(part) for part in sys.version_info[:3])
    try:
        qt = version("PySide6-Essentials")
    except PackageNotFoundError:
        return Finding("Python", "warning", f"{python}, without Qt: there is no window.", repair_advice())
    if qt == "6.12.0" and sys.version_info[:2] < (3, 12):
        return Finding(
            "Python",
            "error",
            f"{python} with PySide6 {qt}, which makes the window crash.",
            "Install another version: " + install_command(_OTHER_QT),
            (_OTHER_QT,),
        )
    return Finding("Python", "ok", f"{python}, PySide6 {qt}")


def driver_finding(sample: GpuSample) -> Finding:
    """Answer: is there an NVIDIA driver?"""
    if sample.available:
        return Finding("Driver", "ok", f"NVIDIA {sample.driver or 'of unknown version'}")
    if any(card.total_bytes is None for card in sample.cards):  # it is there, and tells nothing of itself
        return Finding("Driver", "error", sample.reason, "Restart the computer, and check heat and power of the card.")
    return Finding(
        "Driver",
        "warning",
        f"{sample.reason} Training runs on the processor: fit for small models only.",
        "For larger models use a computer with an NVIDIA card of 8 GB or more and its newest driver.",
    )


def card_finding(sample: GpuSample) -> Finding:
    """Answer: which card, how much of it is free, and is it new enough?"""
    memory = f"{bytes_text(sample.free_bytes or 0)} of {bytes_text(sample.total_bytes or 0)} free"
    capability = sample.compute_capability
    if capability is not None and capability < OLDEST_CAPABILITY:
        return Finding(
            "Card", "error", f"{sample.name}, {memory}, is too old.", "A card of the RTX 20 series or newer is needed."
        )
    if capability is not None and capability < (8, 0):
        return Finding("Card", "ok", f"{sample.name}, {memory}. It has no bf16: fp16 is used.")
    return Finding("Card", "ok", f"{sample.name}, {memory}")


def cards_finding(sample: GpuSample) -> Finding:
    """Answer: which of several cards is trained on?"""
    names = "; ".join(f"GPU {card.index}: {card.name} ({card.uuid})" for card in sample.cards)
    taken = f"Auto takes GPU {sample.index} now." if sample.available else sample.reason
    return Finding("Cards", "ok", f"{names}. {taken} Another one: hardware.gpus, or the panel of the window.")


def machine_of(sample: GpuSample) -> Machine:
    """Return what the driver tells of the card that runs would take."""
    cards = (sample.compute_capability or OLDEST_CAPABILITY,) if sample.available else ()
    return Machine(system_of(sys.platform, platform.release()), sample.driver or "", cards)


def torch_finding(facts: dict[str, Any], machine: Machine) -> Finding:
    """Answer: is PyTorch there, and is it the build for this card and its driver?"""
    choice = choose_build(machine)
    again = _ANEW if "failure" in facts else ()
    mend = (
        *again,
        f"{pinned('torch')}+{choice.build}",
        "--index-url",
        choice.index,
    )  # named, for pip keeps another else
    advice = say("Install the build that goes with it: {command}", command=install_command(*mend))
    if "failure" in facts:
        return Finding("PyTorch", "error", say("It does not work: {why}", why=facts["failure"]), advice, mend)
    build, cuda = facts["version"], facts["cuda_build"]
    if choice.problem and machine.cards and machine.cards[0] >= OLDEST_CAPABILITY:  # an older card has its own finding
        return Finding("PyTorch", "error", f"{build}. {choice.problem}", choice.advice)
    if cuda is None and choice.build != PROCESSOR:
        message = say("{build}: CPU-only PyTorch is installed, so the card is not used.", build=build)
        return Finding("PyTorch", "error", message, advice, mend)
    if cuda is None:
        return Finding("PyTorch", "ok", say("{build}, for the processor alone", build=build))
    if choice.build != PROCESSOR and not facts["available"]:
        message = say("{build}, for CUDA {cuda}, does not find the card.", build=build, cuda=cuda)
        return Finding("PyTorch", "error", message, advice, mend)
    if choice.build != PROCESSOR and not is_built_for(facts["capability"], facts["built_for"]):
        return Finding("PyTorch", "error", say("{build} was not built for this card.", build=build), advice, mend)
    return Finding("PyTorch", "ok", f"{build}, CUDA {cuda}")


def bitsandbytes_finding(facts: dict[str, Any]) -> Finding:
    """Answer: can weights be put into 4 bits, here and now?"""
    if "failure" in facts:
        return Finding(
            "bitsandbytes",
            "error",
            f"4-bit weights do not work: {facts['failure']}",
            say("Install it again: {command}", command=install_command(*_BITSANDBYTES)),
            _BITSANDBYTES,
        )
    return Finding("bitsandbytes", "ok", f"{facts['version']}, 4-bit tried on the {facts['device']}")


def libraries_finding(harms: Sequence[Harm]) -> Finding:
    """Answer: are the other libraries here, whole, and of versions that go together?"""
    if not harms:
        return Finding("Libraries", "ok", say("All are here, and whole."))
    what = "; ".join(harm.what for harm in harms[:_TOLD])
    message = say("Not as they should be: {what}.", what=what + ("; …" if len(harms) > _TOLD else ""))
    level: Literal["warning", "error"] = "error" if any(harm.is_grave for harm in harms) else "warning"
    if any(harm.package == PROGRAM for harm in harms):
        return Finding("Libraries", level, message, repair_advice())
    mend = (*_ANEW, *(harm.mend for harm in harms))
    advice = say("Install them again: qlora-studio doctor --fix · or: {command}", command=install_command(*mend))
    return Finding("Libraries", level, message, advice, mend)


def memory_finding() -> Finding:
    """Answer: is there enough memory?"""
    memory = sample_memory()
    text = f"{bytes_text(memory.machine_available_bytes)} of {bytes_text(memory.machine_total_bytes)} free"
    if memory.machine_available_bytes < _LEAST_MEMORY:
        return Finding("Memory", "warning", text, "Close other programs before you load a model of 7B or more.")
    return Finding("Memory", "ok", text)


def disk_finding(runs: Path) -> Finding:
    """Answer: can runs be written, and is there space for them?"""
    free = shutil.disk_usage(_nearest(runs)).free
    text = f"{bytes_text(free)} free for runs in {runs}"
    if why := _why_unwritable(runs):
        advice = say("Choose another folder in Settings.")
        return Finding("Disk", "error", say("Runs cannot be written to {runs}: {why}.", runs=runs, why=why), advice)
    if free < _LEAST_FOR_A_RUN:
        return Finding("Disk", "error", text, say("Free some space, or choose another folder in Settings."))
    if free < _LEAST_FREE_DISK:
        return Finding("Disk", "warning", text, "A merged 8B model alone takes 16 GB; free some space for such a run.")
    return Finding("Disk", "ok", text)


def home_finding(*folders: Path) -> Finding:
    """Answer: can the program keep settings, what it trusts, and what it makes once?"""
    for folder in folders:
        if why := _why_unwritable(folder):
            message = say("Nothing can be written to {folder}: {why}.", folder=folder, why=why)
            advice = say("Free space there or give it to your user; or name another folder in QLORA_STUDIO_HOME.")
            return Finding("Own files", "error", message, advice)
    return Finding("Own files", "ok", say("Settings and cache can be written."))


def starter_finding() -> Finding:
    """Answer: is the starter model there?"""
    try:
        return Finding("Starter model", "ok", starter_path().name)
    except StudioError as error:
        return Finding("Starter model", "warning", error.message, error.advice, starter_words())


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _why_unwritable(folder: Path) -> str:
    """Return why nothing can be written into a folder, or where it would be made; nothing where it can be."""
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _taken(package: str, harms: dict[str, Harm]) -> dict[str, Any]:
    """Take a package's harm out of all, as facts about that package; nothing where there is none."""
    return {"failure": harms.pop(package).what} if package in harms else {}


def _ask(program: str) -> dict[str, Any]:
    try:
        code, out, err = child_process.ask(child_process.python("-W", "ignore", "-c", program), _PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return {"failure": f"no answer within {_PROBE_SECONDS:.0f} seconds."}
    lines = out.strip().splitlines()
    if code == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    return {"failure": last_words(err) or f"exit code {code}"}


def last_words(err: str) -> str:
    """Return the first line of the exception that a program ended with: CUDA's go on for lines that say nothing."""
    named = _EXCEPTION.findall(err)
    return named[-1] if named else (err.strip().splitlines() or [""])[-1]
