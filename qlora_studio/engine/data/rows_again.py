"""The rows of a run once more, after training: what an export is measured on."""

from typing import Any

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.context import Channel, Commands, QuietReporter
from qlora_studio.engine.data.prepared import PreparedData, prepare_datasets
from qlora_studio.storage.runs.run_folder import RunFolder


def rows_again(run: RunFolder, config: RunConfig, tokenizer: Any, channel: Channel, what: str) -> PreparedData | None:
    """Return the rows of a run as it was trained on them; None, and a word about it, where the data is gone.

    `what` says in the warning what cannot be done without them.
    """
    try:
        return prepare_datasets(config, tokenizer, run, _Quiet(channel))
    except StudioError as error:
        channel.warn("data", f"{what}: {error.message}")
        return None


class _Quiet(QuietReporter):
    """Nothing is told twice of rows that are prepared again; they end where this job is asked to."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def raise_if_stopped(self) -> None:
        """Raise JobStopped where this job is to end."""
        self._commands.raise_if_stopped()
