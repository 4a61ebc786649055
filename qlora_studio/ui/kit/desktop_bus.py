"""A notification through the desktop's own service, org.freedesktop.Notifications, over the session bus of D-Bus.

By hand, over the bus's socket: PySide's QtDBus cannot write the unsigned number that the service wants, and a tray icon
needs a tray, which GNOME has not. What is written is D-Bus's wire format: strings with their lengths, each value at a
multiple of its size. https://dbus.freedesktop.org/doc/dbus-specification.html, "Marshaling".
"""

import html
import os
import socket
import struct
from urllib.parse import unquote

_SECONDS = 2.0  # after which a bus that does not answer is none
_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _DESTINATION, _SIGNATURE = 1, 2, 3, 6, 8  # fields of a header
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus")
_NOTIFICATIONS = ("org.freedesktop.Notifications", "/org/freedesktop/Notifications")


def notify_desktop(program: str, title: str, text: str) -> bool:
    """Show a notification of a program; return whether the desktop took it. It may wait; any thread may call it."""
    body = _Writer()
    body.strings(program).number(0).strings("", title, html.escape(text, quote=False))
    body.number(0)  # no actions
    hint = _Writer().strings("desktop-entry").signature("s").strings(program)
    body.number(len(hint.data)).align(8).raw(hint.data).number(0xFFFFFFFF)  # for as long as the desktop likes
    try:
        with _connected() as bus:
            bus.sendall(_call(1, *_BUS, "Hello") + _call(2, *_NOTIFICATIONS, "Notify", "susssasa{sv}i", body.data))
            return _answer(bus) == _RETURN and _answer(bus) == _RETURN
    except (OSError, ValueError, struct.error):
        return False


class _Writer:
    """Writes values one after another; each begins at a multiple of its alignment."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> "_Writer":
        self.data += bytes(-len(self.data) % size)
        return self

    def raw(self, data: bytes | bytearray) -> "_Writer":
        self.data += data
        return self

    def number(self, value: int) -> "_Writer":
        return self.align(4).raw(struct.pack("<I", value))

    def strings(self, *texts: str) -> "_Writer":
        for text in texts:
            data = text.replace("\0", "").encode(errors="replace")
            self.number(len(data)).raw(data + b"\0")
        return self

    def signature(self, text: str) -> "_Writer":
        return self.raw(bytes([len(text)]) + text.encode() + b"\0")


def _connected() -> socket.socket:
    """Return a connection to the session bus on which this user is known. Raises OSError."""
    bus = socket.socket(socket.AF_UNIX)
    try:
        bus.settimeout(_SECONDS)
        bus.connect(_address())
        bus.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        if not bus.recv(256).startswith(b"OK"):
            raise ConnectionRefusedError
        bus.sendall(b"BEGIN\r\n")
    except BaseException:
        bus.close()
        raise
    return bus


def _address() -> str:
    """Return the socket of the session bus: of the environment, or where systemd has it."""
    usual = "unix:path=" + os.environ.get("XDG_RUNTIME_DIR", "") + "/bus"
    for address in os.environ.get("DBUS_SESSION_BUS_ADDRESS", usual).split(";"):
        facts = dict(fact.partition("=")[::2] for fact in address.partition(":")[2].split(","))
        if path := facts.get("path"):
            return unquote(path)
        if name := facts.get("abstract"):
            return "\0" + unquote(name)
    raise FileNotFoundError("no session bus")


def _call(serial: int, name: str, path: str, member: str, signature: str = "", body: bytes | bytearray = b"") -> bytes:
    """Return the message that calls a method of the interface that is called as its service."""
    fields = _Writer()
    texts = {_PATH: ("o", path), _INTERFACE: ("s", name), _MEMBER: ("s", member), _DESTINATION: ("s", name)}
    for code, (kind, text) in texts.items():
        fields.align(8).raw(bytes([code])).signature(kind).strings(text)
    if signature:
        fields.align(8).raw(bytes([_SIGNATURE])).signature("g").signature(signature)
    head = struct.pack("<cBBBIII", b"l", _CALL, 0, 1, len(body), serial, len(fields.data))
    return bytes(_Writer().raw(head + fields.data).align(8).raw(body).data)


def _answer(bus: socket.socket) -> int:
    """Read on to the next answer, past signals, and return whether it is a return or an error."""
    while True:
        head = _read(bus, 16)
        size, fields = struct.unpack("<I", head[4:8])[0], struct.unpack("<I", head[12:16])[0]
        if head[:1] != b"l" or size + fields > 1 << 20:
            raise ValueError("no message of this machine")
        _read(bus, fields + -fields % 8 + size)
        if head[1] in (_RETURN, _ERROR):
            return head[1]


def _read(bus: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = bus.recv(size - len(data))
        if not part:
            raise ConnectionAbortedError
        data += part
    return data
