"""Forms out of the run config's own field metadata: label, help, unit, bounds and choices are said once, in core."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.setting import SettingInfo
from qlora_studio.core.errors import Problem
from qlora_studio.core.words import say
from qlora_studio.ui.kit.widgets import Button, Card, Rule, begun, column
from qlora_studio.ui.readiness.changes import value_at
from qlora_studio.ui.training.setting_line import SettingLine


class SettingsSection(Card):
    """The settings of one section as lines; the advanced ones are folded."""

    def __init__(
        self,
        title: str,
        settings: Sequence[SettingInfo],
        changed: Callable[[str, Any], object],
        *,
        at_once: bool = True,
    ) -> None:
        """Make the section; not `at_once`, its lines are made by its `steps`."""
        super().__init__(title)
        self.lines: dict[str, SettingLine] = {}
        self.body.setSpacing(0)
        self._plain = column(spacing=0)
        self.body.addLayout(self._plain)
        self._advanced = QWidget()
        self._advanced.setVisible(False)
        advanced = sum(info.advanced for info in settings)
        self.fold = Button(say("Advanced ({advanced})", advanced=advanced), "quiet", checkable=True)
        self.fold.setAccessibleName(say("Advanced settings of {title}", title=title))
        self.fold.toggled.connect(self._advanced.setVisible)
        self.add_header(self.fold)
        self.fold.setVisible(bool(advanced))
        self.add(self._advanced)
        self.body.addStretch(1)
        self.steps = begun(self._made(settings, changed), at_once=at_once)

    def _made(self, settings: Sequence[SettingInfo], changed: Callable[[str, Any], object]) -> Iterator[None]:
        folded = column(self._advanced, spacing=0)
        has_plain = not all(info.advanced for info in settings)
        for info in settings:
            box, follows = (folded, has_plain) if info.advanced else (self._plain, False)
            if follows or box.count():
                box.addWidget(Rule())
            line = self.lines[info.path] = SettingLine(info, changed)
            box.addWidget(line)
            yield

    def unfold_for(self, path: str) -> None:
        """Show the advanced settings where `path` is one of them."""
        if path in self.lines and self.lines[path].info.advanced:
            self.fold.setChecked(True)


class SettingsForm(QWidget):
    """Sections in `columns` side by side; all of them show one config.

    Signals:
        changed: the user changed a setting: its path, and the value, or the text where it is no value.
    """

    changed = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[SettingsSection] = []
        self._config = RunConfig()

    def add_section(self, title: str, settings: Sequence[SettingInfo], *, at_once: bool = True) -> SettingsSection:
        """Make a section; the caller places it and, not `at_once`, takes the `steps` that make its lines."""
        section = SettingsSection(title, settings, self.changed.emit, at_once=at_once)
        self.sections.append(section)
        return section

    def line(self, path: str) -> SettingLine:
        """Return the line of a setting."""
        return next(section.lines[path] for section in self.sections if path in section.lines)

    def render_config(self, config: RunConfig) -> None:
        """Show the values of a config. A text that was refused stays, with its problem, until it is corrected."""
        self._config = config
        for path, line in self._lines():
            if not (line.has_problem() and line.is_pending()):
                line.show_value(value_at(config, path))
                line.show_problem("")

    def render_problems(self, problems: Sequence[Problem]) -> tuple[Problem, ...]:
        """Show each problem at its field; return those that have no field here."""
        by_path = {problem.field: problem.message for problem in problems}
        for path, line in self._lines():
            if path in by_path:
                line.show_problem(by_path[path])
        for section in self.sections:
            for path in by_path:
                section.unfold_for(path)
        known = {path for path, _ in self._lines()}
        return tuple(problem for problem in problems if problem.field not in known)

    def forget_refused(self) -> None:
        """Let go of texts that were refused: another config comes whole, which may be the one that is shown."""
        for path, line in self._lines():
            if line.is_pending():
                line.show_value(value_at(self._config, path))
            line.show_problem("")

    def refused(self) -> tuple[Problem, ...]:
        """Return the problems of texts that stand in a field and are no value."""
        return tuple(Problem(path, line.problem()) for path, line in self._lines() if line.is_pending())

    def _lines(self) -> list[tuple[str, SettingLine]]:
        return [item for section in self.sections for item in section.lines.items()]
