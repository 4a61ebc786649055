"""What the Runs page says of its runs, in which order and which columns, as values."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from qlora_studio.core.frozen import changed
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say, say_count
from qlora_studio.storage.run_care.report_pack import MOST_ROWS
from qlora_studio.storage.run_care.run_import import Copying
from qlora_studio.ui.state.run_line import PAUSED, RunLine

# The columns by the names that the settings know, in their order, with their headings.
COLUMNS = {
    "name": say("Name"),
    "model": say("Model"),
    "state": say("State"),
    "steps": say("Steps"),
    "loss": say("Eval loss"),
    "when": say("When"),
    "size": say("On disk"),
    "tags": say("Tags"),
    "rank": say("Rank"),
    "parameters": say("Parameters"),
    "energy": say("Energy"),
    "folder": say("Folder"),
}
ALWAYS = "name"
USUAL = ("name", "model", "state", "steps", "loss", "size", "when")
SPARE = ("size", "model", "when")  # of the usual ones, what is left out first where there is no room
NARROW = 700  # pixels, below which the page leaves out what is told elsewhere
# Where it is narrow, unless the order goes by it:
_LEFT_OUT = ("model", "size", "tags", "parameters", "energy", "folder", "rank")
_NAMED = 8  # of several runs, in a question
_ORDER: dict[str, Callable[[RunLine], object]] = {
    "name": lambda line: _natural(line.name),
    "model": lambda line: _natural(line.model),
    "state": lambda line: (line.state, line.queued),
    "steps": lambda line: line.step if line.total_steps else None,
    "loss": lambda line: line.evaluation_loss,
    "when": lambda line: line.when or None,
    "size": lambda line: line.size,
    "tags": lambda line: _natural(", ".join(line.label.tags)) or None,
    "rank": lambda line: None if line.problem else line.rank,
    "parameters": lambda line: line.parameters or None,
    "energy": lambda line: line.energy_joules,
    "folder": lambda line: _natural(Path(line.path).name),
}


def with_queue(lines: Sequence[RunLine], waiting: Sequence[str], waits_for: str = "") -> tuple[RunLine, ...]:
    """Return the runs with their places in the queue, from 1, the first with what it waits for."""
    places = {path: index + 1 for index, path in enumerate(waiting)}
    queued = [places.get(str(Path(line.path).resolve()), 0) if places else 0 for line in lines]
    return tuple(
        changed(line, queued=place, waits_for=waits_for if place == 1 else "") if place else line
        for line, place in zip(lines, queued, strict=True)
    )


def with_sizes(lines: Iterable[RunLine], sizes: Mapping[str, int]) -> tuple[RunLine, ...]:
    """Return the runs with what each takes of the disk, where that was measured."""
    return tuple(changed(line, size=sizes[line.path]) if line.path in sizes else line for line in lines)


def heading(lines: Sequence[RunLine], place: str) -> str:
    """Return how many runs there are, how many are at work, what all take of the disk, and where they lie."""
    at_work = sum(line.busy for line in lines)
    sizes = [line.size for line in lines if line.size is not None]
    words = [
        say_count(len(lines), "{count:,} run", "{count:,} runs"),
        say("{at_work} at work", at_work=at_work) if at_work else "",
    ]
    words += [say("{sizes} on disk", sizes=bytes_text(sum(sizes))) if sizes and len(sizes) == len(lines) else "", place]
    return " · ".join(filter(None, words))


def ordered(lines: Iterable[RunLine], column: str, *, descending: bool = False) -> tuple[RunLine, ...]:
    """Return the runs by a column, those of which it is not known last; by none, as they came: the newest first."""
    if (key := _ORDER.get(column)) is None:
        return tuple(lines)
    keyed = [(key(line), line) for line in lines]
    known = sorted((pair for pair in keyed if pair[0] is not None), key=lambda pair: pair[0], reverse=descending)  # type: ignore[arg-type, return-value]
    return tuple(line for _, line in known) + tuple(line for value, line in keyed if value is None)


def matching(lines: Iterable[RunLine], text: str) -> tuple[RunLine, ...]:
    """Return the runs that have every word of a text: in name, model, state, tags, note or folder."""
    words = text.lower().split()
    return tuple(line for line in lines if all(word in _all_words(line) for word in words))


def shown_columns(chosen: Sequence[str], lines: Iterable[RunLine], *, order: str, narrow: bool) -> set[str]:
    """Return the columns that are shown: those chosen, else the usual ones, and tags as soon as a run has any."""
    wanted = {ALWAYS, *(name for name in chosen if name in COLUMNS)} if chosen else set(USUAL)
    if not chosen and any(line.label.tags for line in lines):
        wanted.add("tags")
    if not narrow:
        return wanted
    instead = {"when"} if order in _LEFT_OUT else set()  # of which there is room for one: the name needs some, too
    return {name for name in wanted - instead if name not in _LEFT_OUT or name == order}


def name_tip(line: RunLine) -> str:
    """Return what stands behind a run's name."""
    given = (
        say("in its settings: {given_name}", given_name=line.given_name)
        if line.label.name and line.given_name != line.name
        else ""
    )
    parent = say("goes on from {parent}", parent=line.parent) if line.parent else ""
    return "\n".join(filter(None, (line.model, given, parent, line.label.note, line.path)))


def unfinished(lines: Sequence[RunLine]) -> RunLine | None:
    """Return the run that a launch stands before: one at work, one that broke off, or the newest where it is paused."""
    for waits in (lambda line: line.busy, lambda line: line.broken):
        if found := next(filter(waits, lines), None):
            return found
    return lines[0] if lines and lines[0].state == PAUSED else None


def recovery_text(line: RunLine) -> str:
    """Return what happened to a run that broke off, and what is safe."""
    if line.step:
        what = say("{name} broke off at step {step:,}.", name=line.name, step=line.step)
    else:
        what = say("{name} broke off.", name=line.name)
    if line.safe_step is None:
        return f"{what} " + say("It has no checkpoint yet: it would begin again from the start.")
    return f"{what} " + say("Its checkpoint of step {step:,} is safe.", step=line.safe_step)


def recovery_advice(broken: int) -> str:
    """Return what can be done about runs that broke off, of which the first is named."""
    gone = say("Its worker is gone: the computer was switched off, or somebody ended it.")
    if broken < 2:
        return gone
    more = say_count(broken - 1, "Another run broke off, too.", "{count} other runs broke off, too.")
    return f"{gone} {more}"


def below_text(lines: Sequence[RunLine]) -> str:
    """Return what the page says below the list of the runs that are selected."""
    if len(lines) > 1:
        sizes = [line.size for line in lines]
        known = [size for size in sizes if size is not None]
        parts = [say_count(len(lines), "{count:,} run selected", "{count:,} runs selected")]
        parts += [say("{size} on disk", size=bytes_text(sum(known)))] if len(known) == len(sizes) else []
        return " · ".join(parts)
    if not lines:
        return ""
    label = lines[0].label
    return "\n".join(filter(None, (lines[0].remark, label.note)))


def command_lines(run: str) -> tuple[tuple[str, str], ...]:
    """Return, for each shell, the command line that starts the same run anew, from the settings in its folder."""
    words = ("qlora-studio", "train", str(Path(run) / "run.toml"))
    return (
        (say("Linux and macOS (bash, zsh)"), shlex.join(words)),
        (say("Windows (PowerShell)"), " ".join((*words[:2], "'" + words[2].replace("'", "''") + "'"))),
    )


def taking_text(sources: Sequence[Path], copying: Copying) -> str:
    """Return how far the first of these runs is copied, and how many wait."""
    name = sources[0].name
    if copying.stopped:
        text = say("{name}: what was copied is removed …", name=name)
    elif not copying.total:
        text = say("{name} is looked at …", name=name)
    else:
        done, total = bytes_text(copying.done), bytes_text(copying.total)
        share = copying.done / copying.total
        text = say("{name} is copied: {share:.0%}, {done} of {total}", name=name, share=share, done=done, total=total)
    return say("{copied} · {count} more after it", copied=text, count=len(sources) - 1) if len(sources) > 1 else text


def taken_text(name: str) -> str:
    """Return what became of a run that was taken in."""
    return say(
        "{name} is among the runs now. Unless it is one of yours it can be looked at, and no more, until you trust it.",
        name=name,
    )


def own_text_words(dataset: str) -> str:
    """Return what of its user's goes into a report that is packed with data."""
    return say(
        "The report then holds your own text: names, folders, prompts, answers and messages of the run, worker.log, "
        "and the first {rows} rows of {dataset}. Look at it before you send it.",
        rows=MOST_ROWS,
        dataset=dataset,
    )


def report_text(path: Path, *, with_data: bool = False) -> str:
    """Return what is in a report that was packed, and what is not."""
    if with_data:
        return say(
            "{path} holds your own text, too: settings, messages, prompts, answers and rows. Look at it before you "
            "send it; CONTENTS.txt says what is there.",
            path=path,
        )
    return say(
        "{path} holds the run's numbers, choices among settings, and versions. No rows, prompts, "
        "answers, names, folders or messages are in it; CONTENTS.txt says so too.",
        path=path,
    )


def removal_question(lines: Sequence[RunLine], all_lines: Iterable[RunLine]) -> tuple[str, str]:
    """Return what is asked before runs go to the trash, and what should be known then."""
    one = len(lines) == 1
    what = lines[0].name if one else say_count(len(lines), "{count:,} run", "{count:,} runs")
    sizes = [line.size for line in lines if line.size is not None]
    size = (
        say(
            "{one} {sizes} of the disk, ",
            one=say("It takes") if one else say("They take"),
            sizes=bytes_text(sum(sizes)),
        )
        if sizes
        else ""
    )
    freed = (
        say("which are free once the trash is emptied.")
        if sizes
        else say("The disk is freed once the trash is emptied.")
    )
    going = {line.given_name or line.name for line in lines}
    children = [line.name for line in all_lines if line not in lines and _parents(line) & going]
    return say("Move {what} to the trash?", what=what), "\n".join(
        (
            say(
                "Settings, curves, checkpoints, the adapter and all exports in {one} along. {size}{freed}",
                one=say("its folder go") if one else say("their folders go"),
                size=size,
                freed=freed,
            ),
            *(f"– {line.name}" for line in lines[:_NAMED] if not one),
            *([say("– and {lines} more", lines=len(lines) - _NAMED)] if len(lines) > _NAMED else []),
            *(say("{name} goes on from it.", name=name) for name in children[:_NAMED]),
        )
    )


def _parents(line: RunLine) -> set[str]:
    return set(line.parent.split(" → ")) if line.parent else set()


def _all_words(line: RunLine) -> str:
    texts = (line.name, line.given_name, line.model, line.words, *line.label.tags, line.label.note)
    return " ".join((*texts, Path(line.path).name)).lower()


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return what has run 2 stand before run 10."""
    parts = re.findall(r"\d+|\D+", text.casefold())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
