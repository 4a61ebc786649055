"""Text with everything in it that cannot be seen made visible: controls, zero-width and bidi characters, blanks."""

import unicodedata
from dataclasses import dataclass

_NAMES = {
    0x00: "NUL",
    0x0B: "VT",
    0x0C: "FF",
    0x0D: "CR",
    0x1B: "ESC",
    0xA0: "NBSP",
    0xAD: "SHY",
    0x200B: "ZWSP",
    0x200C: "ZWNJ",
    0x200D: "ZWJ",
    0x200E: "LRM",
    0x200F: "RLM",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2060: "WJ",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
    0xFEFF: "BOM",
    0xFFFD: "U+FFFD",
}
_UNSEEN = ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")
NEW_LINE, TAB, DOTTED_CIRCLE = "⏎", "⇥", "◌"


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of text to paint. `unseen` marks a name that stands for a character; `ends_line` ends the line."""

    text: str
    unseen: bool = False
    ends_line: bool = False


def visible_runs(text: str) -> list[Run]:
    """Return `text` as stretches: as it is, with names for what cannot be seen, and with marks for line ends."""
    runs: list[Run] = []
    plain = ""
    for character in text:
        mark = _mark(character, first=not plain)
        if mark is None:
            plain += character
            continue
        if plain:
            runs.append(Run(plain))
            plain = ""
        if mark.unseen or mark.ends_line:
            runs.append(mark)
        else:
            plain = mark.text
    return [*runs, Run(plain)] if plain else runs


def visible_text(text: str) -> str:
    """Return `text` in one line with everything visible, for tooltips: ⏎ is a line end, ‹ZWSP› a character's name."""
    return "".join(f"‹{run.text}›" if run.unseen and run.text != TAB else run.text for run in visible_runs(text))


def visible_lines(text: str) -> str:
    """Return `text` with its lines and tabs, and names for what cannot be seen or would turn the order around."""
    marks = ((character, _mark(character, first=False)) for character in set(text) - {"\n", "\t"})
    return text.translate({ord(character): f"‹{mark.text}›" for character, mark in marks if mark and mark.unseen})


def _mark(character: str, *, first: bool) -> Run | None:
    if character == "\n":
        return Run(NEW_LINE, ends_line=True)
    if character == "\t":
        return Run(TAB, unseen=True)
    category = unicodedata.category(character)
    if ord(character) in _NAMES or category in _UNSEEN:
        return Run(_NAMES.get(ord(character), f"U+{ord(character):04X}"), unseen=True)
    if category == "Zs" and character != " ":
        return Run(f"U+{ord(character):04X}", unseen=True)
    if first and category in ("Mn", "Me"):
        return Run(DOTTED_CIRCLE + character)
    return None
