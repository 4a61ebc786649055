"""Where ranks come together: by a file where all are of one machine, else by an address of the first machine.

torch's TCP store listens on every interface, whatever address it is given: so it is given a socket that is bound.
"""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.machines import Machines
from qlora_studio.core.words import say

_DISTRIBUTED: Any = torch.distributed  # whose stores its types do not know
_ANSWER = timedelta(minutes=5)  # for what is there as soon as it is asked for; what may take long is polled


class Meeting(BaseModel):
    """A file that is not there yet, or an address that the first machine listens on; all speak by this interface."""

    file: Path | None = None
    host: str = ""
    port: int = 0
    interface: str = "lo"

    @classmethod
    def of(cls, machines: Machines) -> "Meeting":
        """Return where machines meet, as this one comes to it."""
        return cls(host=machines.host, port=machines.port, interface=machines.interface)

    @property
    def environment(self) -> dict[str, str]:
        """What Gloo and NCCL are told of where to listen."""
        return {"GLOO_SOCKET_IFNAME": self.interface, "NCCL_SOCKET_IFNAME": f"={self.interface}"}

    @property
    def arguments(self) -> dict[str, Any]:
        """What torch's process group is told of where to meet."""
        if self.file is not None:
            return {"init_method": self.file.absolute().as_uri()}
        return {"store": _DISTRIBUTED.PrefixStore("ranks", self.store())}

    def is_open(self) -> bool:
        """Whether somebody listens there."""
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def store(self) -> Any:
        """Return a connection of its own to what the first machine keeps. Raises RuntimeError where nobody listens."""
        return _DISTRIBUTED.TCPStore(self.host, self.port, is_master=False, timeout=_ANSWER)


def listening_store(machines: Machines) -> Any:
    """Return what the first machine keeps; it listens on this one address alone. Raises StudioError."""
    family = socket.AF_INET6 if ":" in machines.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((machines.host, machines.port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise StudioError(
            say(
                "Port {port} of {host} cannot be listened on: {why}.",
                port=machines.port,
                host=machines.host,
                why=error.strerror or error,
            ),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Choose another port, on all machines: --meet {host}:PORT", host=machines.host),
        ) from error
    return _DISTRIBUTED.TCPStore(
        machines.host,
        machines.port,
        is_master=True,
        wait_for_workers=False,
        timeout=_ANSWER,
        master_listen_fd=listener.detach(),
    )
