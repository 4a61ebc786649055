"""The rows on which recipes are compared: the starter project's, and two sets made of what Python ships (PSF licence).

Each is made anew where it is measured, by a fixed seed, and none is kept. Rows have at most 192 tokens.
"""

import ast
import inspect
import json
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

SETS = ("starter", "summaries", "topics")
ROWS = 200
_STARTER = Path(__file__).parents[3] / "resources" / "starter" / "starter.jsonl"
_SUMMARY = 30, 120  # characters of a first sentence that says something, and fits
_SIGNATURE = 160
_PIECE = 280  # characters of prose: about 60 tokens


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of a set, mixed."""
    found = {"starter": _starter, "summaries": _summaries, "topics": _pieces}[name]()
    random.Random(0).shuffle(found)
    return [_short(row) for row in found[:ROWS]]


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """Without the system turn that the template would add: it costs a third of the time and says the same to all."""
    return {"messages": [{"role": "system", "content": "Answer."}, *row["messages"]]} if "messages" in row else row


def _starter() -> list[dict[str, Any]]:
    return [json.loads(line) for line in _STARTER.read_text("utf-8").splitlines()]


def _summaries() -> list[dict[str, Any]]:
    """What functions of the standard library do, asked by their module and signature."""
    library = Path(sysconfig.get_path("stdlib"))
    found = {
        question: summary
        for path in sorted(library.glob("*.py"))
        for question, summary in _documented(path.stem, path.read_text("utf-8", "replace"))
    }
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": summary}]}
        for question, summary in found.items()
    ]


def _documented(module: str, source: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            signature = f"{node.name}({ast.unparse(node.args)})"
            summary = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
            if len(signature) <= _SIGNATURE and _SUMMARY[0] <= len(summary) <= _SUMMARY[1]:
                yield f"In Python's module {module}, what does {signature} do?", summary


def _pieces() -> list[dict[str, Any]]:
    """Pieces of Python's language reference, every token of which is learned."""
    paragraphs = (
        " ".join(part.split()) for text in topics.values() for part in re.split(r"\n\s*\n", text) if "   " not in part
    )
    prose = sorted({text for text in paragraphs if len(text) >= _PIECE})
    return [{"text": text[:_PIECE].rsplit(" ", 1)[0]} for text in prose]
