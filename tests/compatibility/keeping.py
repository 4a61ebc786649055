"""What was made is kept in the repository: once it is small, and tells nothing of the computer that it was made on."""

import getpass
import platform
import shutil
import sys
from pathlib import Path

from qlora_studio.core.export.disclosure import disclosures

_LARGEST = 800_000  # bytes of all files together; their folders come on top


def keep(made: Path, target: Path) -> int:
    """Copy `made` to `target`; return how many bytes its files have. Ends the program where they cannot be kept."""
    for reserve in made.rglob(".reserve"):  # a megabyte of nothing, made again by whoever goes on
        reserve.unlink()
    for log in made.rglob("worker.log"):
        log.write_text(log.read_text("utf-8").replace(sys.prefix, "@PYTHON@"), encoding="utf-8")
    files = [path for path in made.rglob("*") if path.is_file()]
    if found := [trace for path in files for trace in _traces(path)]:
        sys.exit("What was made tells of this computer:\n" + "\n".join(found))
    size = sum(path.stat().st_size for path in files)
    if size > _LARGEST:
        sys.exit(f"{size:,} bytes are too many to keep.")
    shutil.copytree(made, target)
    return size


def _traces(path: Path) -> list[str]:
    folders = [str(Path.home()), str(Path(__file__).parents[2]), sys.prefix, sys.base_prefix]
    names = [getpass.getuser(), platform.node()]
    text = path.read_bytes().decode("latin-1")
    return [f"{path}: {found.text}" for found in disclosures(text, folders=folders, names=names, any_folder=False)]
