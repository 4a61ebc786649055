"""The scale of a histogram of lengths: from tokens to pixels and back, and the ticks below. Pure."""

from dataclasses import dataclass

_NICE = (1, 2, 5)


@dataclass(frozen=True)
class LengthScale:
    """Tokens from 0 to `longest` over pixels from `left` on, `width` wide."""

    longest: int
    left: float
    width: float

    def x(self, tokens: float) -> float:
        """Return where a length stands; beyond the end it stands at the end."""
        return self.left + self.width * min(1.0, max(0.0, tokens / max(1, self.longest)))

    def tokens(self, x: float) -> int:
        """Return the length at a place."""
        return round(self.longest * min(1.0, max(0.0, (x - self.left) / max(1.0, self.width))))

    def ticks(self, count: int = 4) -> tuple[int, ...]:
        """Return about `count` round lengths, 0 first."""
        step = nice_step(self.longest / max(1, count))
        return tuple(range(0, self.longest + 1, step))


def nice_step(size: float) -> int:
    """Return the least of 1, 2, 5, 10, 20 … that is at least `size`."""
    scale = 1
    while True:
        for step in _NICE:
            if step * scale >= size:
                return step * scale
        scale *= 10


def nice_length(tokens: int) -> int:
    """Return a max length near `tokens`: a multiple of 64 from 512 on, of 8 below; never under 16."""
    step = 64 if tokens >= 512 else 8
    return max(16, round(tokens / step) * step)


def beyond(edges: tuple[int, ...], values: tuple[int, ...], length: int) -> int:
    """Return what lies beyond a max length, between the two edges that it stands between, by the straight line."""
    if not edges or not values or length >= edges[-1]:
        return 0
    for index, edge in enumerate(edges[:-1]):
        if length < edges[index + 1]:
            here = values[index]
            there = values[index + 1] if index + 1 < len(values) else 0
            share = (length - edge) / max(1, edges[index + 1] - edge)
            return round(here + (there - here) * max(0.0, share))
    return 0
