"""Installs what `make dist` built outside the checkout, in clean places: starts, repairs, removes, says what was left.

python packaging/dist_check.py                   wheel and source, with the libraries of this environment
python packaging/dist_check.py --ways uv pipx    whole installations, by one command each; minutes, and gigabytes
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_CONSTRAINTS = _ROOT / "packaging" / "constraints.txt"
_KEPT = ("HF_", "PIP_", "UV_", "SSL_", "LANG", "LC_", "http", "HTTP", "no_proxy", "NO_PROXY", "SYSTEMROOT", "OMP_")


def main() -> int:
    """Check each way that was named; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dist", type=Path, default=_ROOT / "dist")
    parser.add_argument("--ways", nargs="+", choices=tuple(_WAYS), default=["wheel", "source"])
    arguments = parser.parse_args()
    failed = [way for way in arguments.ways if not _is_right(way, arguments.dist.resolve())]
    print(f"{len(arguments.ways) - len(failed)} passed, {len(failed)} failed")
    return len(failed)


def _is_right(way: str, dist: Path) -> bool:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="qlora-studio-dist-") as folder:
        try:
            _WAYS[way](dist, Path(folder))
        except (AssertionError, subprocess.CalledProcessError) as error:
            print(f"{way}: FAILED: {error}\n{getattr(error, 'stderr', '') or ''}")
            return False
    print(f"{way}: right, in {time.monotonic() - begun:.0f} s")
    return True


def check_wheel(dist: Path, root: Path) -> None:
    """The wheel alone in an environment of its own, which sees the libraries of this one."""
    _run(root, sys.executable, "-m", "venv", root / "venv")
    python = root / "venv" / "bin" / "python"
    site = next((root / "venv").rglob("site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _run(root, python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", _wheel(dist))
    program = root / "venv" / "bin" / "qlora-studio"
    _start(root, program, root / "venv")
    _run(root, python, "-m", "pip", "uninstall", "--yes", "--quiet", "qlora-studio")
    left = [str(path.relative_to(site)) for path in site.rglob("*qlora_studio*")]
    assert left == [] and not program.exists(), f"Left in the environment: {left}"
    _say_what_is_left(root, root / "venv")


def check_source(dist: Path, root: Path) -> None:
    """The source holds what the README links, and the wheel that is built from it is the same to the byte."""
    with tarfile.open(next(dist.glob("qlora_studio-*.tar.gz"))) as archive:
        archive.extractall(root, filter="data")
        newest = max(member.mtime for member in archive.getmembers())
    (unpacked,) = root.glob("qlora_studio-*")
    wanted = ("Makefile", "docs/COMMANDS.md", "THIRD_PARTY.md", ".ci/run", "packaging/constraints.txt", "resources")
    missing = [name for name in wanted if not (unpacked / name).exists()]
    assert missing == [], f"Not in the source: {missing}"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(int(newest))}
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(root / "built")]
    subprocess.run(command, cwd=unpacked, env=environment, check=True, capture_output=True, text=True)
    assert _wheel(root / "built").read_bytes() == _wheel(dist).read_bytes(), "The source builds another wheel."


def check_uv(dist: Path, root: Path) -> None:
    """One command with uv: installed, broken, repaired, removed."""
    uv, places = _tool("uv"), {"UV_TOOL_DIR": str(root / "tools"), "UV_TOOL_BIN_DIR": str(root / "bin")}
    _run(root, uv, "tool", "install", "-c", _CONSTRAINTS, _wheel(dist), more=places)
    _whole_journey(root, root / "tools" / "qlora-studio")
    _run(root, uv, "tool", "uninstall", "qlora-studio", more=places)
    _say_what_is_left(root, root / "tools")


def check_pipx(dist: Path, root: Path) -> None:
    """One command with pipx: the same."""
    pipx, places = _tool("pipx"), {"PIPX_HOME": str(root / "pipx"), "PIPX_BIN_DIR": str(root / "bin")}
    words = ("install", "--python", sys.executable, "--pip-args", f"--constraint {_CONSTRAINTS}")
    _run(root, pipx, *words, _wheel(dist), more=places)
    _whole_journey(root, root / "pipx" / "venvs" / "qlora-studio")
    _run(root, pipx, "uninstall", "qlora-studio", more=places)
    _say_what_is_left(root, root / "pipx")


def _whole_journey(root: Path, environment: Path) -> None:
    program = root / "bin" / "qlora-studio"
    _start(root, program, environment)
    shutil.rmtree(next(environment.rglob("site-packages/bitsandbytes")))
    assert _run(root, program, "doctor", may_fail=True)[0] == 34, "The doctor sees no harm where a library is gone."
    _run(root, program, "doctor", "--fix")
    starter = Path(json.loads(_run(root, program, "starter", "--json")[1])["path"])
    assert starter.is_relative_to(environment), starter
    _start(root, program, environment)


def _start(root: Path, program: Path, environment: Path) -> None:
    """Start the program as a person does who never saw the checkout: version, doctor, every page of the window."""
    version = _run(root, program, "--version")[1]
    assert version.startswith("qlora-studio "), version
    found = json.loads(_run(root, program, "doctor", "--json")[1])
    place = next(check["message"] for check in found["checks"] if check["name"] == "Program")
    assert found["ok"] and str(environment) in place, found
    pages = json.loads(_run(root, program, "--self-test", "--json", more={"QT_QPA_PLATFORM": "offscreen"})[1])
    assert len(pages["pages"]) > 7 and pages["heavy_modules"] == [], pages


def _say_what_is_left(root: Path, *emptied: Path) -> None:
    """Print what is there after the removal; only the user's own and what installers keep of theirs may be."""
    files = {path for path in root.rglob("*") if path.is_file() or path.is_symlink()}
    own = {path for path in files if path.is_relative_to(root / "studio")}
    of_installers = {path for path in files - own if any(path.is_relative_to(place) for place in emptied)}
    ours = sorted(path for path in files - own if "qlora" in str(path.relative_to(root)) and ".log" not in path.name)
    print(f"  left of the user: {', '.join(sorted({path.relative_to(root / 'studio').parts[0] for path in own}))}")
    print(f"  left of the installer: {len(of_installers)} files")
    strange = sorted(files - own - of_installers)
    assert ours == [] and strange == [], f"Left behind: {ours[:5]} {strange[:5]}"


def _run(root: Path, *command: str | Path, more: Mapping[str, str] = {}, may_fail: bool = False) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    environment |= {"PATH": os.defpath, "HOME": str(root / "home"), "QLORA_STUDIO_HOME": str(root / "studio"), **more}
    (root / "home").mkdir(exist_ok=True)
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr[-2000:])
    return done.returncode, done.stdout


def _wheel(folder: Path) -> Path:
    return next(folder.glob("qlora_studio-*.whl"))


def _tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed."
    return found


_WAYS: dict[str, Callable[[Path, Path], None]] = {
    "wheel": check_wheel,
    "source": check_source,
    "uv": check_uv,
    "pipx": check_pipx,
}

if __name__ == "__main__":
    sys.exit(main())
