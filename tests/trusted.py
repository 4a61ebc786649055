"""For tests that copy a run under another name, or write its settings by hand: the user trusts what is there."""

from pathlib import Path

from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trusted_run import Question


def trusted(path: Path | str) -> RunFolder:
    """Return the run of a folder, trusted as it is now."""
    run = RunFolder(path)
    Question(run).accept()
    return run
