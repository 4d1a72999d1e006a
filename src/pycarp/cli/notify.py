"""Tells systemd the state of the service (sd_notify(3)), without its library."""

from __future__ import annotations

import os
import socket
import time


def notify(state: str) -> bool:
    """Send a state such as ``READY=1`` to the service manager; False if there is none, or it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def reloading() -> bool:
    """Say that the configuration is being read again (``Type=notify-reload`` needs the time, too)."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
