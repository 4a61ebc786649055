"""What a person installs into an environment: the wheel, by pip, uv or pipx; and the source that it is built from."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from checks.place import Place

_ROOT = Path(__file__).resolve().parents[2]
_CONSTRAINTS = _ROOT / "packaging" / "constraints.txt"
_WHEEL = "qlora_studio-*.whl"
_DOCTOR_FOUND_PROBLEMS = 34


def check_wheel(place: Place) -> None:
    """The wheel alone in an environment of its own, which sees the libraries of this one."""
    environment = place.root / "venv"
    python = _made(place, environment, "--without-pip")  # that one, too, is seen
    site = next(environment.rglob("site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    with place.step("install"):
        place.run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", place.built(_WHEEL))
    _start(place, environment / "bin" / "qlora-studio", environment)
    place.measure(site / "qlora_studio")
    with place.step("remove"):
        place.run(python, "-m", "pip", "uninstall", "--yes", "--quiet", "qlora-studio")
    left = [str(path.relative_to(environment)) for path in environment.rglob("*qlora*")]
    assert left == [], f"Left in the environment: {left}"
    place.say_what_is_left()


def check_source(place: Place) -> None:
    """The source holds what the README links, and the wheel that is built from it is the same to the byte."""
    with tarfile.open(place.built("qlora_studio-*.tar.gz")) as archive:
        archive.extractall(place.root, filter="data")
        newest = max(member.mtime for member in archive.getmembers())
    (unpacked,) = place.root.glob("qlora_studio-*")
    place.measure(unpacked)
    wanted = ("Makefile", "docs/COMMANDS.md", "THIRD_PARTY.md", ".ci/run", "packaging/constraints.txt", "resources")
    missing = [name for name in wanted if not (unpacked / name).exists()]
    assert missing == [], f"Not in the source: {missing}"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(int(newest))}
    target = place.root / "built"
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(command, cwd=unpacked, env=environment, check=True, capture_output=True, text=True)
    same = next(target.glob(_WHEEL)).read_bytes() == place.found(_WHEEL).read_bytes()
    assert same, "The source builds another wheel."


def check_pip(place: Place) -> None:
    """With pip, in an environment that is made for it: installed, broken, repaired, removed."""
    environment = place.root / "venv"
    with place.step("install"):
        python = _made(place, environment)
        place.run(python, "-m", "pip", "install", "--quiet", "-c", _CONSTRAINTS, place.built(_WHEEL))
    _whole_journey(place, environment / "bin" / "qlora-studio", environment)
    with place.step("remove"):
        shutil.rmtree(environment)
    place.say_what_is_left()


def check_uv(place: Place) -> None:
    """One command with uv: the same."""
    environment = place.home / ".local" / "share" / "uv" / "tools" / "qlora-studio"
    uv = _tool(place, "uv")
    with place.step("install"):
        place.run(uv, "tool", "install", "--quiet", "-c", _CONSTRAINTS, place.built(_WHEEL))
    _whole_journey(place, place.home / ".local" / "bin" / "qlora-studio", environment)
    with place.step("remove"):
        place.run(uv, "tool", "uninstall", "qlora-studio")
    place.say_what_is_left(environment.parent)


def check_pipx(place: Place) -> None:
    """One command with pipx: the same."""
    pipx, of_pipx = _tool(place, "pipx"), {"PIPX_HOME": str(place.home / ".local" / "pipx")}
    environment = place.home / ".local" / "pipx" / "venvs" / "qlora-studio"
    words = ("install", "--quiet", "--python", sys.executable, "--pip-args", f"--constraint {_CONSTRAINTS}")
    with place.step("install"):
        place.run(pipx, *words, place.built(_WHEEL), more=of_pipx)
    _whole_journey(place, place.home / ".local" / "bin" / "qlora-studio", environment)
    with place.step("remove"):
        place.run(pipx, "uninstall", "qlora-studio", more=of_pipx)
    place.say_what_is_left(place.home / ".local" / "pipx")


def _whole_journey(place: Place, program: Path, environment: Path) -> None:
    """Start it, break it in five ways, have the doctor mend it, get the starter, start it again."""
    place.measure(environment)
    _start(place, program, environment)
    harmed = _break(next(environment.rglob("site-packages")))
    code, said = place.run(program, "doctor", may_fail=True)
    missed = [name for name in harmed if name not in said]
    assert code == _DOCTOR_FOUND_PROBLEMS and not missed, f"The doctor sees no harm in: {missed or harmed}"
    with place.step("mend"):
        place.run(program, "doctor", "--fix")
    starter = Path(json.loads(place.run(program, "starter", "--json")[1])["path"])
    assert starter.is_relative_to(environment), starter
    _start(place, program, environment)


def _break(site: Path) -> list[str]:
    """Leave libraries as a full disk, a killed installer and a careless hand do; return their names."""
    cut = next((site / "bitsandbytes").glob("libbitsandbytes_cpu.*"))
    os.truncate(cut, cut.stat().st_size // 2)
    shutil.rmtree(site / "PySide6" / "Qt" / "plugins" / "platforms")
    shutil.rmtree(site / "trl")
    for name, record in (("xxhash", "RECORD"), ("multiprocess", "METADATA")):
        next(site.glob(f"{name}-*.dist-info/{record}")).unlink()
    return ["bitsandbytes", "pyside6-essentials", "trl", "xxhash", "multiprocess"]


def _start(place: Place, program: Path, environment: Path) -> None:
    """Start the program as a person does: version, doctor, every page of the window."""
    version = place.run(program, "--version")[1]
    assert version.startswith("qlora-studio "), version
    found = json.loads(place.run(program, "doctor", "--json")[1])
    at = next(check["message"] for check in found["checks"] if check["name"] == "Program")
    assert found["ok"] and str(environment) in at, found
    with place.step("start"):
        pages = json.loads(place.run(program, "--self-test", "--json", more={"QT_QPA_PLATFORM": "offscreen"})[1])
    assert len(pages["pages"]) > 7 and pages["heavy_modules"] == [], pages


def _made(place: Place, environment: Path, *words: str) -> Path:
    place.run(sys.executable, "-m", "venv", *words, environment)
    return environment / "bin" / "python"


def _tool(place: Place, name: str) -> Path:
    """Return uv or pipx, of an environment of its own beside the home."""
    python = _made(place, place.root / name)
    place.run(python, "-m", "pip", "install", "--quiet", name)
    return python.with_name(name)
