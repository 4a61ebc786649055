"""Values of Arrow columns as JSON has them, so that a row says what its JSON Lines source said.

Arrow gives every struct every field that any row has: a null within one is taken for absent. What Arrow knows and JSON
does not comes as `datasets` would write it into JSON Lines: dates as ISO text, maps as objects.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from qlora_studio.core.foreign_text import Unreadable, json_value
from qlora_studio.storage.datasets.record import ROW_LIMIT
from qlora_studio.storage.datasets.strict_json import NotJson

Reader = Callable[[Any], Any]
_JSON = "arrow.json"


def reader_of(field: Any) -> Reader | None:
    """Return what makes JSON of a value of an Arrow field, as `to_pylist` gives it; None where that is JSON already."""
    import pyarrow
    from pyarrow import types

    kind = field.type
    if _is_json(field):
        return _parsed
    if isinstance(kind, pyarrow.BaseExtensionType):
        return reader_of(pyarrow.field("", kind.storage_type))
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return reader_of(pyarrow.field("", kind.value_type))
    if types.is_struct(kind):
        return _object_reader({part.name: reader_of(part) for part in kind})
    if types.is_map(kind):
        return _map_reader(reader_of(kind.item_field))
    if is_list(kind):
        return _list_reader(reader_of(kind.value_field))
    return _plain_reader(kind)


def is_list(kind: Any) -> bool:
    """Whether values of a type are lists, however Arrow lays them."""
    from pyarrow import types

    kinds = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
    return any(getattr(types, f"is_{name}")(kind) for name in kinds)


def is_binary(kind: Any) -> bool:
    """Whether values of a type are bytes."""
    from pyarrow import types

    kinds = ("binary", "large_binary", "fixed_size_binary", "binary_view")
    return any(getattr(types, f"is_{name}")(kind) for name in kinds)


def _is_json(field: Any) -> bool:
    """Whether a field holds JSON text; libraries that do not know the type tell it in the field's metadata."""
    metadata = field.metadata or {}
    return getattr(field.type, "extension_name", "") == _JSON or metadata.get(b"ARROW:extension:name") == _JSON.encode()


def _plain_reader(kind: Any) -> Reader | None:
    from pyarrow import types

    if is_binary(kind):
        return lambda _value: None
    if types.is_floating(kind):
        return _number
    if types.is_decimal(kind):
        return _decimal
    return _iso if types.is_temporal(kind) else None


def _object_reader(readers: dict[str, Reader | None]) -> Reader:
    def read(value: Any) -> Any:
        if value is None:
            return None
        found = {}
        for name, part in value.items():
            if part is not None:
                reader = readers[name]
                found[name] = part if reader is None else reader(part)
        return found

    return read


def _list_reader(reader: Reader | None) -> Reader | None:
    if reader is None:
        return None
    return lambda value: None if value is None else [reader(part) for part in value]


def _map_reader(reader: Reader | None) -> Reader:
    def read(value: Any) -> Any:
        if value is None:
            return None
        return {str(key): part if reader is None else reader(part) for key, part in value}

    return read


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json_value(value.encode(), limit=ROW_LIMIT)
    except Unreadable as error:
        raise NotJson(str(error)) from error


def _number(value: Any) -> Any:
    return None if value != value else value  # what is missing is NaN where a table came by way of pandas


def _decimal(value: Any) -> Any:
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def _iso(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value if value is None else str(value)
