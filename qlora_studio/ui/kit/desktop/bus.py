"""A notification through the desktop's own service, org.freedesktop.Notifications, over the session bus of D-Bus.

By jeepney: PySide's QtDBus cannot write the unsigned number that the service wants, and a tray icon needs a tray, which
GNOME has not.
"""

import html
import os

_SECONDS = 2.0  # after which a bus that does not answer is none
_PATH, _NAME = "/org/freedesktop/Notifications", "org.freedesktop.Notifications"


def notify_desktop(program: str, title: str, text: str) -> bool:
    """Show a notification of a program; return whether the desktop took it. It may wait; any thread may call it."""
    from jeepney import DBusAddress, MessageType, new_method_call  # here: only who has ended a run waits for it
    from jeepney.io.blocking import open_dbus_connection

    actions: list[str] = []
    hints = {"desktop-entry": ("s", program)}
    body = (program, 0, "", title, html.escape(text, quote=False), actions, hints, -1)  # for as long as it likes
    call = new_method_call(DBusAddress(_PATH, _NAME, _NAME), "Notify", "susssasa{sv}i", body)
    usual = f"unix:path={os.environ.get('XDG_RUNTIME_DIR', '')}/bus"  # where systemd has it
    try:
        with open_dbus_connection(os.environ.get("DBUS_SESSION_BUS_ADDRESS", usual)) as bus:
            answer = bus.send_and_get_reply(call, timeout=_SECONDS)
    except (OSError, ValueError, RuntimeError):
        return False
    return answer.header.message_type is MessageType.method_return
