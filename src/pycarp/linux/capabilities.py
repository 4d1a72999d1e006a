"""What this process may do, asked before anything is changed."""

from __future__ import annotations

from pathlib import Path

from ..errors import CapabilityError

NUMBERS = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""include/uapi/linux/capability.h"""


def effective(process: int | str = "thread-self") -> frozenset[str]:
    """The names of `NUMBERS` that a process, or the calling thread, has.

    In a user namespace they count for what was made inside. `OSError` where that cannot be read.
    """
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    bits = int(line.split()[1], 16)
    return frozenset(name for name, number in NUMBERS.items() if bits >> number & 1)


def require(*names: str) -> None:
    """Raises `CapabilityError` that says which of these capabilities are missing, and how to grant them."""
    missing = [name for name in names if name not in effective()]
    if missing:
        # Not file capabilities: those of an interpreter would be there for every script.
        raise CapabilityError(
            f"missing {' and '.join(missing)}: run as root, or from a systemd unit with "
            f"AmbientCapabilities={' '.join(names)}"
        )
