"""Paths as they are handed over: quoted, as links, several at once."""

import pytest

from qlora_studio.core.path_text import path_of_text, paths_of_text


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
