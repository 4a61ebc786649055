"""The place that needs no ssh, and the scheduler's stand-in, which tests of the machinery have, too."""

from pathlib import Path

import pytest

from tests.jobs.elsewhere.conftest import scheduler as scheduler


@pytest.fixture(autouse=True)
def _partitions(scheduler: Path) -> None:
    """What the stand-in does not say: which partitions there are."""
    program = scheduler.parent / "programs" / "sinfo"
    program.write_text("#!/bin/sh\nprintf 'debug|up|infinite|2|(null)\\nshort|up|5:00|2|(null)\\n'\n", "utf-8")
    program.chmod(0o755)
