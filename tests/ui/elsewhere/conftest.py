"""A place that needs no ssh, with the stand-in for SLURM's programs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.elsewhere.places import put_scheduler


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the scheduler's stand-in, which says here which partitions there are, too."""
    folder = put_scheduler(tmp_path, monkeypatch)
    program = tmp_path / "programs" / "sinfo"
    program.write_text("#!/bin/sh\nprintf 'debug|up|infinite|2|(null)\\nshort|up|5:00|2|(null)\\n'\n", "utf-8")
    program.chmod(0o755)
    yield folder
    (folder / "hold").unlink(missing_ok=True)
