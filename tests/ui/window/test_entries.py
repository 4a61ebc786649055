"""What a few letters mean in the palette."""

from qlora_studio.ui.window.entries import Entry, grouped, matching, without_twins


def entry(title: str, where: str = "Window", words: str = "") -> Entry:
    return Entry(title, where, lambda: None, words=words)


RANK = entry("LoRA rank", "Training · What is learned", "Width of the adapters. lora.rank")
ALPHA = entry("LoRA alpha", "Training · What is learned", "equal to the rank keeps it at 1")
PAUSE = entry("Pause", "Run")
GO = entry("Go to Run")
ALL = (ALPHA, RANK, PAUSE, GO)


def titles(query: str) -> list[str]:
    return [item.title for item in matching(ALL, query)]


def test_nothing_asked_shows_all_as_they_come() -> None:
    assert matching(ALL, "  ") == ALL


def test_a_name_comes_before_a_place_and_a_place_before_the_help() -> None:
    assert titles("rank") == ["LoRA rank", "LoRA alpha"]
    assert titles("run") == ["Go to Run", "Pause"]


def test_a_name_that_begins_so_comes_first() -> None:
    assert titles("p")[0] == "Pause"


def test_every_word_must_be_found_in_whatever_order() -> None:
    assert titles("rank lora") == ["LoRA rank", "LoRA alpha"]
    assert titles("pause run") == ["Pause"]
    assert titles("pause data") == []


def test_a_setting_is_found_by_its_name_in_run_toml() -> None:
    assert titles("lora.rank") == ["LoRA rank"]


def test_what_is_found_stands_by_its_places_the_best_one_first() -> None:
    assert grouped((PAUSE, RANK, GO, ALPHA)) == (
        ("Run", (PAUSE,)),
        ("Training · What is learned", (RANK, ALPHA)),
        ("Window", (GO,)),
    )


def test_the_same_name_in_the_same_place_stands_there_once_and_first() -> None:
    twin = entry("Pause", "Run")
    assert without_twins((PAUSE, GO, twin)) == (PAUSE, GO)
