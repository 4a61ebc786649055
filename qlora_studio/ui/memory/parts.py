"""The parts of the GPU panel: a bar with its words, the legend, the history, and advice."""

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.jobs.gpu_sample import GpuSample
from qlora_studio.jobs.process_memory import ProcessMemory
from qlora_studio.ui.kit.charts import Sparkline, StackedBar, Swatch
from qlora_studio.ui.kit.fields import CheckBox
from qlora_studio.ui.kit.layouts import dismiss
from qlora_studio.ui.kit.tables import Column, NumbersDialog
from qlora_studio.ui.kit.text import ElidedLabel, Label
from qlora_studio.ui.kit.widgets import Button, Card, Chip, column, row
from qlora_studio.ui.memory.together import CardCheck, wish_of
from qlora_studio.ui.memory.view import BarView, legend_text


class MemoryBar(QWidget):
    """A bar with its title and value above it and a note below."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._title = ElidedLabel("", "caption")
        self._value = Label("", "strong")
        self._after = Label("", "caption")
        self.chip = Chip()
        self._bar = StackedBar(name)
        self.note = Label("", "caption", wrap=True)
        box = column(self, spacing=5)
        head = row(spacing=7)
        head.addWidget(self._title, 1)
        for part in (self._value, self._after, self.chip):
            head.addWidget(part)
        box.addLayout(head)
        box.addWidget(self._bar)
        box.addWidget(self.note)
        self.chip.hide()
        self.note.hide()

    def show_bar(self, view: BarView) -> None:
        """Show a bar and its words."""
        self._title.setText(view.title)
        self._value.setText(view.value)
        self._after.setText(view.after)
        self._after.setVisible(bool(view.after))
        self._bar.show_parts(view.parts, view.total, view.text)
        if view.note:
            self.note.setText(view.note)
            self.note.show()


class CardBars(QWidget):
    """A bar for each of several cards that train together, with how it is now below it."""

    def __init__(self) -> None:
        super().__init__()
        self._box: QVBoxLayout = column(self, margins=(0, 0, 0, 12), spacing=10)
        self._bars: list[MemoryBar] = []
        self.hide()

    def show_bars(self, views: Sequence[BarView]) -> None:
        """Show these cards, or none."""
        while len(self._bars) < len(views):
            self._bars.append(MemoryBar(say("Now")))
            self._box.addWidget(self._bars[-1])
        for index, bar in enumerate(self._bars):
            bar.setVisible(index < len(views))
            if index < len(views):
                bar.show_bar(views[index])
        self.setVisible(bool(views))


class CardChecks(QWidget):
    """A box for each card of which some may train together.

    Signals:
        chosen: the user takes one in or leaves one out; carries a value of `hardware.gpus`.
    """

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName(say("Cards that train together"))
        self._box: QVBoxLayout = column(self, margins=(0, 4, 0, 6), spacing=4)
        self._checks: tuple[CardCheck, ...] = ()
        self.boxes: list[CheckBox] = []
        self.hide()

    def show_checks(self, checks: tuple[CardCheck, ...]) -> None:
        """Show these cards, or none."""
        if checks == self._checks:
            return
        self._checks = checks
        while len(self.boxes) < len(checks):
            self.boxes.append(CheckBox())
            self._box.addWidget(self.boxes[-1])
            self.boxes[-1].clicked.connect(self._on_clicked)
        for index, box in enumerate(self.boxes):
            box.setVisible(index < len(checks))
            if index < len(checks):
                box.setText(checks[index].words)
                box.setChecked(checks[index].is_on)
        self.setVisible(bool(checks))

    def _on_clicked(self) -> None:
        on = [(check.uuid, box.isChecked()) for check, box in zip(self._checks, self.boxes, strict=False)]
        if wish := wish_of(on):
            self.chosen.emit(wish)
        else:  # one has to be left
            for check, box in zip(self._checks, self.boxes, strict=False):
                box.setChecked(check.is_on)


class PartsLegend(QWidget):
    """One line for each component of the estimate."""

    def __init__(self) -> None:
        super().__init__()
        self._box: QVBoxLayout = column(self, spacing=4)
        self._lines: dict[str, tuple[QWidget, Label]] = {}

    def show_estimate(self, estimate: Estimate | None) -> None:
        """Show the components, or nothing."""
        for line, _ in self._lines.values():
            line.hide()
        for component in estimate.components if estimate else ():
            if component.key not in self._lines:
                self._lines[component.key] = self._new_line(component.key, component.label)
            line, value = self._lines[component.key]
            value.setText(legend_text(component.bytes, estimate.total_bytes if estimate else 0))
            line.show()
        self.setVisible(estimate is not None)

    def _new_line(self, key: str, label: str) -> tuple[QWidget, Label]:
        line = QWidget()
        box = row(line, spacing=10)
        value = Label("", "caption")
        box.addWidget(Swatch(key))
        box.addWidget(Label(label, "small"), 1)
        box.addWidget(value)
        self._box.addWidget(line)
        return line, value


class ProgramLines(QWidget):
    """One line for each other program on the card, with what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self._box: QVBoxLayout = column(self, margins=(0, 0, 0, 12), spacing=4)
        self._title = Label("", "caption")
        self._box.addWidget(self._title)
        self._lines: list[tuple[QWidget, ElidedLabel, Label]] = []
        self.hide()

    def show_lines(self, lines: Sequence[tuple[str, str]], *, several: bool = False) -> None:
        """Show names and sizes, or nothing; `several` says that they are of more than one card."""
        self._title.setText(say("Other programs on the cards") if several else say("Other programs on the card"))
        while len(self._lines) < len(lines):
            self._lines.append(self._new_line())
        for index, (line, name, size) in enumerate(self._lines):
            line.setVisible(index < len(lines))
            if index < len(lines):
                name.setText(lines[index][0])
                size.setText(lines[index][1])
        self.setVisible(bool(lines))

    def _new_line(self) -> tuple[QWidget, ElidedLabel, Label]:
        line, name, size = QWidget(), ElidedLabel("", "small"), Label("", "caption")
        box = row(line, spacing=10)
        box.addWidget(name, 1)
        box.addWidget(size)
        self._box.addWidget(line)
        return line, name, size


class _Gauge(QWidget):
    """A quantity with its value and the line of its last two minutes."""

    def __init__(self, title: str, token: str, *, low: float | None = None, high: float | None = None) -> None:
        super().__init__()
        self._value = Label("", "strong")
        self._title = title
        self._in_words: Callable[[float], str] = str
        self.line = Sparkline(say("{title}, last two minutes", title=title), token, low=low, high=high)
        self.line.numbers_requested.connect(self._show_numbers)
        box = column(self, spacing=2)
        head = row()
        head.addWidget(Label(title, "caption"), 1)
        head.addWidget(self._value)
        box.addLayout(head)
        box.addWidget(self.line)

    def show_history(
        self, text: str, values: Sequence[float | None], in_words: Callable[[float], str], high: float | None = None
    ) -> None:
        """Show the newest value as a text, and the values of the last seconds, each of which is told `in_words`."""
        known = [value for value in values if value is not None]
        self.setVisible(bool(known))
        self._value.setText(text)
        self._in_words = in_words
        self.line.show_values(values, high=high)
        if known:
            least, most = in_words(min(known)), in_words(max(known))
            told = say("{now} now, {least} to {most} in the last two minutes", now=text, least=least, most=most)
            self.line.setAccessibleDescription(told)

    def _show_numbers(self) -> None:
        seconds = range(len(self.line.values()) - 1, -1, -1)
        rows = [(ago, value) for ago, value in zip(seconds, self.line.values(), strict=True) if value is not None]
        columns = (
            Column(say("Seconds ago"), lambda row: str(row[0]), right=True),
            Column(self._title, lambda row: self._in_words(row[1]), right=True, stretch=True),
        )
        NumbersDialog(self, self.line.accessibleName(), columns, rows[::-1]).open()


class Gauges(QWidget):
    """The history: of the card, or of the machine's memory."""

    def __init__(self) -> None:
        super().__init__()
        self._utilisation = _Gauge(say("Utilisation"), "weights", low=0, high=100)
        self._temperature = _Gauge(say("Temperature"), "logits", low=20, high=100)
        self._power = _Gauge(say("Power"), "activations", low=0)
        self._worker = _Gauge(say("Memory of this run"), "weights", low=0)
        self._machine = _Gauge(say("Memory in use"), "other", low=0)
        self._all = (self._utilisation, self._temperature, self._power, self._worker, self._machine)
        box = column(self, spacing=12)
        for gauge in self._all:
            box.addWidget(gauge)
            gauge.hide()

    def set_compact(self, compact: bool) -> None:
        """Show the values alone, without their history."""
        for gauge in self._all:
            gauge.line.setVisible(not compact)

    def show_card(self, samples: Sequence[GpuSample]) -> None:
        """Show how the card is."""
        now = samples[-1]
        self._worker.hide()
        self._machine.hide()
        used = [s.utilisation_percent for s in samples]
        self._utilisation.show_history(_percent(now.utilisation_percent), used, lambda share: f"{share:.0f} %")
        celsius = (
            say("{temperature_celsius} °C", temperature_celsius=now.temperature_celsius)
            if now.temperature_celsius is not None
            else say("not told")
        )
        degrees = [s.temperature_celsius for s in samples]
        self._temperature.show_history(celsius, degrees, lambda value: f"{value:.0f} °C")
        limit = f" / {now.power_limit_watts:.0f}" if now.power_limit_watts else ""
        watts = (
            say("{power_watts:.0f}{limit} W", power_watts=now.power_watts, limit=limit)
            if now.power_watts is not None
            else say("not told")
        )
        drawn = [s.power_watts for s in samples]
        self._power.show_history(watts, drawn, lambda value: f"{value:.0f} W", now.power_limit_watts)

    def show_machine(self, memories: Sequence[ProcessMemory]) -> None:
        """Show the machine's memory."""
        now = memories[-1]
        for gauge in (self._utilisation, self._temperature, self._power):
            gauge.hide()
        worker = [None if m.worker_bytes is None else float(m.worker_bytes) for m in memories]
        shown = worker if now.worker_bytes else []
        self._worker.show_history(bytes_text(now.worker_bytes or 0), shown, _size_text)
        used = now.machine_total_bytes - now.machine_available_bytes
        self._machine.show_history(
            bytes_text(used),
            [float(m.machine_total_bytes - m.machine_available_bytes) for m in memories],
            _size_text,
            high=float(now.machine_total_bytes),
        )


class Advice(Card):
    """What to change so that a run fits, or what the free memory is good for; hidden where there is nothing to say.

    Signals:
        change_requested: the user takes a saving: new values by `section.field`.
    """

    change_requested = Signal(dict)

    def __init__(self) -> None:
        super().__init__(" ")
        self._text = Label("", "caption", wrap=True)
        self._savings = column(spacing=6)
        self.add(self._text)
        self.body.addLayout(self._savings)
        self.hide()

    def show_advice(self, title: str, text: str, savings: Sequence[tuple[str, dict[str, Any]]] = ()) -> None:
        """Show a title, a text, and savings: words, and new values by `section.field`. An empty title hides it."""
        self.title_label.setText(title)
        self._text.setText(text)
        self._text.setVisible(bool(text))
        while (item := self._savings.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                dismiss(old)
        for words, change in savings:
            self._savings.addWidget(self._saving(words, change))
        self.setVisible(bool(title))

    def _saving(self, words: str, change: dict[str, Any]) -> QWidget:
        line = QWidget()
        box = row(line, spacing=8)
        button = Button(say("Use"), "small", tip=words)
        button.setAccessibleName(say("Use: {words}", words=words))
        button.clicked.connect(lambda: self.change_requested.emit(change))
        box.addWidget(Label(words, "small", wrap=True), 1)
        box.addWidget(button)
        return line


def _size_text(size: float) -> str:
    return bytes_text(int(size))


def _percent(value: int | None) -> str:
    return say("not told") if value is None else f"{value} %"
