"""Rows of Parquet and Arrow files. Bytes (pictures, sound) are not read; a column of nothing else is named as such."""

import json
from collections.abc import Iterator
from typing import Any

from qlora_studio.core.data.values import BINARY
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.datasets.arrow_values import Reader, is_binary, is_list, reader_of
from qlora_studio.storage.datasets.files import DatasetFile
from qlora_studio.storage.datasets.record import RAW_LIMIT, ROW_LIMIT, Record, first_twice, too_long
from qlora_studio.storage.datasets.stream import Meter
from qlora_studio.storage.datasets.strict_json import NotJson

_BATCH_ROWS = 256
_MUCH = 4 * ROW_LIMIT


def arrow_records(file: DatasetFile, meter: Meter, *, with_raw: bool = True) -> Iterator[Record]:
    """Yield a record for every row of a Parquet file, or of an Arrow file or stream. Raises StudioError."""
    import pyarrow

    number = 0
    readers: dict[str, Reader | None] = {}
    try:
        for batch, unread in _batches(file, meter):
            if number == 0:
                readers = {field.name: reader_of(field) for field in batch.schema}
            for value, fault in _rows(batch, readers):
                number += 1
                if not fault:
                    value |= dict.fromkeys(unread, BINARY)
                yield Record(number, -1, value, fault, _raw(value) if with_raw and not fault else "")
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise StudioError(
            say(
                "{name} is damaged, or of a kind that cannot be read, after row {number}.",
                name=file.path.name,
                number=number,
            ),
            kind=FailureKind.DATA_REFUSED,
            advice=say("Copy or download it again."),
            detail=str(error),
        ) from error


def _check_names(file: DatasetFile, names: list[str]) -> None:
    """Refuse columns of the same name: of a row only one of them would be left."""
    if (twice := first_twice(names)) is not None:
        raise StudioError(
            say("{name} has two columns '{twice}'.", name=file.path.name, twice=twice[:40]),
            kind=FailureKind.DATA_REFUSED,
            advice=say("Rename one of them, and save it again."),
        )


def _batches(file: DatasetFile, meter: Meter) -> Iterator[tuple[Any, list[str]]]:
    """Yield batches of rows, each with the names of the columns that are not read."""
    if file.container == "parquet":
        return _parquet_batches(file, meter)
    return _ipc_batches(file, meter)


def _parquet_batches(file: DatasetFile, meter: Meter) -> Iterator[tuple[Any, list[str]]]:
    from pyarrow import parquet

    with parquet.ParquetFile(file.path, pre_buffer=False, buffer_size=1 << 20) as source:
        total = max(1, source.metadata.num_rows)
        _check_names(file, source.schema_arrow.names)
        unread = [field.name for field in source.schema_arrow if _is_binary_alone(field.type)]
        columns = [field.name for field in source.schema_arrow if field.name not in unread]
        done = told = 0
        for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
            yield batch, unread
            done += batch.num_rows
            meter.advance(file.size_bytes * done // total - told)
            told = file.size_bytes * done // total


def _ipc_batches(file: DatasetFile, meter: Meter) -> Iterator[tuple[Any, list[str]]]:
    import pyarrow

    with pyarrow.memory_map(str(file.path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        reader = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        _check_names(file, reader.schema.names)
        unread = [field.name for field in reader.schema if _is_binary_alone(field.type)]
        columns = [field.name for field in reader.schema if field.name not in unread]
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        told = 0
        for batch in batches:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield batch.slice(start, _BATCH_ROWS).select(columns), unread
            meter.advance(source.tell() - told)
            told = source.tell()


def _rows(batch: Any, readers: dict[str, Reader | None]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (row, fault); where a batch holds what cannot be read, or a lot, its rows are read one by one."""
    try:
        rows = None if _weight(batch) > _MUCH else [_read(row, readers) for row in batch.to_pylist()]
    except (UnicodeDecodeError, NotJson):
        rows = None
    if rows is None:
        for number in range(batch.num_rows):
            yield _row_alone(batch.slice(number, 1), readers)
    else:
        yield from ((row, "") for row in rows)


def _row_alone(batch: Any, readers: dict[str, Reader | None]) -> tuple[dict[str, Any], str]:
    if _weight(batch) > ROW_LIMIT:
        return {}, too_long(ROW_LIMIT)
    try:
        return _read(batch.to_pylist()[0], readers), ""
    except UnicodeDecodeError:
        return {}, "a text of this row is not UTF-8"
    except NotJson:
        return {}, "a value of this row is said to be JSON, and is not"


def _weight(batch: Any) -> int:
    """Return how many bytes the values of a batch may take: each of a dictionary's as if it were its longest."""
    from pyarrow import types

    kept = [column.dictionary.nbytes for column in batch.columns if types.is_dictionary(column.type)]
    return int(batch.nbytes + batch.num_rows * sum(kept))


def _read(row: dict[str, Any], readers: dict[str, Reader | None]) -> dict[str, Any]:
    return {name: value if (read := readers[name]) is None else read(value) for name, value in row.items()}


def _is_binary_alone(kind: Any) -> bool:
    """Whether a column is bytes, or a picture or sound as `datasets` keeps them: an object of bytes and a path."""
    from pyarrow import types

    kind = getattr(kind, "storage_type", kind)
    if types.is_struct(kind):
        return {part.name for part in kind} <= {"bytes", "path"} and any(is_binary(part.type) for part in kind)
    return _is_binary_alone(kind.value_type) if is_list(kind) else is_binary(kind)


def _raw(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:RAW_LIMIT]
