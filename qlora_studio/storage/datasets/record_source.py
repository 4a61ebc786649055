"""Which reader of rows a file needs."""

from collections.abc import Iterator

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.datasets.array_rows import array_records
from qlora_studio.storage.datasets.arrow_rows import arrow_records
from qlora_studio.storage.datasets.csv_rows import csv_records
from qlora_studio.storage.datasets.encoding import TextEncoding
from qlora_studio.storage.datasets.files import CONTAINER_NAMES, DatasetFile
from qlora_studio.storage.datasets.line_rows import json_line_records, text_records
from qlora_studio.storage.datasets.record import ROW_LIMIT, Record
from qlora_studio.storage.datasets.stream import DatasetStream, Meter
from qlora_studio.storage.datasets.strict_json import raw_decode

_ARRAY_NAME = "JSON array"
_HEAD_SIZE = 1 << 16


def records_of(
    file: DatasetFile,
    encoding: str,
    meter: Meter,
    *,
    block_size: int,
    limit: int = ROW_LIMIT,
    with_raw: bool = True,
) -> Iterator[Record]:
    """Return the records of a file. They raise StudioError where it cannot be read on."""
    if file.container in ("parquet", "arrow"):
        return arrow_records(file, meter, with_raw=with_raw)
    stream = DatasetStream(file, TextEncoding(encoding), meter, block_size=block_size)
    if file.container == "text":
        return text_records(stream, limit=limit)
    if file.container in ("csv", "tsv"):
        return csv_records(stream, delimiter="\t" if file.container == "tsv" else "", limit=limit)
    return array_records(stream, limit=limit) if _is_array(file, encoding) else json_line_records(stream, limit=limit)


def container_name(file: DatasetFile, encoding: str) -> str:
    """Return what a file is, in words. JSON is told by its first sign: an array, or a row per line."""
    if file.container in ("json", "jsonl"):
        name = _ARRAY_NAME if _is_array(file, encoding) else CONTAINER_NAMES["jsonl"]
    else:
        name = CONTAINER_NAMES[file.container]
    return f"{name}, {file.compression}" if file.compression else name


def _is_array(file: DatasetFile, encoding: str) -> bool:
    """Whether a JSON file is one array. Raises StudioError where it is an object over several lines."""
    first, rest = _beginning(file, encoding)
    if first.startswith("["):
        # The first row of JSON Lines may be a list by mistake: then it is whole, and other rows follow.
        return file.container == "json" or not rest or not _is_whole(first)
    if file.container == "jsonl" and first.startswith("{") and rest and _goes_on(f"{first}\n{rest}", len(first)):
        raise StudioError(
            say("The rows of {name} are JSON objects over several lines, not an object per line.", name=file.path.name),
            kind=FailureKind.DATA_REFUSED,
            advice=say(
                "Save them without line breaks and indents, or as an array, [ … ], in a file that is called .json."
            ),
        )
    if file.container == "json" and first.startswith("{") and rest and not first.endswith("}"):
        raise StudioError(
            say("{name} is one JSON object, not a list of rows.", name=file.path.name),
            kind=FailureKind.DATA_REFUSED,
            advice=say("Save the rows as an array, [ … ], or as JSON Lines: an object per line."),
        )
    return False


def _beginning(file: DatasetFile, encoding: str) -> tuple[str, str]:
    """Return the first line that is not blank, and what follows it, both as far as the first bytes reach."""
    head = b""
    for block in DatasetStream(file, TextEncoding(encoding), Meter(0), block_size=_HEAD_SIZE).blocks():
        head = (head + block).lstrip(b" \t\r\n")
        if len(head) >= _HEAD_SIZE:
            break
    first, _, rest = head.decode("utf-8", "replace").partition("\n")
    return first.rstrip(), rest.strip()


def _goes_on(text: str, length: int) -> bool:
    """Whether the object that begins in a first line of this length ends in a later one."""
    if text[:length].strip() == "{":
        return True
    try:
        return raw_decode(text)[1] > length
    except (ValueError, RecursionError):
        return False


def _is_whole(line: str) -> bool:
    try:
        raw_decode(line)
    except (ValueError, RecursionError):
        return False
    return True
