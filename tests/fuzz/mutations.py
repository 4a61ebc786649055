"""Damage and malice, seeded: what a strange file may hold, made from a sound one.

Own mutators and not Hypothesis: a case costs some microseconds here and none of them is kept, so a million are a matter
of minutes; and a reader that takes the whole process down is found as well, since a case follows from its number alone.
"""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

_BORDERS = [
    0,
    1,
    2,
    127,
    128,
    255,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
_SIZES = [0, 1, 7, 8, 255, 4096, 65536]


class Raw(str):
    """Text that stands in JSON or TOML as it is."""

    __slots__ = ()


def _odd_values() -> list[Any]:
    words = ["NaN", "Infinity", "-Infinity", "1e400", "-0", "1e20", "0x10", "nan", "inf", "1" + "0" * 400, "9" * 5000]
    texts = ["", "\0", "../../x", "/etc/passwd", "\\ud800", "\x1b]0;x\x07", "\u202e", "x" * 70_000, "{{ 1 }}", "x/y"]
    deep = ["[" * depth + "]" * depth for depth in (64, 300, 930, 960, 990, 20_000)]
    deep += ['{"a":' * depth + "1" + "}" * depth for depth in (300, 930, 960, 990, 20_000)]
    values: list[Any] = [None, True, False, [], {}, [[]], [None], [1, "a"], {"a": {"b": 1}}, -1, 0.5, 1e308, *_BORDERS]
    return [
        *values,
        *texts,
        *(Raw(word) for word in [*words, *deep, '"\\ud83d"', '"\\u0000"', "[" + "0," * 5000 + "0]"]),
    ]


ODD = _odd_values()


def dumped(value: Any, *, toml: bool = False) -> str:
    """Return a value as JSON, or as what TOML has in its place; `Raw` stands as it is."""
    if isinstance(value, Raw):
        return str.__str__(value)
    if isinstance(value, dict):
        sign = " = " if toml else ": "
        parts = (f"{dumped(key if toml else str(key))}{sign}{dumped(part, toml=toml)}" for key, part in value.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dumped(part, toml=toml) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def toml_text(value: dict[str, Any]) -> str:
    """Return a table as TOML, a section for each table in it."""
    plain = [
        f"{dumped(key)} = {dumped(part, toml=True)}\n" for key, part in value.items() if not isinstance(part, dict)
    ]
    tables = [
        f"[{dumped(key)}]\n" + "".join(f"{dumped(name)} = {dumped(item, toml=True)}\n" for name, item in part.items())
        for key, part in value.items()
        if isinstance(part, dict)
    ]
    return "".join(plain + tables)


def encoded(text: str) -> bytes:
    """Return text as bytes, half characters included."""
    return text.encode("utf-8", "surrogatepass")


def altered(value: Any, rng: random.Random) -> Any:
    """Return JSON's value with one thing in it changed."""
    places = list(_places(value, ()))
    path = rng.choice(places)
    return _changed(value, path, rng)


def _places(value: Any, path: tuple[Any, ...]) -> Any:
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value[:50]) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _places(part, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], rng: random.Random) -> Any:
    if not path:
        return _other(value, rng)
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if rest or rng.random() < 0.6:
        copy[key] = _changed(value[key], tuple(rest), rng)
    elif rng.random() < 0.4:
        del copy[key]
    elif isinstance(copy, dict):
        part = copy.pop(key) if rng.random() < 0.5 else copy[key]
        name = rng.choice(
            ["", "a", "version", "type", "kind", f"{key}x", str(key).upper(), "\0", "__class__", "x" * 3000]
        )
        copy[name] = part
    else:
        copy[key : key + 1] = [copy[key]] * rng.choice([2, 3, 1000])
    return copy


def _other(value: Any, rng: random.Random) -> Any:
    how = rng.randrange(8)
    if how == 0:
        return [value]
    if how == 1 and isinstance(value, dict):
        return [*value.values()]
    if how == 2 and isinstance(value, dict) and value:  # a name that stands twice
        key = rng.choice(list(value))
        return Raw("{" + f"{dumped(key)}: {dumped(value[key])}, {dumped(key)}: {dumped(rng.choice(ODD))}" + "}")
    if how == 3 and isinstance(value, str):
        return rng.choice(
            [value * 2, value[:-1], value + "\0", value + " ", value.upper(), Raw(json.dumps(value)[:-1])]
        )
    if how == 3 and isinstance(value, int | float):
        return rng.choice(
            [-value, value + 1, str(value), value * 2**40, Raw(f"{value}e300"), Raw(f"{value}{'0' * 30}")]
        )
    return rng.choice(ODD)


def damaged(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Return bytes with one to three wounds."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_WOUNDS)(data, others, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """Return a place, the beginning and the end the likeliest: there stand lengths and counts."""
    size = max(1, len(data))
    where = rng.randrange(4)
    return (
        rng.randrange(min(size, 64))
        if where == 0
        else size - 1 - rng.randrange(min(size, 64))
        if where == 1
        else rng.randrange(size)
    )


def _flip(data: bytes, _others: list[bytes], rng: random.Random) -> bytes:
    return flipped(data, 8 * _place(data, rng) + rng.randrange(8))


def _byte(data: bytes, _others: list[bytes], rng: random.Random) -> bytes:
    at = _place(data, rng)
    return (
        data[:at]
        + bytes([rng.choice((0, 1, 10, 13, 34, 44, 92, 127, 128, 192, 255, rng.randrange(256)))])
        + data[at + 1 :]
    )


def _number(data: bytes, _others: list[bytes], rng: random.Random) -> bytes:
    form = rng.choice(("<H", "<I", "<Q", ">I", "<I", "<Q"))
    at, number = _place(data, rng), rng.choice(_BORDERS)
    packed = struct.pack(form, number % (1 << 8 * struct.calcsize(form)))
    return data[:at] + packed + data[at + len(packed) :]


def _cut(data: bytes, _others: list[bytes], rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _without(data: bytes, _others: list[bytes], rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 8, 100)) :]


def _twice(data: bytes, _others: list[bytes], rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 8, 64, 1000, len(data)))
    return data[: at + size] + data[at:]


def _splice(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _swap(data: bytes, _others: list[bytes], rng: random.Random) -> bytes:
    one, other = sorted((_place(data, rng), _place(data, rng)))
    size = min(rng.choice((1, 4, 8, 32)), other - one)
    return (
        data[:one]
        + data[other : other + size]
        + data[one + size : other]
        + data[one : one + size]
        + data[other + size :]
    )


def _noise(data: bytes, _others: list[bytes], rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice(_SIZES)
    fill = rng.choice((b"\0" * size, b"\xff" * size, b"[" * size, b'"' * size, b"\n" * size, rng.randbytes(size)))
    return data[:at] + fill + data[at + rng.choice((0, size)) :]


_WOUNDS: list[Callable[[bytes, list[bytes], random.Random], bytes]] = [
    _flip, _flip, _byte, _number, _number, _cut, _without, _twice, _splice, _swap, _noise,
]  # fmt: skip


def flipped(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit turned."""
    at = bit // 8
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :] if at < len(data) else data
