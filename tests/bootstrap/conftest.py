"""A package index on this machine, with wheels as small as wheels can be, and the setup as a process of its own."""

import functools
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = ("PySide6", "torch", "transformers", "trl", "peft", "bitsandbytes", "datasets")
_PROGRAM = """\
import sys
from pathlib import Path
sys.path.insert(0, sys.argv.pop(1))
from qlora_studio.bootstrap.command import main
sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
"""


@dataclass
class Index:
    """A folder of wheels, served as an index. What was asked for is kept; what it `holds` waits to be let go."""

    folder: Path
    asked: list[str] = field(default_factory=list)
    holds: Callable[[str], bool] = lambda name: False
    reached: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    address: str = ""


@dataclass(frozen=True)
class Setup:
    """The setup of a package folder, for a user with a folder for the program and one index."""

    package: Path
    program: Path
    index: str

    def started(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start it, as the launcher does."""
        command = [sys.executable, "-I", "-c", _PROGRAM, str(ROOT), str(self.package), *words]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        kept |= {"QLORA_STUDIO_PROGRAM": str(self.program), "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": self.index}
        kept |= {"DISPLAY": "", "PIP_RETRIES": "0"} | environment
        return subprocess.Popen(
            command, env=kept, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run it to its end; return its exit code and what it said."""
        process = self.started(*words, **environment)
        said = process.communicate(timeout=120)[0]
        return process.returncode, said


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index with the libraries, each an empty module, served on the loopback interface."""
    served = Index(tmp_path / "index")
    for name in _LIBRARIES:
        small_wheel(served.folder, name, "1.0", {f"{name}/__init__.py": "", f"{name}/QtCore.py": ""})
    handler = functools.partial(_Handler, served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.address = f"http://127.0.0.1:{server.server_address[1]}/simple"
        yield served
        served.let_go.set()
        server.shutdown()


@pytest.fixture
def setup(tmp_path: Path, index: Index) -> Setup:
    """The setup of version 1.0 of a program that needs those libraries."""
    package = tmp_path / "package"
    package_of(package, "1.0")
    return Setup(package, tmp_path / "program", index.address)


def package_of(folder: Path, version: str) -> None:
    """Make a package folder of a program that says its version and how it was called."""
    for old in folder.glob("*.whl"):
        old.unlink()
    says = f"import sys\nmain = lambda: print('program {version}', *sys.argv[1:])\n__name__ == '__main__' and main()\n"
    files = {"qlora_studio/__init__.py": "", "qlora_studio/__main__.py": says}
    small_wheel(folder, "qlora_studio", version, files, _LIBRARIES, "qlora-studio = qlora_studio.__main__:main")
    (folder / "constraints.txt").write_text("".join(f"{name}==1.0\n" for name in _LIBRARIES), "utf-8")
    (folder / "edition").write_text(f"{version}-0a1b2c3d\n", "utf-8")


def small_wheel(
    folder: Path, name: str, version: str, files: dict[str, str], needs: tuple[str, ...] = (), script: str = ""
) -> None:
    """Write a wheel, which is a zip with a list of itself."""
    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {n}\n" for n in needs
    )
    files = files | {
        f"{about}/METADATA": metadata,
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{about}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    files[f"{about}/RECORD"] = "".join(f"{path},,{len(text)}\n" for path, text in files.items())
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, index: Index, *words: object) -> None:
        self._index = index
        super().__init__(*words)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer with a page of links, or with a file."""
        name = self.path.rstrip("/").split("/")[-1]
        if self.path.startswith("/simple/"):
            files = [path.name for path in self._index.folder.iterdir() if path.name.lower().startswith(f"{name}-")]
            self._answer(
                "text/html",
                "".join(
                    f'<a href="/files/{file}" data-dist-info-metadata="true" data-core-metadata="true">{file}</a>'
                    for file in files
                ).encode(),
            )
            return
        if name.endswith(".metadata"):
            with zipfile.ZipFile(self._index.folder / name.removesuffix(".metadata")) as wheel:
                path = next(path for path in wheel.namelist() if path.endswith("/METADATA"))
                self._answer("text/plain", wheel.read(path))
            return
        self._index.asked.append(name)
        if self._index.holds(name):
            self._index.reached.set()
            self._index.let_go.wait(60)
        self._answer("application/zip", (self._index.folder / name).read_bytes())

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def _answer(self, kind: str, content: bytes) -> None:
        try:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            pass  # who asked was killed
