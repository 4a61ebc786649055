"""What uv says when something goes wrong: `tests/bootstrap/test_failure.py` has what pip says."""

import pytest

from qlora_studio.core.installer_words import meaning_of


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("Caused by: failed to copy file from a to b: No space left on device (os error 28)", "The disk became full."),
        ("Caused by: failed to create file `x`: Read-only file system (os error 30)", "cannot be written"),
        ("Caused by: dns error\n  Caused by: failed to lookup address information", "not reached"),
        ("Caused by: invalid peer certificate: UnknownIssuer", "not trusted"),
        ("[Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp']", "temporary files"),
    ],
)
def test_a_failure_of_uv_and_of_the_system_is_told_by_its_cause(said: str, meaning: str) -> None:
    message, advice = meaning_of(said) or ("", "")

    assert meaning in message
    assert advice


def test_of_words_that_mean_nothing_known_nothing_is_said() -> None:
    assert meaning_of("ERROR: No matching distribution found for torch==2.13.0") is None
