"""Led virtual hosts (`pycarp.Owner`): the addresses are here until the end of a tenure, which the program moves on.

The machine is started only for that time, and is MASTER at once. Its adverts have no frames: what is left of them is
the beat that gives the addresses a lease, here to the end of the tenure at most.

Thread: runtime.
"""

from __future__ import annotations

from ... import events
from ...protocol import State
from ...protocol.timing import TENURE_ENDS_BEFORE, TENURE_FOREVER
from .actions import carry_out
from .addresses import beat, retry_later
from .reports import report
from .state import Instance, RuntimeState, boottime
from .timers import schedule

_SHORT = 5 * TENURE_ENDS_BEFORE
"""A tenure that ends within this time is not renewed with the guardian any more."""


def hold(runtime: RuntimeState, instance: Instance, now: int, until: int) -> None:
    """The program has the addresses here until then (CLOCK_BOOTTIME, ns); 0: not any longer."""
    instance.tenure = until
    instance.timers.retry_due = None
    follow(runtime, instance, now)


def extend(runtime: RuntimeState, instance: Instance, now: int, until: int) -> bool:
    """The same, unless the tenure is over: then nothing is done."""
    if instance.tenure - boottime() <= TENURE_ENDS_BEFORE:
        return False
    instance.tenure = until
    follow(runtime, instance, now)
    return True


def begin(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """Start its machine; that of a led one starts with its tenure."""
    if instance.plan.host.led:
        follow(runtime, instance, now)
    else:
        carry_out(runtime, instance, instance.machine.start(now), now)


def follow(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """Do what the program has said of a led one."""
    timers, machine = instance.timers, instance.machine
    if not instance.plan.host.led:
        return
    left = instance.tenure - boottime()
    if left <= TENURE_ENDS_BEFORE:
        _end(runtime, instance, now)
        return
    # The gate's steps are coarse: towards the end the lease is renewed more and more often.
    timers.tenure_due = None if instance.tenure == TENURE_FOREVER else now + _next_look(left)
    if timers.retry_due is None:
        carry_out(runtime, instance, machine.start(now), now)
    if machine.state is State.BACKUP:
        carry_out(runtime, instance, machine.force(State.MASTER, now), now)
    elif machine.state is State.MASTER:
        beat(runtime, instance, now)
    schedule(runtime, instance)


def lapse(runtime: RuntimeState, instance: Instance, now: int) -> None:
    """The guardian has let go of the addresses: at the end of the tenure, or because it could not renew their lease."""
    if instance.tenure - boottime() > TENURE_ENDS_BEFORE:
        carry_out(runtime, instance, instance.machine.stop(now), now)
        retry_later(runtime, instance, now)
    else:
        _end(runtime, instance, now)


def _next_look(left: int) -> int:
    return left // 2 if left > _SHORT else left - TENURE_ENDS_BEFORE


def _end(runtime: RuntimeState, instance: Instance, now: int) -> None:
    timers = instance.timers
    if instance.tenure:
        report(runtime, instance, events.TenureEnded, now)
    instance.tenure = 0
    timers.tenure_due = timers.retry_due = None
    carry_out(runtime, instance, instance.machine.stop(now), now)
    schedule(runtime, instance)
