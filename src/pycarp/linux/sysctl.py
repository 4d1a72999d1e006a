"""Kernel settings under /proc/sys/net, of the network namespace that the calling thread is in."""

from __future__ import annotations

_ROOT = "/proc/sys/net"


def write(name: str, value: int | str) -> None:
    """Set it. `OSError` where it does not exist, may not be changed, or /proc/sys is mounted read-only."""
    with open(f"{_ROOT}/{name}", "w") as file:
        file.write(f"{value}\n")


def try_write(name: str, value: int | str) -> bool:
    """Set it if that is possible; False where it is not (no IPv6 in the kernel, a container's read-only /proc/sys)."""
    try:
        write(name, value)
    except OSError:
        return False
    return True


def read(name: str) -> int:
    """Its value; 0 where it does not exist or may not be read."""
    try:
        with open(f"{_ROOT}/{name}") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
