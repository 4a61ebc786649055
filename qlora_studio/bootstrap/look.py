"""How the setup's window looks: the program's colours, and the few widgets that it is made of."""

import subprocess
import sys
import tkinter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tkinter import font
from typing import Literal

from qlora_studio.bootstrap.journey import Step

_DESKTOP = ("gsettings", "get", "org.gnome.desktop.interface", "color-scheme")
_DESKTOP_SECONDS = 2.0
_PERSONALIZE = r"Software\Microsoft\Windows\CurrentVersion\Themes\Personalize"


@dataclass(frozen=True)
class Colours:
    """As the program's own window has them (`ui/kit/theme.py`, which needs Qt): its panel, and what is on it."""

    background: str
    text: str
    muted: str
    line: str
    button: str
    accent: str
    accent_text: str
    ok: str
    bad: str


LIGHT = Colours("#ffffff", "#1a2027", "#566170", "#dfe3e8", "#eef1f5", "#0a65b0", "#ffffff", "#006f54", "#b02318")
DARK = Colours("#1b2025", "#e7ebef", "#9ca8b4", "#2c333b", "#252b32", "#5aaeed", "#0b1016", "#3cc79d", "#f5857a")


def fitting() -> Colours:
    """Return the colours that the desktop asks for."""
    return DARK if _is_dark() else LIGHT


def pixels(widget: tkinter.Misc, size: float) -> int:
    """Return a length for this screen: Tk measures in its dots, of which some screens have twice as many."""
    return round(size * max(widget.winfo_fpixels("1i") / 96, 1.0))


def paragraph(
    parent: tkinter.Misc,
    colour: str,
    colours: Colours,
    width: int,
    *,
    size: int = 0,
    bold: bool = False,
    text: str = "",
) -> tkinter.Label:
    """Return a text that wraps; `size` makes it a title, in points."""
    family = font.nametofont("TkDefaultFont").actual("family")
    return tkinter.Label(
        parent,
        text=text,
        foreground=colour,
        background=colours.background,
        font=(family, size or 10, "bold" if size or bold else "normal"),
        justify="left",
        anchor="w",
        wraplength=width,
    )


class Button:
    """A flat button that is there while it has words; Return and Space press it, and a frame shows the focus."""

    def __init__(
        self,
        row: tkinter.Misc,
        colours: Colours,
        do: Callable[[], None],
        *,
        side: Literal["left", "right"],
        is_main: bool = False,
    ) -> None:
        self.do, self._side, self._is_main = do, side, is_main
        surface, ink = (colours.accent, colours.accent_text) if is_main else (colours.button, colours.text)
        self._button = tkinter.Button(
            row,
            command=lambda: self.do(),
            relief="flat",
            borderwidth=0,
            background=surface,
            foreground=ink,
            activebackground=surface,
            activeforeground=ink,
            highlightthickness=2,
            highlightbackground=colours.background,
            highlightcolor=colours.accent,
            padx=pixels(row, 14),
            pady=pixels(row, 5),
            cursor="hand2",
        )
        self._button.bind("<Return>", lambda _event: self._button.invoke())

    def say(self, words: str | None) -> None:
        """Show it with these words, or not at all."""
        self._button.pack_forget()
        if words is not None:
            self._button.configure(text=words)
            self._button.pack(side=self._side, padx=(pixels(self._button, 8), 0) if self._side == "right" else 0)
            if self._is_main:
                self._button.focus_set()


class StepList:
    """The steps under each other, each with a sign: done, being done, to come, failed."""

    def __init__(self, parent: tkinter.Misc, colours: Colours, steps: Sequence[tuple[Step, str]]) -> None:
        self.frame = tkinter.Frame(parent, background=colours.background)
        self._colours, self._order = colours, [step for step, _ in steps]
        self._at = -1
        self._rows = [self._row(words) for _, words in steps]

    def show(self, step: Step) -> None:
        """Show where it is."""
        self._at = self._order.index(step)
        for place, (sign, words) in enumerate(self._rows):
            colours = self._colours
            if place < self._at:
                look = ("✓", colours.ok, colours.text)
            elif place == self._at:
                look = ("●", colours.accent, colours.text)
            else:
                look = ("○", colours.line, colours.muted)
            sign.configure(text=look[0], foreground=look[1])
            words.configure(foreground=look[2])

    def fail(self) -> None:
        """Show that the step it is at failed."""
        self._rows[self._at][0].configure(text="✕", foreground=self._colours.bad)

    def _row(self, words: str) -> tuple[tkinter.Label, tkinter.Label]:
        row = tkinter.Frame(self.frame, background=self._colours.background)
        row.pack(fill="x", pady=pixels(row, 2))
        sign = tkinter.Label(
            row, text="○", width=2, anchor="w", foreground=self._colours.line, background=self._colours.background
        )
        text = tkinter.Label(
            row, text=words, anchor="w", foreground=self._colours.muted, background=self._colours.background
        )
        sign.pack(side="left")
        text.pack(side="left")
        return sign, text


class Bar:
    """How much of all is done."""

    def __init__(self, parent: tkinter.Misc, colours: Colours, width: int) -> None:
        self._width, self._height = width, pixels(parent, 6)
        self.canvas = tkinter.Canvas(
            parent, width=width, height=self._height, background=colours.line, highlightthickness=0, borderwidth=0
        )
        self._done = self.canvas.create_rectangle(0, 0, 0, self._height, fill=colours.accent, width=0)

    def show(self, share: float) -> None:
        """Fill it that far."""
        self.canvas.coords(self._done, 0, 0, round(self._width * share), self._height)


def _is_dark() -> bool:
    if sys.platform == "win32":
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _PERSONALIZE) as key:
                return winreg.QueryValueEx(key, "AppsUseLightTheme")[0] == 0
        except OSError:
            return False
    try:
        said = subprocess.run(_DESKTOP, capture_output=True, text=True, timeout=_DESKTOP_SECONDS, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return "dark" in said
