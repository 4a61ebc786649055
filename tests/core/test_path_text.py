"""Paths as they are handed over: quoted, as links, several at once."""

import ast
from pathlib import Path

import pytest

import qlora_studio
from qlora_studio.core.path_text import is_there, path_of_text, paths_of_text, whole_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("  /home/me/rows.jsonl\n", "/home/me/rows.jsonl"),
        ('"C:\\Users\\me\\my rows.csv"', "C:\\Users\\me\\my rows.csv"),
        ("'/home/me/my rows.csv'", "/home/me/my rows.csv"),
        ("file:///home/me/my%20rows%23.csv", "/home/me/my rows#.csv"),
        ("file://localhost/home/me/rows.csv", "/home/me/rows.csv"),
        ("FILE:///C:/Users/me/rows.csv", "C:/Users/me/rows.csv"),
        ("file://server/share/rows.csv", "//server/share/rows.csv"),
        ("file:/home/me/rows.csv", "/home/me/rows.csv"),
        ('"file:///home/me/rows.csv"', "/home/me/rows.csv"),
        ("owner/name", "owner/name"),
        ('"', '"'),
        ("", ""),
    ],
)
def test_a_path_is_read_out_of_quotes_and_links(text: str, path: str) -> None:
    assert path_of_text(text) == path


def test_a_text_of_nothing_but_full_paths_is_taken_line_by_line() -> None:
    text = 'file:///home/me/a%20b.jsonl\r\n"C:\\models\\small.gguf"\r\n\\\\server\\share\n~/runs/1\n'
    assert paths_of_text(text) == ["/home/me/a b.jsonl", "C:\\models\\small.gguf", "\\\\server\\share", "~/runs/1"]


@pytest.mark.parametrize("text", ["", "Hello there", "/home/me/rows.jsonl\nand some words", "rows.jsonl"])
def test_a_text_with_anything_else_is_no_list_of_paths(text: str) -> None:
    assert paths_of_text(text) == []


def test_a_tilde_is_the_home_of_its_user_and_of_a_user_who_is_not_here_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME" if Path("/").anchor == "/" else "USERPROFILE", str(tmp_path))

    assert whole_path("~/rows.csv") == tmp_path / "rows.csv"
    assert whole_path(Path("~")) == tmp_path
    assert whole_path("~no-such-user-at-all/rows.csv") == Path("~no-such-user-at-all/rows.csv")
    assert whole_path("rows.csv") == Path("rows.csv")


@pytest.mark.parametrize("name", ["~no-such-user-at-all/x", "x" * 5000, "x\x00y", "here.txt/x", "circle/x"])
def test_nothing_is_at_a_name_that_the_system_refuses(tmp_path: Path, name: str) -> None:
    (tmp_path / "here.txt").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")

    assert not is_there(tmp_path / name)
    assert is_there(tmp_path / "here.txt")


def test_the_program_leaves_no_tilde_to_pathlib_which_raises_where_no_such_user_is() -> None:
    product = Path(qlora_studio.__file__).parent
    calls = {
        str(path.relative_to(product))
        for path in product.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "expanduser"
    }

    assert calls == {str(Path("core", "path_text.py"))}
