"""Rows of CSV and TSV files. Every cell is text and stays as it stands: no numbers, no dates, no NA."""

import csv
from collections.abc import Iterator

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.datasets.line_rows import lines
from qlora_studio.storage.datasets.record import RAW_LIMIT, ROW_LIMIT, Record, first_twice, too_long
from qlora_studio.storage.datasets.stream import DatasetStream

_CELL_LIMIT = 16 << 20  # a quote that is never closed would fill the memory
_MOST_COLUMNS, _MOST_CELLS = 10_000, 4 << 20


def csv_records(stream: DatasetStream, *, delimiter: str = "", limit: int = ROW_LIMIT) -> Iterator[Record]:
    """Yield a record for every row under the header line, which also tells the delimiter where none is given."""
    csv.field_size_limit(_CELL_LIMIT)  # of the whole process; the module's own limit of 128 KiB refuses honest texts
    source = _Lines(stream, limit)
    delimiter = delimiter or delimiter_of(source.header_line())
    source.delimiter = delimiter.encode()
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    while True:
        source.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = source.fault or f"not {'TSV' if delimiter == chr(9) else 'CSV'}: {_words(error)}"
            if columns is None:
                raise _bad_header(stream, fault) from error
            yield Record(source.line, source.offset, {}, fault, source.raw)
            continue
        if not cells:
            continue
        if columns is None:
            columns = _columns(stream, cells, source.fault)
        else:
            yield _record(source, columns, cells)


def delimiter_of(header: str) -> str:
    """Return what separates the names of a header line: the first of comma, tab, semicolon and bar that it has."""
    outside = "".join(header.split('"')[::2])
    return next((sign for sign in (",", "\t", ";", "|") if sign in outside), ",")


class _Lines:
    """Hands lines to the CSV reader and remembers where the row began that it is reading."""

    def __init__(self, stream: DatasetStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._lines = lines(stream, limit)
        self._next: tuple[int, int, bytes, int] | None = next(self._lines, None)
        self._number = 0
        self._size = self._cells = 0
        self.line = self.offset = 0
        self.raw = self.fault = ""
        self.delimiter = b","

    def header_line(self) -> str:
        """Return the first line that is not empty."""
        return self._next[2].decode("utf-8", "replace") if self._next else ""

    def begin_row(self) -> None:
        """Say that the next line begins a row."""
        self.line = self.offset = self._size = self._cells = 0
        self.raw = self.fault = ""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._next is None:
            raise StopIteration
        number, offset, data, size = self._next
        self._number += 1
        if self._number < number:  # an empty line, which a quoted cell may go over
            self._remember("\n", self._number, offset)
            return "\n"
        self._next = next(self._lines, None)
        text = self._text(number, offset, data, size)
        self._remember(text, number, offset)
        return text

    def _text(self, number: int, offset: int, data: bytes, size: int) -> str:
        self._size += size
        self._cells += data.count(self.delimiter)
        if self._size > self._limit or self._cells > _MOST_CELLS:
            self.fault = too_long(self._limit) if self._size > self._limit else "the row has too many cells"
            self._remember(data[:RAW_LIMIT].decode("utf-8", "replace"), number, offset)
            raise csv.Error(self.fault)
        try:
            return data.decode() + "\n"
        except UnicodeDecodeError:
            self.fault = self.fault or self._stream.encoding.fault(data, offset)
            return data.decode("utf-8", "replace") + "\n"

    def _remember(self, text: str, number: int, offset: int) -> None:
        if not self.line:
            self.line, self.offset = number, offset
        if len(self.raw) < RAW_LIMIT:
            self.raw = (self.raw + text)[:RAW_LIMIT]


def _columns(stream: DatasetStream, cells: list[str], fault: str) -> list[str]:
    if fault:
        raise _bad_header(stream, fault)
    if len(cells) > _MOST_COLUMNS:
        raise _bad_header(stream, say("it has more than {most_columns:,} columns", most_columns=_MOST_COLUMNS))
    names = [cell or f"column {number}" for number, cell in enumerate(cells, 1)]
    if (twice := first_twice(names)) is not None:
        raise _bad_header(stream, say("the column '{twice}' stands there twice", twice=twice[:40]))
    return names


def _record(source: _Lines, columns: list[str], cells: list[str]) -> Record:
    fault = source.fault
    if not fault and len(cells) != len(columns):
        fault = f"the row has {len(cells)} cells, but the header has {len(columns)}"
    value = {} if fault else dict(zip(columns, cells, strict=True))
    return Record(source.line, source.offset, value, fault, source.raw.rstrip("\r\n"))


def _words(error: csv.Error) -> str:
    message = str(error)
    if message.startswith("unexpected end"):
        return "a quote is opened here and never closed"
    if message.startswith("field larger"):
        return f"a cell is longer than {_CELL_LIMIT >> 20} MiB; a quote may not be closed"
    if "expected after" in message:
        return "something follows a closing quote within its cell"
    if message.startswith("new-line"):
        return "a carriage return stands alone outside of quotes"
    return message


def _bad_header(stream: DatasetStream, fault: str) -> StudioError:
    return StudioError(
        say("The header of {name} cannot be read: {fault}.", name=stream.file.path.name, fault=fault),
        kind=FailureKind.DATA_REFUSED,
        advice=say("The first line must name the columns, each once."),
    )
