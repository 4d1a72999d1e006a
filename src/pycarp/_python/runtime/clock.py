"""The clock that serials are read from: the wall clock, but it never goes back.

Thread: runtime.
"""

from __future__ import annotations

from ..._unpatched import time
from ...protocol import NS_PER_SECOND, State
from .state import Instance, RuntimeState, boottime


def read_clock(runtime: RuntimeState) -> int:
    """ns since 1970, as this process counts them. Steps of the wall clock are followed forward only, and not while
    others follow a MASTER here: to them its serials would jump."""
    now = boottime()
    if not any(one.speaks and one.machine.state is State.MASTER for one in runtime.instances.values()):
        runtime.ahead = max(runtime.ahead, time.time_ns() - now)
    return now + runtime.ahead


def serial(runtime: RuntimeState) -> int:
    """What an advert bears that is sent now: seconds, modulo 2**16."""
    return read_clock(runtime) // NS_PER_SECOND & 0xFFFF


def next_serial(runtime: RuntimeState, instance: Instance) -> int:
    """What an advert bears that is sent now and is no bow-out. Once a host has bowed out only later serials count: one
    that comes back in the same second goes on with the next."""
    if serial(runtime) == instance.left:
        runtime.ahead += NS_PER_SECOND - read_clock(runtime) % NS_PER_SECOND
    return serial(runtime)
