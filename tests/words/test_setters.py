"""What is handed to a widget as a text is said first: no literal is, in a whole or as a part of an f-string."""

import ast
import re
from collections.abc import Iterator

from tests.words.messages import PACKAGE

_SETTERS = {
    *("setText", "setWindowTitle", "setToolTip", "set_tooltip", "setPlaceholderText", "setAccessibleName", "setPrefix"),
    *(
        "setAccessibleDescription",
        "setSuffix",
        "setTitle",
        "setStatusTip",
        "addAction",
        "addMenu",
        "addSection",
        "tell",
    ),
    *("setInformativeText", "set_heading", "show_message", "show_word", "show_value", "render_nothing", "Question"),
    *("Label", "ElidedLabel", "FactsLabel", "Button", "PrimaryButton", "CheckBox", "Card", "Chip", "StatTile", "Tile"),
    *("Table", "CheckList", "ProgressLine", "StudioError", "Step", "CurveMark", "Mark", "Fact", "getOpenFileName"),
    *("getSaveFileName", "getExistingDirectory", "addButton", "addRow", "ask_save_path", "PathField", "ValueTable"),
    *("Column", "DialogButtons"),
}
_WORDS_ALONE = {"Label", "ElidedLabel", "FactsLabel", "Button", "Chip", "CurveMark", "Mark", "Step"}
_WORDS_ALONE |= {"show_word", "show_message"}
_KEYWORDS = {"tip", "caption", "advice", "message", "title", "question", "help"}  # `name` and `kind` are none
_ERRORS = {"StudioError", "RowRefused", "Unreadable"}
_TELLERS = _ERRORS | {"Problem", "TemplateRefusal", "RowVerdict", "warn"}
_PROPER = {"QLoRA Studio"}


def test_no_widget_of_the_window_is_given_a_text_that_was_not_said() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{text.lineno}: {_literal(text)}"
        for path in sorted((PACKAGE / "ui").rglob("*.py"))
        if "showcase" not in path.parts
        for text in _texts_given(ast.parse(path.read_text(encoding="utf-8")))
        if _is_words(_literal(text))
    ]
    assert not found, "\n".join(found)


def test_no_error_warning_or_refused_row_is_told_in_words_that_were_not_said() -> None:
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if path.parts[len(PACKAGE.parts)] != "cli")
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    tellers = _TELLERS | {name for tree in trees.values() for name in _makers_of_errors(tree)}
    found = [
        f"{path.relative_to(PACKAGE)}:{text.lineno}: {_literal(text)}"
        for path, tree in trees.items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and _name(call.func) in tellers
        for argument in (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg in _KEYWORDS))
        for text in _unsaid(argument)
        if len(_literal(text).split()) > 1 and _is_words(_literal(text))
    ]
    assert not found, "\n".join(found)


def _makers_of_errors(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns and ast.unparse(node.returns) in _ERRORS:
            yield node.name


def _texts_given(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _SETTERS:
            first = _name(node.func) in _WORDS_ALONE  # what follows is the name of a style
            for argument in node.args[:1] if first else node.args:
                yield from _unsaid(argument)
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg in _KEYWORDS:
                yield from _unsaid(keyword.value)


def _unsaid(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the literals that an expression can be: those of its branches, and of what it adds together."""
    match node:
        case ast.JoinedStr() | ast.Constant():
            yield node
        case ast.IfExp():
            yield from (*_unsaid(node.body), *_unsaid(node.orelse))
        case ast.BinOp():
            yield from (*_unsaid(node.left), *_unsaid(node.right))
        case ast.BoolOp():
            for value in node.values:
                yield from _unsaid(value)


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return " ".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_words(text: str) -> bool:
    """Whether there is a word in it: no name as `run.toml`, `Ctrl+K` or GGUF is."""
    names = re.compile(r"\S*[._/+*\\(&]\S*|[A-Z0-9]+")
    words = [word for word in text.split() if re.search("[A-Za-z]{2}", word) and not names.fullmatch(word)]
    return bool(words) and text not in _PROPER


def _name(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
