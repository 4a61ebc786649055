from qlora_studio.storage.runs.run_folder import RunFolder
from tests.protocol_page import PAGE, PLACES, page, places


def test_the_page_says_what_the_models_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make protocol`"


def test_every_place_of_a_run_folder_is_explained() -> None:
    assert set(PLACES) == places(RunFolder("run")).keys()
