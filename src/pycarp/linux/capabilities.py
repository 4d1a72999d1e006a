"""What this process may do, asked before anything is changed."""

from __future__ import annotations

import os

from ..errors import CapabilityError, EngineError

NUMBERS = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""include/uapi/linux/capability.h"""


def effective(process: int | str = "thread-self") -> frozenset[str]:
    """The names of `NUMBERS` that a process, or the calling thread, has.

    In a user namespace they count for what was made inside. `OSError` where that cannot be read.
    """
    try:
        with open(f"/proc/{process}/status") as file:
            line = next(line for line in file if line.startswith("CapEff:"))
    except FileNotFoundError:
        if os.path.exists("/proc/self"):
            raise
        raise EngineError(
            "there is no /proc here, where an engine reads what it may do and sets what IPv6 needs: mount it "
            "(mount -t proc proc /proc)"
        ) from None
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


FILTER = "a filter of system calls (a container's seccomp profile, or SystemCallFilter= of a unit) is on this process"


def filtered() -> bool:
    """Whether a filter of system calls is on the calling thread."""
    with open("/proc/thread-self/status") as file:
        return "Seccomp:\t2\n" in file


def refused(error: OSError) -> CapabilityError:
    """What to raise where the system refuses what these capabilities are enough for."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    function = where.tb_frame.f_code.co_name if where is not None else "?"
    who = FILTER if filtered() else "an AppArmor or SELinux profile may be on this process"
    what = f"{error.strerror}, {error.filename}" if error.filename else error.strerror
    return CapabilityError(
        f"the system refuses what an engine needs ({what}; in {function}): {who}, and has to allow it"
    )
