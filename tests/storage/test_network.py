"""One switch keeps everything off the network: a setting, or a variable that goes before it."""

import subprocess
import sys

import pytest

from qlora_studio.child_process import safe_environment
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.network import is_offline, require_network
from qlora_studio.storage.settings import Settings, save_settings

_TRY = """
import socket, sys
from qlora_studio.storage.network import close_network
close_network()
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
    print("here")
host = sys.argv[1]
try:
    socket.getaddrinfo(host, 443) if host.isalpha() else socket.create_connection((host, 9), timeout=1)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.usefixtures("studio_home")
def test_the_setting_reaches_every_process_that_is_started() -> None:
    assert "QLORA_STUDIO_OFFLINE" not in safe_environment()

    save_settings(Settings(offline=True))

    environment = safe_environment()
    assert environment["QLORA_STUDIO_OFFLINE"] == environment["HF_HUB_OFFLINE"] == environment["PIP_NO_INDEX"] == "1"


@pytest.mark.usefixtures("studio_home")
@pytest.mark.parametrize(("said", "setting", "offline"), [("1", False, True), ("0", True, False), ("", True, False)])
def test_the_variable_goes_before_the_setting(
    said: str, setting: bool, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_settings(Settings(offline=setting))
    monkeypatch.setenv("QLORA_STUDIO_OFFLINE", said)

    assert is_offline() is offline


def test_what_needs_the_network_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLORA_STUDIO_OFFLINE", "1")

    with pytest.raises(StudioError, match="Nothing is fetched") as refused:
        require_network("Nothing is fetched.")

    assert refused.value.kind == "offline" and "settings" in refused.value.advice


@pytest.mark.parametrize("host", ["192.0.2.1", "example"])
def test_a_process_that_is_closed_reaches_itself_and_nobody_else(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that nobody has: 192.0.2.0/24 is kept for documentation."""
    monkeypatch.setenv("QLORA_STUDIO_OFFLINE", "1")

    told = subprocess.run([sys.executable, "-c", _TRY, host], capture_output=True, text=True, check=True).stdout

    assert told.splitlines() == ["here", f"StudioError {host} was not reached: the network is switched off here."]
