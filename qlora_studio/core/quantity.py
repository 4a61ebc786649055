"""Numbers as people read them: bytes, durations, counts, rates."""

import math

from qlora_studio.core.words import say

GIB = 1 << 30
MIB = 1 << 20
JOULES_OF_KWH = 3.6e6


def bytes_text(size: int) -> str:
    """Return 10.3 GiB, 541 MiB, 12 KiB."""
    if abs(size) >= 1 << 40:
        return say("{size} TiB", size=_figures(size / (1 << 40)))
    if abs(size) >= GIB:
        return say("{size} GiB", size=_figures(size / GIB))
    if abs(size) >= MIB:
        return say("{size} MiB", size=_figures(size / MIB))
    return say("{size:,.0f} KiB", size=size / 1024) if abs(size) >= 1024 else say("{size} B", size=size)


def duration_text(seconds: float) -> str:
    """Return 42 s, 3 min 5 s, 2 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return say("{seconds} s", seconds=whole)
    minutes, rest = divmod(whole, 60)
    if minutes < 10 and rest:
        return say("{minutes} min {seconds} s", minutes=minutes, seconds=rest)
    hours, minutes = divmod(round(whole / 60), 60)
    if hours:
        return say("{hours} h {minutes} min", hours=hours, minutes=minutes)
    return say("{minutes} min", minutes=minutes)


def energy_text(joules: float) -> str:
    """Return 1.23 kWh, 0.0123 kWh, 123 kWh."""
    kwh = joules / JOULES_OF_KWH
    if kwh < 1e-4:
        return say("less than 0.0001 kWh")
    return say("{kwh} kWh", kwh=f"{kwh:#.3g}" if kwh < 99.95 else f"{kwh:,.0f}")


def count_text(count: float) -> str:
    """Return 134.5 M, 8.03 B, 6,318."""
    if abs(count) >= 1e12:
        return say("{count} T", count=_rounded(count / 1e12))
    if abs(count) >= 1e9:
        return say("{count} B", count=_rounded(count / 1e9))
    return say("{count} M", count=_rounded(count / 1e6)) if abs(count) >= 1e6 else f"{count:,.0f}"


def counted(count: int, noun: str) -> str:
    """Return `1 row`, `2 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number_text(value: float) -> str:
    """Return a number as briefly as it can be written: 0.05, 2e-4, 1000; nan and inf as they are."""
    plain = f"{value:.12g}"
    if not math.isfinite(value):
        return plain
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


def _figures(size: float) -> str:
    return f"{size:.1f}" if size < 100 else f"{size:,.0f}"


def _rounded(count: float) -> str:
    return f"{count:.{2 if count < 10 else 1}f}"
