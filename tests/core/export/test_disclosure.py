"""Folders and names that a text tells are found, and plain words are left alone."""

import pytest

from qlora_studio.core.export.disclosure import disclosures


def found(text: str, *, names: tuple[str, ...] = ("alice",), any_folder: bool = True) -> list[tuple[int, str]]:
    items = disclosures(text, folders=["/data/alice-runs"], names=names, any_folder=any_folder)
    return [(item.line, item.text) for item in items]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("at /home/bob/models/x", "/home/bob/models/x"),
        ('"/Users/bob/x"', "/Users/bob/x"),
        ("C:\\Users\\bob\\x.jsonl", "C:\\Users\\bob\\x.jsonl"),
        ("D:/rows/x", "D:/rows/x"),
        ("in ~/models/x", "~/models/x"),
        ("by alice, today", "alice"),
    ],
)
def test_folders_and_names_are_found_with_their_line(text: str, told: str) -> None:
    assert found(f"first\n{text}") == [(2, told)]


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve /path/to/model",
        "-v /path/to/model:/model:ro",
        "https://huggingface.co/home/x and https://a.b/tmp/x",
        "malice, alices, alice-bot",
        "16 bit: bf16/fp16",
    ],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_a_folder_that_is_named_is_found_anywhere() -> None:
    assert found("x=/data/alice-runs/1", names=(), any_folder=False) == [(1, "/data/alice-runs")]


def test_a_name_that_many_computers_share_says_nothing() -> None:
    assert found("the root of it", names=("root", "Al")) == []
