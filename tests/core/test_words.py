from collections.abc import Iterator
from gettext import GNUTranslations
from io import BytesIO

import pytest

from qlora_studio.core.words import say, say_count, speak
from tests.words.catalogue import mo_file

_PLURALS = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: {}\n"


@pytest.fixture(autouse=True)
def _english_afterwards() -> Iterator[None]:
    yield
    speak(None)


def _speak(entries: dict[str, str], plurals: str = "nplurals=2; plural=n!=1;") -> None:
    speak(GNUTranslations(BytesIO(mo_file({"": _PLURALS.format(plurals), **entries}))))


def test_values_stand_in_the_named_fields_of_a_text() -> None:
    assert say("{rows:,} rows are cut off", rows=1234) == "1,234 rows are cut off"


def test_a_text_without_values_stays_as_it_is() -> None:
    assert say("Close {this}") == "Close {this}"


def test_a_count_chooses_between_one_and_several() -> None:
    assert [say_count(n, "one row", "{count:,} rows") for n in (0, 1, 2000)] == ["0 rows", "one row", "2,000 rows"]


def test_a_catalogue_is_spoken_with_the_values_in_its_own_order() -> None:
    _speak({"{rows:,} rows of {name}": "{name}: {rows:,} Zeilen"})
    assert say("{rows:,} rows of {name}", rows=1234, name="a.csv") == "a.csv: 1,234 Zeilen"


def test_what_a_catalogue_does_not_have_is_said_in_english() -> None:
    _speak({"Close": "Schließen"})
    assert (say("Close"), say("Open"), say("")) == ("Schließen", "Open", "")


def test_a_language_has_as_many_plurals_as_it_needs() -> None:
    polish = "nplurals=3; plural=n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2;"
    _speak({"{count} row\0{count} rows": "{count} wiersz\0{count} wiersze\0{count} wierszy"}, polish)
    said = [say_count(n, "{count} row", "{count} rows") for n in (1, 2, 5, 22)]
    assert said == ["1 wiersz", "2 wiersze", "5 wierszy", "22 wiersze"]


@pytest.mark.parametrize(
    "translated", ["nichts", "{name} und {other}", "{name.__class__}", "{name!r}", "{name:>999999999}", "{name", "{}"]
)
def test_a_translation_whose_fields_do_not_fit_is_passed_over(translated: str) -> None:
    _speak({"{name} is gone": translated, "{count} is gone\0{count} are gone": f"{translated}\0{translated}{{x}}"})
    assert say("{name} is gone", name="A") == "A is gone"
    assert say_count(2, "{count} is gone", "{count} are gone") in ("2 are gone", "nichts")


def test_a_rule_for_plurals_that_divides_by_zero_is_passed_over() -> None:
    _speak({"{count} row\0{count} rows": "{count} Zeile\0{count} Zeilen"}, "nplurals=2; plural=n % (n - 3);")
    assert say_count(3, "{count} row", "{count} rows") == "3 rows"
