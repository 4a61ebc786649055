"""Installs what `make dist` built in clean places: starts, breaks, repairs, removes, and says what was left.

python packaging/dist_check.py                       all of it: some twenty minutes, and 10 GB of disk for a while
python packaging/dist_check.py --ways wheel source   with the libraries of this environment: a minute
python packaging/dist_check.py --wheels FOLDER       keeps the libraries for the packages there, for the next time

Ends with 0 where all is well, 1 where something failed, and 2 where something could not be tried here.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from checks import environments, packages, windows
from checks.place import Place, Untried, megabytes

_ROOT = Path(__file__).resolve().parent.parent
_FIGURES = ("install", "start", "mend", "remove")
_FAILED, _UNTRIED = 1, 2


def main() -> int:
    """Check each way that was named, and print what came out as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dist", type=Path, default=_ROOT / "dist")
    parser.add_argument("--ways", nargs="+", choices=tuple(_WAYS), default=list(_WAYS))
    parser.add_argument("--wheels", type=Path, help="a folder of libraries for the packages; filled where it is empty")
    parser.add_argument("--torch", default="cpu", help="the build of PyTorch to fetch for them (usual: your index's)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qlora-studio-wheels-") as folder:
        found = [_tried(way, arguments, arguments.wheels or Path(folder)) for way in arguments.ways]
    print("\n" + "\n".join(_table(found)))
    for place in found:
        print(f"{place.way}: {place.verdict}")
    counts = {verdict: sum(place.verdict.startswith(verdict) for place in found) for verdict in _VERDICTS}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return _FAILED if counts["failed"] else _UNTRIED if counts["skipped"] else 0


def _tried(way: str, arguments: argparse.Namespace, wheels: Path) -> Place:
    print(f"== {way}", flush=True)
    with tempfile.TemporaryDirectory(prefix="qlora-studio-dist-") as folder:
        place = Place(way, Path(folder), arguments.dist.resolve(), wheels, arguments.torch)
        place.root.chmod(0o755)
        try:
            _WAYS[way](place)
            place.verdict = f"passed, left behind: {place.left or 'nothing'}"
        except Untried as error:
            place.verdict = f"skipped, {error}"
        except (AssertionError, subprocess.CalledProcessError) as error:
            place.verdict = f"failed, {error}\n{getattr(error, 'stderr', '') or ''}".rstrip()
    took = (f", {name} {seconds:.0f} s" for name, seconds in place.seconds.items())  # told even if the next is killed
    print(f"   {place.verdict.partition(',')[0]}{''.join(took)}", flush=True)
    return place


def _table(found: list[Place]) -> list[str]:
    """Return how large and how quick each way was, in columns."""
    rows = [["", "file MB", "on disk MB", *(f"{name} s" for name in _FIGURES)]]
    for place in found:
        seconds = (f"{place.seconds[name]:.0f}" if name in place.seconds else "" for name in _FIGURES)
        rows.append([place.way, megabytes(place.file_bytes), megabytes(place.installed_bytes), *seconds])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


_VERDICTS = ("passed", "failed", "skipped")
_WAYS: dict[str, Callable[[Place], None]] = {
    "wheel": environments.check_wheel,
    "source": environments.check_source,
    "pip": environments.check_pip,
    "uv": environments.check_uv,
    "pipx": environments.check_pipx,
    "linux": packages.check_linux,
    "debian": packages.check_debian,
    "windows": windows.check_windows,
}

if __name__ == "__main__":
    sys.exit(main())
