"""What pip says when something goes wrong, and what a person is told."""

import pytest

from qlora_studio.bootstrap.failure import failure_of

_RETRY = "WARNING: Retrying (Retry(total=4)) after connection broken by"
_NONE = "ERROR: No matching distribution found for torch==2.13.0"


@pytest.mark.parametrize(
    ("line", "message", "advice"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk",
            "larger disk",
        ),
        (
            f"{_RETRY} 'NameResolutionError(\"Failed to resolve 'pypi.org'\")': /simple/torch/",
            "not reached",
            "HTTPS_PROXY",
        ),
        (
            f"{_RETRY} 'ProxyError('Cannot connect to proxy.', OSError(...))': /simple/pip/",
            "proxy was not",
            "HTTPS_PROXY",
        ),
        (
            f"{_RETRY} 'ProxyError(OSError('Tunnel connection failed: 407 Proxy Authentication Required'))'",
            "password",
            "name:",
        ),
        (f"{_RETRY} 'SSLError(SSLCertVerificationError(1, 'certificate verify failed'))'", "certificate", "PIP_CERT"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not what", "proxy"),
        ("ERROR: HTTP error 403 while getting x\nERROR: 403 Client Error: Forbidden for url", "refused", "password"),
        (
            "The virtual environment was not created successfully because ensurepip is not available.",
            "environments",
            "python3-venv",
        ),
        (
            "ImportError: libglib-2.0.so.0: cannot open shared object file: No such file",
            "libglib-2.0.so.0",
            "system's packages",
        ),
    ],
)
def test_a_failure_is_told_by_its_cause_with_what_to_do(line: str, message: str, advice: str) -> None:
    """The line that names the cause comes before pip's last one, which is another."""
    error = failure_of([*line.splitlines(), _NONE], "", "3.11")

    assert message in error.message
    assert advice in error.advice


def test_a_package_that_is_nowhere_is_named() -> None:
    assert "The package index has no torch for Python 3.15" in failure_of([_NONE], "", "3.15").message
    pinned = [
        "    x 1.0 depends on peft",
        "    The user requested (constraint) peft==1.0",
        "ERROR: ResolutionImpossible",
    ]
    assert "/media/wheels has no wheel of peft" in failure_of(pinned, "/media/wheels", "3.11").message
    assert "/media/wheels has no wheel of torch" in failure_of([_NONE], "/media/wheels", "3.11").message


def test_what_is_not_known_is_told_in_pips_own_words() -> None:
    assert (
        "It did not work: something else" in failure_of(["Collecting x", "ERROR: something else"], "", "3.11").message
    )
