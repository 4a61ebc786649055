"""Numbers as people read them: bytes, durations, counts, rates."""

import math

GIB = 1 << 30
MIB = 1 << 20


def bytes_text(size: int) -> str:
    """Return 10.3 GiB, 541 MiB, 12 KiB."""
    for unit, scale in (("TiB", 1 << 40), ("GiB", GIB), ("MiB", MIB), ("KiB", 1 << 10)):
        if abs(size) >= scale:
            value = size / scale
            return f"{value:.1f} {unit}" if value < 100 and unit != "KiB" else f"{value:,.0f} {unit}"
    return f"{size} B"


def duration_text(seconds: float) -> str:
    """Return 42 s, 3 min 5 s, 2 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def count_text(count: float) -> str:
    """Return 134.5 M, 8.03 B, 6,318."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if abs(count) >= scale:
            return f"{count / scale:.{2 if count / scale < 10 else 1}f} {unit}"
    return f"{count:,.0f}"


def counted(count: int, noun: str) -> str:
    """Return `1 row`, `2 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number_text(value: float) -> str:
    """Return a number as briefly as it can be written: 0.05, 2e-4, 1000."""
    plain = f"{value:.12g}"
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    brief = f"{float(mantissa):g}e{int(exponent)}"
    return brief if 0 < abs(value) < 0.001 and len(brief) <= len(plain.replace("e-0", "e-")) else plain


def loss_text(value: float | None) -> str:
    """Return a loss or a norm with three figures."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def perplexity_text(value: float) -> str:
    """Return a perplexity with about three figures."""
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
