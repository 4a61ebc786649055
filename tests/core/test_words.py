from qlora_studio.core.words import say


def test_values_stand_in_the_named_fields_of_a_text() -> None:
    assert say("{rows:,} rows are cut off", rows=1234) == "1,234 rows are cut off"


def test_a_text_without_values_stays_as_it_is() -> None:
    assert say("Close {this}") == "Close {this}"
