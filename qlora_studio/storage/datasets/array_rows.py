"""Rows that are the elements of one JSON array, one at a time: the array itself is never in memory.

Each element is read by Python's JSON scanner where it stands in the text. An element that is not JSON is passed over:
its end is the next comma or closing bracket outside of its texts, objects and lists; so the rows behind it are still
read.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from qlora_studio.storage.datasets.record import RAW_LIMIT, ROW_LIMIT, Record, too_long
from qlora_studio.storage.datasets.stream import DatasetStream
from qlora_studio.storage.datasets.strict_json import json_fault, object_record, raw_decode

_NOT_WHITE = re.compile(r"[^ \t\r\n]")
_MARK = re.compile(r'["{}\[\],]')
_STRING_MARK = re.compile(r'["\\]')
# The longest thing that the scanner cannot judge before it is whole: `-Infinity`, an escape, a number's exponent.
_SLACK = 32
_LARGEST_PIECE = 16 << 20


def array_records(stream: DatasetStream, *, limit: int = ROW_LIMIT) -> Iterator[Record]:
    """Yield a record for every element of the array. What is wrong between elements is a record too."""
    text = _Text(stream)
    if text.next_sign() == "":
        return
    text.skip(1)  # the opening bracket, which chose this reader
    previous = "["
    while True:
        sign = text.next_sign()
        if sign == "":
            yield text.record("the file ends inside the array: its end is missing", "")
            return
        if sign == "]" and previous != ",":
            break
        if sign in ",]":
            yield text.record(
                "no row stands after the comma" if previous == "," else "no row stands before the comma", ""
            )
        else:
            missing = previous == "row"
            yield _element(text, limit, missing)
            sign = text.next_sign()
        if sign == ",":
            text.skip(1)
            previous = ","
        elif sign == "]":
            break
        else:
            previous = "row"
    text.skip(1)
    if text.next_sign():
        line, offset = text.place()
        yield Record(line, offset, {}, "something follows the end of the array", text.shown(text.rest()))


class _Text:
    """The decoded text from the current place on, as much as is needed of it."""

    def __init__(self, stream: DatasetStream) -> None:
        self._stream = stream
        self._blocks = stream.blocks()
        # Bytes that are no text come through as lone surrogates and are found in their row.
        self._errors = "surrogateescape" if stream.encoding.name == "utf-8" else "surrogatepass"
        self._decoder = codecs.getincrementaldecoder("utf-8")(self._errors)
        self._line = 1
        self._offset = -1
        self.text = ""
        self.at = 0
        self.ended = False

    def more(self) -> None:
        """Read another piece; where the text is long already, as much again, so that nothing is scanned too often."""
        pieces = [self.text[self.at :]]
        wanted = min(len(pieces[0]), _LARGEST_PIECE)
        self.at = 0
        while not self.ended:
            block = next(self._blocks, b"")
            self.ended = not block
            pieces.append(self._decoder.decode(block, self.ended))
            wanted -= len(pieces[-1])
            if wanted <= 0 and pieces[-1]:
                break
        self.text = "".join(pieces)
        if self._offset < 0:
            self._offset = self._stream.encoding.bom_size

    def next_sign(self) -> str:
        """Go to the next sign that is not white space and return it, or nothing at the end."""
        while True:
            found = _NOT_WHITE.search(self.text, self.at)
            if found:
                self.skip(found.start() - self.at)
                return found.group()
            self.skip(len(self.text) - self.at)
            if self.ended:
                return ""
            self.more()

    def skip(self, size: int) -> str:
        """Go on by so many characters and return them."""
        passed = self.text[self.at : self.at + size]
        self.at += size
        self._line += passed.count("\n")
        self._offset += self._width(passed)
        return passed

    def record(self, fault: str, raw: str) -> Record:
        """Return a rejected record at this place."""
        return Record(self._line, max(0, self._offset), {}, fault, self.shown(raw))

    def place(self) -> tuple[int, int]:
        """Return line and offset of this place."""
        return self._line, self._offset

    def fault(self, raw: str, offset: int) -> str:
        """Return why undecodable text is refused."""
        return self._stream.encoding.fault(raw.encode("utf-8", self._errors), offset)

    def shown(self, raw: str) -> str:
        """Return text as it can be shown, without what is undecodable."""
        return raw[:RAW_LIMIT].encode("utf-8", self._errors).decode("utf-8", "replace")

    def rest(self) -> str:
        """Go to the end of the file; return the beginning of what was passed."""
        raw = ""
        while True:
            passed = self.skip(len(self.text) - self.at)
            raw += passed[: max(0, RAW_LIMIT - len(raw))]
            if self.ended:
                return raw
            self.more()

    def _width(self, passed: str) -> int:
        if passed.isascii() and self._stream.encoding.name != "utf-16":
            return len(passed)
        return self._stream.encoding.width(passed.encode("utf-8", self._errors))


def _element(text: _Text, limit: int, comma_is_missing: bool) -> Record:
    line, offset = text.place()
    try:
        value, end = _scanned(text, limit)
    except (ValueError, RecursionError) as error:
        fault = json_fault(error, text.at)
        raw, size = _pass_over(text)
        return Record(line, offset, {}, too_long(limit) if size > limit else fault, text.shown(raw))
    raw = text.skip(end - text.at)
    return _judged(text, line, offset, value, raw, limit, comma_is_missing)


def _scanned(text: _Text, limit: int) -> tuple[Any, int]:
    """Return the value at this place and where it ends, reading on as long as the scanner may just lack the rest."""
    while True:
        try:
            value, end = raw_decode(text.text, text.at)
            # A bare number may go on: of `0.5`, `0.` would pass as 0.
            behind = 1 if text.text[text.at] in '{["' else _SLACK
            if end + behind <= len(text.text) or text.ended:
                return value, end
        except json.JSONDecodeError as error:
            whole = error.pos < len(text.text) - _SLACK and not error.msg.startswith("Unterminated string")
            if whole or text.ended or len(text.text) - text.at > limit + _SLACK:
                raise
        text.more()


def _judged(text: _Text, line: int, offset: int, value: Any, raw: str, limit: int, comma_is_missing: bool) -> Record:
    if len(raw) > limit:
        return Record(line, offset, {}, too_long(limit), text.shown(raw))
    if not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError:
            return Record(line, offset, {}, text.fault(raw, offset), text.shown(raw))
    if comma_is_missing:
        return Record(line, offset, {}, "not JSON: no comma stands before this row", raw[:RAW_LIMIT])
    return object_record(line, offset, value, raw)


def _pass_over(text: _Text) -> tuple[str, int]:
    """Go to the end of an element that is not JSON; return the beginning of its text, and its size."""
    end = _ElementEnd()
    raw, size = "", 0
    while True:
        found = end.search(text.text, text.at)
        passed = text.skip((len(text.text) if found is None else found) - text.at)
        size += len(passed)
        raw += passed[: max(0, RAW_LIMIT - len(raw))]
        if found is not None or text.ended:
            return raw, size
        text.more()


class _ElementEnd:
    """Looks for the end of an element, piece by piece."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def search(self, text: str, at: int) -> int | None:
        """Return where the element ends in this piece, or None."""
        if self._escaped and at < len(text):
            at += 1
            self._escaped = False
        while found := (_STRING_MARK if self._in_string else _MARK).search(text, at):
            sign, at = found.group(), found.end()
            if sign == "\\":
                self._escaped = at >= len(text)
                at += 1
            elif sign == '"':
                self._in_string = not self._in_string
            elif sign in "{[":
                self._depth += 1
            elif self._depth == 0 and sign in ",]":
                return found.start()
            elif sign in "}]":
                self._depth = max(0, self._depth - 1)
        return None
