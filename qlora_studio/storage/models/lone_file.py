"""A file in a folder of its own: libraries that are given a file read what lies beside it, too."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qlora_studio.storage.models.foreign_code import refuse_foreign_code


@contextmanager
def lone_file(path: Path) -> Iterator[Path]:
    """Yield the file's name in a folder where nothing else is, for the time of the block. Raises StudioError."""
    with tempfile.TemporaryDirectory(prefix="qlora-studio-", ignore_cleanup_errors=True) as folder:
        alone = Path(folder) / path.name
        try:
            alone.symlink_to(path.resolve())
        except OSError:
            alone = _beside(path, alone)
        yield alone


def _beside(path: Path, alone: Path) -> Path:
    """Return a hard link, where links of the other kind are a matter of rights, as on Windows; else where it lies."""
    try:
        os.link(path, alone)
    except OSError:
        refuse_foreign_code(path.parent)
        return path
    return alone
