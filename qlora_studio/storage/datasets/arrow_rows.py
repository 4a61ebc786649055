"""Rows of Parquet and Arrow files. Columns of binary values (pictures, sound) are left aside."""

import json
from collections.abc import Iterator
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.storage.datasets.files import DatasetFile
from qlora_studio.storage.datasets.record import RAW_LIMIT, Record
from qlora_studio.storage.datasets.stream import Meter

_BATCH_ROWS = 256


def arrow_records(file: DatasetFile, meter: Meter, *, with_raw: bool = True) -> Iterator[Record]:
    """Yield a record for every row of a Parquet file, or of an Arrow file or stream. Raises StudioError."""
    import pyarrow

    number = 0
    try:
        for batch in _batches(file, meter):
            if number == 0:
                _check_names(file, batch.schema.names)
            for value, fault in _rows(batch):
                number += 1
                yield Record(number, -1, value, fault, _raw(value) if with_raw and not fault else "")
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise StudioError(
            f"{file.path.name} is damaged, or of a kind that cannot be read, after row {number}.",
            kind=FailureKind.DATA_REFUSED,
            advice="Copy or download it again.",
            detail=str(error),
        ) from error


def _check_names(file: DatasetFile, names: list[str]) -> None:
    """Refuse columns of the same name: of a row only one of them would be left."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StudioError(
            f"{file.path.name} has two columns '{twice[:40]}'.",
            kind=FailureKind.DATA_REFUSED,
            advice="Rename one of them, and save it again.",
        )


def _batches(file: DatasetFile, meter: Meter) -> Iterator[Any]:
    if file.container == "parquet":
        return _parquet_batches(file, meter)
    return _ipc_batches(file, meter)


def _parquet_batches(file: DatasetFile, meter: Meter) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(file.path, pre_buffer=False, buffer_size=1 << 20) as source:
        total = max(1, source.metadata.num_rows)
        columns = [field.name for field in source.schema_arrow if not _holds_binary(field.type)]
        done = told = 0
        for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
            yield batch
            done += batch.num_rows
            meter.advance(file.size_bytes * done // total - told)
            told = file.size_bytes * done // total


def _ipc_batches(file: DatasetFile, meter: Meter) -> Iterator[Any]:
    import pyarrow

    with pyarrow.memory_map(str(file.path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        reader = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        names = [field.name for field in reader.schema if not _holds_binary(field.type)]
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        told = 0
        for batch in batches:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield batch.slice(start, _BATCH_ROWS).select(names)
            meter.advance(source.tell() - told)
            told = source.tell()


def _rows(batch: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (row, fault); where a batch holds a text that is no UTF-8, its rows are read one by one."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        rows = None
    if rows is not None:
        yield from ((_without_absent(row), "") for row in rows)
        return
    for number in range(batch.num_rows):
        try:
            yield _without_absent(batch.slice(number, 1).to_pylist()[0]), ""
        except UnicodeDecodeError:
            yield {}, "a text of this row is not UTF-8"


def _without_absent(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which fields that only other rows have are absent: Arrow gives every struct every field."""
    return {name: _pruned(value) for name, value in row.items()}


def _pruned(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {name: _pruned(part) for name, part in value.items() if part is not None}
    if kind is list:
        return [_pruned(part) for part in value]
    return value


def _holds_binary(kind: Any) -> bool:
    from pyarrow import types

    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return (
        any(_holds_binary(kind.field(number).type) for number in range(kind.num_fields)) if kind.num_fields else False
    )


def _raw(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:RAW_LIMIT]
