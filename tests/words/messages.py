"""Finds every text that passes `say` or `say_count` in the sources: what a translation has to translate."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "qlora_studio"


@dataclass(frozen=True)
class Message:
    """A text that is said, its form for several where it counts, and the values that it is given at a place."""

    one: str
    many: str
    values: frozenset[str]
    place: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The text, or both."""
        return (self.one, self.many) if self.many else (self.one,)


def messages() -> list[Message]:
    """Return all of them, in the order of files and lines."""
    said = [message for path in sorted(PACKAGE.rglob("*.py")) for message in _messages_of(path)]
    return [*said, *_messages_of_presets()]


def unreadable_calls() -> list[str]:
    """Return the places whose text is no literal, so that nobody who translates can know it."""
    return [
        f"{path.relative_to(PACKAGE)}:{call.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "presets.py"  # which says what stands in its files
        for call in _calls(path)
        if any(_literal(argument) is None for argument in _texts(call))
    ]


def _messages_of(path: Path) -> Iterator[Message]:
    for call in _calls(path):
        texts = [text for argument in _texts(call) if (text := _literal(argument))]
        if texts:
            given = frozenset(keyword.arg for keyword in call.keywords if keyword.arg)
            counts = frozenset({"count"}) if len(texts) > 1 else frozenset()
            yield Message(texts[0], "".join(texts[1:]), given | counts, f"{path.relative_to(PACKAGE)}:{call.lineno}")


def _messages_of_presets() -> Iterator[Message]:
    """Yield the title of each preset, in the first line of the comment on top, and its description, in the others."""
    for path in sorted((PACKAGE.parent / "resources" / "presets").glob("*.toml")):
        comment = path.read_text("utf-8").partition("\n\n")[0].splitlines()
        lines = [line.lstrip("# ") for line in comment if line.startswith("#")]
        for text in (lines[0], " ".join(lines[1:])):
            yield Message(text, "", frozenset(), f"resources/presets/{path.name}")


def _calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "say_count"):
            yield node


def _texts(call: ast.Call) -> list[ast.expr]:
    assert isinstance(call.func, ast.Name)
    return call.args[1:3] if call.func.id == "say_count" else call.args[:1]


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
