"""Rows that are lines: JSON Lines and plain text. A blank line is not a row; only a line feed ends a line."""

from collections.abc import Iterator

from qlora_studio.storage.datasets.record import RAW_LIMIT, ROW_LIMIT, Record, too_long
from qlora_studio.storage.datasets.stream import DatasetStream
from qlora_studio.storage.datasets.strict_json import json_record

_WHITE = " \t\r\n"
_BOM = "\ufeff"  # stands before a line where files were put together


def json_line_records(stream: DatasetStream, *, limit: int = ROW_LIMIT) -> Iterator[Record]:
    """Yield a record for every line of JSON Lines that is not blank."""
    for line, offset, data, size in lines(stream, limit):
        if size > limit:
            yield _overlong(line, offset, data, limit)
            continue
        try:
            text = data.decode().strip(_WHITE).removeprefix(_BOM)
        except UnicodeDecodeError:
            yield undecodable(stream, line, offset, data)
            continue
        if text:
            yield json_record(line, offset, text)


def text_records(stream: DatasetStream, *, limit: int = ROW_LIMIT) -> Iterator[Record]:
    """Yield a record with the column `text` for every line that is not blank, without its line ending."""
    for line, offset, data, size in lines(stream, limit):
        if size > limit:
            yield _overlong(line, offset, data, limit)
            continue
        try:
            text = data.decode().removesuffix("\r")
        except UnicodeDecodeError:
            yield undecodable(stream, line, offset, data)
            continue
        if text and not text.isspace():
            yield Record(line, offset, {"text": text}, "", text[:RAW_LIMIT])


def lines(stream: DatasetStream, limit: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Yield (line, offset, bytes without the line feed, size) of every line that is not empty.

    Of a line above the limit only the beginning may be there; `size` tells.
    """
    width, is_utf8 = stream.encoding.width, stream.encoding.name == "utf-8"
    newline = 2 if stream.encoding.name == "utf-16" else 1
    number, offset = 0, -1
    held = _HeldLine(limit)
    for block in stream.blocks():
        if offset < 0:
            offset = stream.encoding.bom_size
        ended = block.split(b"\n")
        rest = ended.pop()
        if ended and held.size:
            held.add(ended[0], width(ended[0]))
            ended[0] = b""
            yield number + 1, offset, held.data(), held.size
            offset += held.width
            held = _HeldLine(limit)
        for data in ended:
            number += 1
            if data:
                yield number, offset, data, len(data)
            offset += (len(data) if is_utf8 else width(data)) + newline
        if rest:
            held.add(rest, width(rest))
    if held.size:
        yield number + 1, offset, held.data(), held.size


def undecodable(stream: DatasetStream, line: int, offset: int, data: bytes) -> Record:
    """Return the record of a row that is no text in the file's encoding."""
    return Record(line, offset, {}, stream.encoding.fault(data, offset), data[:RAW_LIMIT].decode("utf-8", "replace"))


class _HeldLine:
    """A line that goes on in the next block. Beyond the limit its bytes are counted and forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self.size = 0
        self.width = 0

    def add(self, piece: bytes, width: int) -> None:
        """Add what follows; `width` is its size in the file."""
        self.size += len(piece)
        self.width += width
        if self.size <= self._limit or sum(map(len, self._pieces)) < RAW_LIMIT:
            self._pieces.append(piece)
        else:
            self._pieces = [b"".join(self._pieces)[:RAW_LIMIT]]

    def data(self) -> bytes:
        """Return the line, or its beginning where it is above the limit."""
        return b"".join(self._pieces)


def _overlong(line: int, offset: int, data: bytes, limit: int) -> Record:
    return Record(line, offset, {}, too_long(limit), data[:RAW_LIMIT].decode("utf-8", "replace"))
