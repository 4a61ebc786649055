"""The run config that Model, Data and Training edit together, before it becomes a run."""

from typing import Any

from PySide6.QtCore import QObject, Signal

from qlora_studio.core.data.report import DataReport
from qlora_studio.core.errors import InvalidRunConfig
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.core.run.run_config_text import from_mapping


class DraftStore(QObject):
    """Holds the one draft. Pages show it in `render_config` and ask for changes with a signal.

    Signals:
        changed: the draft is another one now.
        refused: a change was not taken; carries a tuple of core's Problem.
    """

    changed = Signal(object)
    refused = Signal(tuple)

    def __init__(self, config: RunConfig | None = None) -> None:
        super().__init__()
        self.config = config or RunConfig()

    def set_value(self, path: str, value: Any) -> None:
        """Set `section.field` of the draft, or `name`; a value out of bounds is refused in words."""
        self.set_values({path: value})

    def set_values(self, values: dict[str, Any]) -> None:
        """Set several settings at once: all of them, or none."""
        data = self.config.model_dump()
        for path, value in values.items():
            *sections, name = path.split(".")
            target = data
            for section in sections:
                target = target[section]
            target[name] = value
        try:
            self._take(from_mapping(data))
        except InvalidRunConfig as error:
            self.refused.emit(error.problems)

    def replace(self, config: RunConfig) -> None:
        """Take another draft, a preset or the config of an old run; it is trained on the card that was chosen here."""
        self._take(config.model_copy(update={"hardware": self.config.hardware}))

    def take_up(self, config: RunConfig) -> None:
        """Go on with a draft as it was, its card included."""
        self._take(config)

    def _take(self, config: RunConfig) -> None:
        if config != self.config:
            self.config = config
            self.changed.emit(config)


def is_report_of(report: DataReport, config: RunConfig) -> bool:
    """Whether a report is of the datasets of a draft."""
    if not report.sources:
        return report.path == config.data.path
    return [source.path for source in report.sources] == [source.path for source in config.data.sources]
