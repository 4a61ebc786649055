"""What the Start page says of what was used last."""

from pathlib import PurePosixPath

import pytest

from qlora_studio.ui.start.view import Recent, recent_datasets, recent_models, recent_runs, starter_button
from qlora_studio.ui.state.run_line import RunLine

HOME = PurePosixPath("/home/someone")


@pytest.mark.parametrize(
    ("source", "title", "note"),
    [
        ("starter", "SmolLM2-135M-Instruct", "comes with the program"),
        ("maker/model-8b", "model-8b", "maker on the hub"),
        ("gpt2", "gpt2", "on the hub"),
        ("/home/someone/models/mine", "mine", "~/models"),
        ("/home/someone/mine.gguf", "mine.gguf", "~"),
        ("/mnt/disk/mine", "mine", "/mnt/disk"),
    ],
)
def test_a_model_is_told_by_its_name_and_where_it_comes_from(source: str, title: str, note: str) -> None:
    assert recent_models([source], HOME) == (Recent(source, title, note),)


def test_the_starter_dataset_is_no_place_on_the_disk() -> None:
    found = recent_datasets(["/opt/starter.jsonl", "/opt/mine.jsonl", "someone/set"], HOME, "/opt/starter.jsonl")
    assert [recent.note for recent in found] == ["comes with the program", "/opt", "someone on the hub"]


def test_the_first_ten_are_listed_and_runs_that_cannot_be_read_are_not() -> None:
    lines = [RunLine(f"/runs/{n}", f"run {n}", state="finished", problem="" if n else "no run.toml") for n in range(19)]
    assert [recent.title for recent in recent_runs(lines)] == [f"run {n}" for n in range(1, 11)]
    assert len(recent_models((f"/models/{n}" for n in range(19)), HOME)) == 10


@pytest.mark.parametrize(
    ("busy", "is_here", "coming", "text", "note"),
    [
        (False, True, None, "Start training", ""),
        (True, True, None, "Start beside it", ""),
        (True, False, None, "Get it (98 MB)", ""),
        (False, False, 0, "Stop", "The model is being fetched; training starts when it is here."),
        (False, False, 34_400_000, "Stop", "34 of 98 MB; training starts when all is here."),
        (False, False, 98_362_432, "Stop", "98 of 98 MB; training starts when all is here."),
    ],
)
def test_the_first_button_says_what_a_click_does_and_how_far_it_is(
    busy: bool, is_here: bool, coming: int | None, text: str, note: str
) -> None:
    button = starter_button(busy=busy, is_here=is_here, coming=coming)

    assert (button.text, button.note) == (text, note)
