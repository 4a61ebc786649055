"""The one switch that keeps everything off the network: a setting, or a variable of the environment."""

import os
import sys

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.settings import load_settings

VARIABLE = "QLORA_STUDIO_OFFLINE"
_OF_LIBRARIES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "PIP_NO_INDEX", "UV_OFFLINE")
_OFF = ("", "0", "false", "no", "off")
_HERE = ("localhost", "::1", "")


def is_offline() -> bool:
    """Whether nothing may reach the network: the variable decides, where it is set, and else the setting."""
    said = os.environ.get(VARIABLE)
    return load_settings().offline if said is None else said.strip().lower() not in _OFF


def offline_environment() -> dict[str, str]:
    """Return what keeps a process, its libraries and its children off the network; nothing where they may reach it."""
    return dict.fromkeys((VARIABLE, *_OF_LIBRARIES), "1") if is_offline() else {}


def require_network(refusal: str) -> None:
    """Raise StudioError with this sentence where nothing may reach the network."""
    if is_offline():
        raise StudioError(
            refusal,
            kind=FailureKind.OFFLINE,
            advice=say("Allow it in the settings, or leave {variable} out.", variable=VARIABLE),
        )


def close_network() -> None:
    """Have this process refuse every address but its own computer's, where nothing may reach the network."""
    if is_offline():
        sys.addaudithook(_gate)


def _gate(event: str, arguments: tuple[object, ...]) -> None:
    """Raise StudioError where Python is about to look up a host or to speak to one."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and address else ""  # a local socket has a path or no address
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
    if name not in _HERE and not name.startswith("127."):
        require_network(say("{host} was not reached: the network is switched off here.", host=name))
