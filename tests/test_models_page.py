import json

from tests.models_page import PAGE, RESULTS, page


def test_the_page_says_what_the_sweep_found() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RESULTS.read_text("utf-8"))), "run `make models-page`"


def test_a_family_that_is_refused_says_why_and_what_plain_training_does() -> None:
    found = json.loads(RESULTS.read_text("utf-8"))
    refused = {name: entry for name, entry in found.items() if entry["verdict"] == "refused"}
    assert all(entry["reason"] and entry["plain"] for entry in refused.values())
