"""The setup in a window of its own.

It is Tk's, since there is no Qt yet: Debian has it in one small package, and Windows's Python brings it along.
"""

import queue
import subprocess
import sys
import threading
import tkinter
from dataclasses import replace
from pathlib import Path
from tkinter import filedialog

from qlora_studio.bootstrap.failure import SetupError, Stopped
from qlora_studio.bootstrap.journey import Journey, Progress, Step, Wish
from qlora_studio.bootstrap.look import Bar, Button, Colours, StepList, fitting, paragraph, pixels
from qlora_studio.bootstrap.places import Places
from qlora_studio.bootstrap.source import version_of
from qlora_studio.bootstrap.summary import summary
from qlora_studio.core.words import say

_POLL_MILLISECONDS = 100
_WIDTH = 560
_LEFT = 130  # the exit code where the user left before there was anything to start

News = Progress | SetupError | Stopped | None


def set_up(places: Places, wish: Wish) -> int:
    """Show the window until it is closed, and return the exit code: 0 where there is a program to start."""
    SetupWindow(places, wish).root.mainloop()
    return 0 if places.current() is not None else _LEFT


class SetupWindow:
    """First what will be done, then how far it is, then how it ended."""

    def __init__(self, places: Places, wish: Wish, colours: Colours | None = None) -> None:
        self.root = tkinter.Tk(className="qlora-studio-setup")
        self._places, self._wish = places, wish
        self._colours = colours or fitting()
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._journey: Journey | None = None
        self._leaving = False
        self.root.title("QLoRA Studio")
        self.root.configure(background=self._colours.background)
        self.root.resizable(False, False)
        self.root.protocol("WM_DELETE_WINDOW", self.leave)
        self._make()
        self._offer()

    def begin(self) -> None:
        """Set it up, in a thread of its own."""
        for widget in (self._text, self._bad):
            widget.pack_forget()
        self._steps.frame.pack(fill="x", before=self._gap)
        self._bar.canvas.pack(fill="x", before=self._gap, pady=(pixels(self.root, 12), 0))
        self._detail.pack(fill="x", before=self._gap, pady=(pixels(self.root, 6), 0))
        self._buttons(main=None, leave=say("Stop"), other=None)
        self._journey = Journey(self._places, self._wish, self._news.put)
        threading.Thread(target=self._go, args=(self._journey,), daemon=True).start()
        self._poll()

    def choose_wheels(self) -> None:
        """Take everything from a folder that the user names."""
        chosen = filedialog.askdirectory(parent=self.root, title=say("A folder of wheels"), mustexist=True)
        if chosen:
            self._wish = replace(self._wish, wheels=Path(chosen))
            self._offer()

    def leave(self) -> None:
        """Close the window; what is at work is stopped first, and goes on the next time."""
        if self._journey is None:
            self.root.destroy()
            return
        self._leaving = True
        self._journey.stop.set()
        self._leave.say(say("Stopping…"))

    def show(self, progress: Progress) -> None:
        """Show how far it is."""
        self._steps.show(progress.step)
        self._bar.show(_whole_share(progress))
        self._detail.configure(text=progress.detail)

    def show_failure(self, error: SetupError) -> None:
        """Show what went wrong, and what to do."""
        self._steps.fail()
        self._detail.pack_forget()
        self._bar.canvas.pack_forget()
        self._bad.configure(text=error.message)
        self._bad.pack(fill="x", before=self._gap, pady=(pixels(self.root, 14), 0))
        self._text.configure(text=error.advice)
        self._text.pack(fill="x", before=self._gap, pady=(pixels(self.root, 4), 0))
        self._buttons(main=say("Try again"), leave=say("Close"), other=say("Show what was said"))
        self._other.do = self._show_log

    def _make(self) -> None:
        side = pixels(self.root, 28)
        page = tkinter.Frame(self.root, background=self._colours.background, padx=side, pady=pixels(self.root, 24))
        page.pack(fill="both", expand=True)
        colours, width = self._colours, pixels(self.root, _WIDTH) - 2 * side
        tkinter.Frame(page, width=width, height=1, background=colours.background).pack()
        paragraph(page, colours.text, colours, width, size=16, text=say("Set up QLoRA Studio")).pack(fill="x")
        tkinter.Frame(page, height=pixels(self.root, 12), background=colours.background).pack()
        self._bad = paragraph(page, colours.bad, colours, width, bold=True)
        self._text = paragraph(page, colours.text, colours, width)
        self._steps = StepList(page, colours, [(step, step.value) for step in Step])
        self._bar = Bar(page, colours, width)
        self._detail = paragraph(page, colours.muted, colours, width)
        self._gap = tkinter.Frame(page, height=pixels(self.root, 22), background=colours.background)
        self._gap.pack()
        row = tkinter.Frame(page, background=colours.background)
        row.pack(fill="x")
        self._other = Button(row, colours, self.choose_wheels, side="left")
        self._main = Button(row, colours, self.begin, side="right", is_main=True)
        self._leave = Button(row, colours, self.leave, side="right")

    def _offer(self) -> None:
        self._text.configure(text="\n\n".join(summary(self._places, self._wish)))
        self._text.pack(fill="x", before=self._gap)
        current = self._places.current()
        later = say("Start {version}", version=version_of(current.folder.name)) if current else say("Not now")
        self._buttons(main=say("Set up"), leave=later, other=say("Use a folder of wheels…"))

    def _buttons(self, *, main: str | None, leave: str, other: str | None) -> None:
        self._main.say(main)
        self._leave.say(leave)
        self._other.say(other)

    def _go(self, journey: Journey) -> None:
        try:
            journey.go()
        except (SetupError, Stopped) as end:
            self._news.put(end)
        except OSError as error:
            self._news.put(SetupError(say("A file could not be written: {why}.", why=error), say("Try again.")))
        else:
            self._news.put(None)

    def _poll(self) -> None:
        news: News
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, Progress):
                self.show(news)
                continue
            self._journey = None
            if isinstance(news, SetupError) and not self._leaving:
                self.show_failure(news)
            else:
                self.root.destroy()
            return
        self.root.after(_POLL_MILLISECONDS, self._poll)

    def _show_log(self) -> None:
        opener = "notepad" if sys.platform == "win32" else "xdg-open"
        try:
            subprocess.Popen([opener, str(self._places.log)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            self._text.configure(text=say("It is in {log}", log=self._places.log))


_ENDS = {Step.LOOK: 0.01, Step.PREPARE: 0.04, Step.CHOOSE: 0.08, Step.FETCH: 0.75, Step.INSTALL: 0.95, Step.TRY: 1.0}


def _whole_share(progress: Progress) -> float:
    """Return how much of all is done, by about how long each step takes."""
    ends = list(_ENDS.values())
    place = list(_ENDS).index(progress.step)
    start = ends[place - 1] if place else 0.0
    return start + (ends[place] - start) * (progress.share or 0.0)
