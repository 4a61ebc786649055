"""What a person installs as a package: the archive in a clean home, the .deb in a clean Debian. A person's way with
them, from the first start to the removal, is as_user.sh."""

import contextlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from checks.place import Place, Untried

_PACKAGING = Path(__file__).resolve().parents[1]
_AS_USER = Path(__file__).with_name("as_user.sh")
_ARCHIVE = "qlora-studio-*-linux.tar.gz"
_HOME_IN_DEBIAN = Path("/home/someone")
_TOOLS = {"debootstrap": "debootstrap", "unshare": "util-linux", "chroot": "coreutils", "setpriv": "util-linux"}
_LAST = 25


def check_linux(place: Place) -> None:
    """The archive for any Linux, in a home that was never used."""
    unpacked = _unpacked(place)
    wheels = _collected(place, unpacked)
    place.built(_ARCHIVE)
    place.run(unpacked / "install.sh", "--status", may_fail=True)  # it ends with 1: nothing is set up yet
    path = f"{place.home}/.local/bin:{os.defpath}"
    with _display() as display:
        _follow(place, ["sh", str(_AS_USER), str(wheels)], place.environment() | {"PATH": path, "DISPLAY": display})
    place.run(unpacked / "install.sh", "--uninstall", more={"PATH": path})
    place.say_what_is_left()


def check_debian(place: Place) -> None:
    """The .deb, held to Debian's own rules, then in a Debian with nothing in it."""
    deb = place.built("qlora-studio_*_all.deb")
    for tool, package in _TOOLS.items():
        if not shutil.which(tool):
            raise Untried(f"{tool} is not here, which makes a clean Debian: sudo apt install {package}")
    if os.geteuid():
        raise Untried("a clean Debian is made by root alone: sudo make dist-check ARGS='--ways debian'")
    for words in (["lintian", "--fail-on", "error,warning"],):
        if shutil.which(words[0]):
            subprocess.run([*words, str(deb)], check=True, capture_output=True, text=True)
        else:
            print(f"   {words[0]} is not here: not asked")
    wheels = _collected(place, _unpacked(place))
    with _display() as display:
        more = {"DISPLAY": display, "TMPDIR": str(place.root)}
        lines = _follow(place, [_PACKAGING / "debian" / "check.sh", deb, wheels], dict(os.environ) | more)
    left = [Path(line.removeprefix("left ")) for line in lines if line.startswith("left ")]
    homes = {path for path in left if path.is_relative_to(_HOME_IN_DEBIAN)}
    ours = [str(path) for path in left if path not in homes and "qlora" in str(path).lower()]
    assert ours == [], f"Left behind in the system: {', '.join(ours[:9])}"
    print(f"   of the packages that it took along, apt leaves {len(left) - len(homes)} files")
    place.say_what_is_left(found={path.relative_to(_HOME_IN_DEBIAN) for path in homes})


def _unpacked(place: Place) -> Path:
    with tarfile.open(place.found(_ARCHIVE)) as archive:
        archive.extractall(place.root, filter="data")
    (unpacked,) = place.root.glob("qlora-studio-*")
    return unpacked


def _collected(place: Place, unpacked: Path) -> Path:
    """Return the folder of wheels, filled by the setup itself where it is empty."""
    wheels = place.wheels.absolute()
    if not any(wheels.glob("*.whl")):
        python = shutil.which("python3", path=os.defpath)
        if not python:
            raise Untried("the system has no python3")
        with place.step("collect"):
            words = ("--collect", wheels, "--torch", place.torch)
            place.run(python, "-I", unpacked / "package" / "set-up.py", *words, more={"HOME": str(place.root)})
    return wheels


def _follow(place: Place, command: list[str | Path], environment: Mapping[str, str]) -> list[str]:
    """Run a script to its end, show its lines as they come, and take down what it measured."""
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=place.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as script:
        assert script.stdout is not None
        for line in map(str.rstrip, script.stdout):
            lines.append(line)
            match line.split():
                case ["took", name, seconds]:
                    place.seconds[name] = float(seconds)
                case ["room", count]:
                    place.installed_bytes = int(count)
                case ["left", _]:
                    pass
                case _:
                    print(f"   {line}", flush=True)
    assert script.returncode == 0, "\n".join(["it ended amid this:", *lines[-_LAST:]])
    return lines


@contextlib.contextmanager
def _display() -> Iterator[str]:
    """Yield the name of a screen that nobody sees; empty where there is no Xvfb, and windows are drawn nowhere."""
    program = shutil.which("Xvfb")
    if not program:
        print("   Xvfb is not here: the windows are drawn off the screen")
        yield ""
        return
    read, write = os.pipe()
    command = [program, "-displayfd", str(write), "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-ac"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        try:
            with os.fdopen(read) as pipe:
                yield f":{pipe.readline().strip()}"
        finally:
            server.terminate()
