"""Catalogues: the template that a translator begins with, and the file that the window reads."""

import struct
from collections.abc import Callable, Iterable

from tests.words.messages import Message

_HEADER = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"


def template(messages: Iterable[Message]) -> str:
    """Return the template (.pot): each text once, with the places where it is said."""
    places: dict[tuple[str, ...], list[str]] = {}
    for message in messages:
        places.setdefault(message.texts, []).append(message.place)
    entries = [f'msgid ""\nmsgstr {_quoted(_HEADER)}']
    for texts, where in places.items():
        lines = [f"#: {' '.join(where)}", f"msgid {_quoted(texts[0])}"]
        several = [f"msgid_plural {_quoted(texts[1])}", 'msgstr[0] ""', 'msgstr[1] ""'] if len(texts) > 1 else []
        entries.append("\n".join([*lines, *(several or ['msgstr ""'])]))
    return "\n\n".join(entries) + "\n"


def compiled(messages: Iterable[Message], translate: Callable[[str], str]) -> bytes:
    """Return a catalogue (.mo) in which every text is what `translate` makes of it."""
    entries = {"": _HEADER}
    for message in messages:
        entries["\0".join(message.texts)] = "\0".join(map(translate, message.texts))
    return mo_file(entries)


def mo_file(entries: dict[str, str]) -> bytes:
    """Return the bytes of a catalogue, as the manual of GNU gettext gives them."""
    pairs = sorted((key.encode(), value.encode()) for key, value in entries.items())
    at = 28 + 16 * len(pairs)
    tables: tuple[list[int], list[int]] = ([], [])
    body = b""
    for side, table in enumerate(tables):
        for pair in pairs:
            table += [len(pair[side]), at + len(body)]
            body += pair[side] + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, at)
    return head + struct.pack(f"<{4 * len(pairs)}I", *tables[0], *tables[1]) + body


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
