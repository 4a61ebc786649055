"""What the draft was before each change, so that a change can be undone and done again."""

from PySide6.QtCore import QObject

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.words import say
from qlora_studio.ui.state.draft import DraftStore

_MOST = 200


class DraftHistory(QObject):
    """Follows a draft. What is trained on, and on which card, stay as they were chosen last."""

    def __init__(self, draft: DraftStore) -> None:
        super().__init__(draft)
        self._draft, self._now = draft, draft.config
        self._past: list[RunConfig] = []
        self._future: list[RunConfig] = []
        self._going = False
        draft.changed.connect(self._on_draft_changed)

    def undo(self) -> str:
        """Put back what the draft was; return which settings changed, in words, nothing where there was no change."""
        return self._go(self._past, self._future)

    def redo(self) -> str:
        """Do again what was undone; return which settings changed, in words."""
        return self._go(self._future, self._past)

    def _go(self, source: list[RunConfig], other: list[RunConfig]) -> str:
        while source:
            config, before = source.pop(), self._draft.config
            self._going = True
            self._draft.replace(config)
            self._going = False
            if self._draft.config != before:
                other.append(before)
                self._now = self._draft.config
                return changed_titles(before, self._now)
        return ""

    def _on_draft_changed(self, config: RunConfig) -> None:
        if not self._going:
            self._past = [*self._past[1 - _MOST :], self._now]
            self._future = []
            self._now = config


def changed_titles(one: RunConfig, other: RunConfig) -> str:
    """Return the titles of the settings in which two configs differ: at most three, and how many more."""
    before, after = one.model_dump(), other.model_dump()
    titles = [
        info.title
        for info in all_settings()
        if before.get(info.section, {}).get(info.name) != after.get(info.section, {}).get(info.name)
    ]
    first = ", ".join(titles[:3])
    if len(titles) > 3:
        return say("{names} and {more} more", names=first, more=len(titles) - 3)
    return first or say("the name")
