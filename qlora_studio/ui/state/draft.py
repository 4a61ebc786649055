"""The run config that Model, Data and Training edit together, before it becomes a run."""

from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import InvalidRunConfig, Problem


@dataclass(frozen=True)
class Offer:
    """Many settings at once, of a preset or an old run, that the user is shown before they are taken."""

    title: str
    config: RunConfig
    note: str = ""


@dataclass(frozen=True)
class Taken:
    """An offer that was taken, with what the draft was before and was made to be."""

    title: str
    before: RunConfig
    after: RunConfig


class DraftStore(QObject):
    """Holds the one draft. Pages show it in `render_config` and ask for changes with a signal.

    Signals:
        changed: the draft is another one now.
        refused: a change was not taken; carries a tuple of core's Problem.
        offered: `offer` or `taken` is another one, or none.
    """

    changed = Signal(object)
    refused = Signal(tuple)
    offered = Signal()

    def __init__(self, config: RunConfig | None = None) -> None:
        super().__init__()
        self.config = config or RunConfig()
        self.offer: Offer | None = None
        self.taken: Taken | None = None
        self._refused: dict[str, Problem] = {}

    def refused_values(self) -> tuple[Problem, ...]:
        """Return what was asked last of a setting and not taken: it stands in its field, and the draft has it not."""
        return tuple(self._refused.values())

    def set_value(self, path: str, value: Any) -> None:
        """Set `section.field` of the draft, or `name`; a value out of bounds is refused in words."""
        self.set_values({path: value})

    def set_values(self, values: dict[str, Any]) -> None:
        """Set several settings at once: all of them, or none."""
        mended = [path for path in values if self._refused.pop(path, None)]
        try:
            self._take(self._with(values), mended=bool(mended))
        except InvalidRunConfig as error:
            self._refused |= {problem.field: problem for problem in error.problems if problem.field in values}
            self.refused.emit(error.problems)

    def replace(self, config: RunConfig) -> None:
        """Take another draft, a preset or the config of an old run; it is trained on the card that was chosen here."""
        mended, self._refused = bool(self._refused), {}
        self._take(config.model_copy(update={"hardware": self.config.hardware}), mended=mended)

    def take_up(self, config: RunConfig) -> None:
        """Go on with a draft as it was, its card included."""
        self._take(config, mended=False)

    def propose(self, title: str, config: RunConfig, note: str = "") -> None:
        """Offer another draft, which the user looks at before it is taken."""
        offered = config.model_copy(update={"hardware": self.config.hardware})
        self.offer, self.taken = Offer(title, offered, note), None
        self.offered.emit()

    def propose_values(self, title: str, values: dict[str, Any]) -> None:
        """Offer new values of several settings."""
        self.propose(title, self._with(values))

    def take_offer(self) -> None:
        """Take what is offered, so that it can be undone."""
        offer, self.offer = self.offer, None
        if offer is not None:
            self.taken = Taken(offer.title, self.config, offer.config)
            self.replace(offer.config)
            self.offered.emit()

    def undo(self) -> None:
        """Put back what an offer changed, but for what was changed by hand since."""
        if self.taken is not None:
            old, new, now = (config.model_dump() for config in (self.taken.before, self.taken.after, self.config))
            self.taken = None
            self.replace(RunConfig.model_validate(_put_back(old, new, now)))
            self.offered.emit()

    def forget_offer(self) -> None:
        """Leave the draft as it is, and speak of it no more."""
        self.offer = self.taken = None
        self.offered.emit()

    def _with(self, values: dict[str, Any]) -> RunConfig:
        """Return the draft with other values. Raises InvalidRunConfig."""
        data = self.config.model_dump()
        for path, value in values.items():
            *sections, name = path.split(".")
            target = data
            for section in sections:
                target = target[section]
            target[name] = value
        return from_mapping(data)

    def _take(self, config: RunConfig, *, mended: bool) -> None:
        """Take a config; where a refused value is gone with it, that is a change as well."""
        if config != self.config or mended:
            self.config = config
            self.changed.emit(config)


def _put_back(old: Any, new: Any, now: Any) -> Any:
    """Return what is there now with the old values in place of the new ones that are still there, at every depth."""
    if (
        isinstance(now, dict)
        and isinstance(old, dict)
        and isinstance(new, dict)
        and old.keys() == new.keys() == now.keys()
    ):
        return {name: _put_back(old[name], new[name], now[name]) for name in now}
    return old if now == new else now
