"""Frozen records of many fields with a few of them changed, a thousand at once: `replace` calls for every field."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace as changed
else:

    def changed(record: Any, /, **changes: Any) -> Any:
        """Return what `dataclasses.replace` does of a record without slots and without anything done after its init."""
        other = object.__new__(type(record))
        other.__dict__.update(record.__dict__, **changes)
        return other


__all__ = ("changed",)
