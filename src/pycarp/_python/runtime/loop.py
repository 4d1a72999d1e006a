"""The loop: it waits for frames, replies, commands and deadlines, and runs what is due.

Thread: runtime.
"""

from __future__ import annotations

from ..._unpatched import time
from ...linux.threads import ordinary, precise
from ...protocol import SendAdvert, State
from ...protocol.timing import ANNOUNCE_AFTER_ADVERT, announce_after
from ..forgeries import forged_again
from .actions import carry_out
from .addresses import send_unsent_orders, take
from .guardian import collect, replace_guardian, retry
from .receive import receive
from .reports import report_demotions
from .state import Carpdev, Instance, RuntimeState
from .suspicion import look_at_watchdog, look_for_pause, must_wait
from .tenure import follow
from .timers import next_due, pop_due, schedule
from .transmit import announce, leave_to

_UNSENT_LOOK = 0.001
"""Seconds between two looks at whether there is room for an order that found none; epoll counts whole ms."""
_SLEPT_ON_CLOCK = 2_000_000
"""The loop sleeps the last ns before a deadline on the clock: epoll counts in whole milliseconds."""
_FRAMES_A_TURN = 256
_TURNS_BEFORE_A_TAKEOVER = 64
"""What a socket holds when it is full."""
_FRAME_ROOM = 1 << 17


def run(runtime: RuntimeState) -> None:
    """Run until `closing`."""
    buffer = bytearray(_FRAME_ROOM)
    precise()
    if not runtime.realtime:
        ordinary()
    try:
        while not runtime.closing:
            ready = [key.data for key, _ in runtime.selector.select(_wait(runtime))]
            # While we were stopped the guardian may have let go: that comes before anything we would say ourselves.
            if runtime.guardian.process in ready:
                collect(runtime)
            look_for_pause(runtime)
            for one in ready:
                if one is runtime.mailbox:
                    runtime.mailbox.work()
                elif isinstance(one, Carpdev):
                    _read_frames(runtime, one, buffer)
            _catch_up(runtime, buffer)
            if runtime.guardian.lost and not runtime.closing:
                replace_guardian(runtime)
            if runtime.guardian.unsent:
                send_unsent_orders(runtime)
            look_at_watchdog(runtime)
            _run_timers(runtime, time.monotonic_ns())
            report_demotions(runtime)
    finally:
        # Whoever asks from here on is told so. After a fault nobody speaks for the addresses: with the thread the
        # lifeline ends, and the guardian lets go of them.
        runtime.mailbox.close()


def _wait(runtime: RuntimeState) -> float | None:
    """How many seconds the loop may wait. The last bit is slept here, and the sockets are looked at once more."""
    if runtime.guardian.lost:
        return 0
    if runtime.guardian.unsent:
        return _UNSENT_LOOK
    watchdog = runtime.watchdog
    watchdog_due = watchdog.fed + watchdog.limit if watchdog.limit and not watchdog.expired else None
    dues = (next_due(runtime), runtime.demotions_due, watchdog_due)
    due = min((due for due in dues if due is not None), default=None)
    if due is None:
        return None
    left = due - time.monotonic_ns()
    if left > _SLEPT_ON_CLOCK:
        return (left - _SLEPT_ON_CLOCK // 2) / 1e9
    if left > 0:
        time.sleep(left / 1e9)
    return 0


def _read_frames(runtime: RuntimeState, carpdev: Carpdev, buffer: bytearray) -> None:
    """Take what the socket holds, a turn's worth at most."""
    view = memoryview(buffer)
    carpdev.behind = False
    for _ in range(_FRAMES_A_TURN):
        try:
            length = carpdev.sockets.receive.recv_into(buffer)
        except OSError:
            # There is no other; or the interface went down or away: the kernel reports that once, the watch the rest.
            return
        frame = bytes(view[:length])
        if not forged_again(carpdev.input, frame):
            receive(runtime, carpdev, frame, time.monotonic_ns())
    carpdev.behind = True


def _catch_up(runtime: RuntimeState, buffer: bytearray) -> None:
    """Before a takeover all is read that came in time, as long as a full socket takes: an advert may be among it."""
    for _ in range(_TURNS_BEFORE_A_TAKEOVER):
        now = time.monotonic_ns()
        behind = (one for one in runtime.instances.values() if one.carpdev.behind)
        overdue = next((one for one in behind if one.machine.overdue(now)), None)
        if overdue is None:
            return
        _read_frames(runtime, overdue.carpdev, buffer)


def _run_timers(runtime: RuntimeState, now: int) -> None:
    look_for_pause(runtime)  # once more: we may have been stopped while frames were read
    while (timer := pop_due(runtime, now)) is not None:
        due, instance = timer
        runtime.wakeup.count(now - due)
        _run_machine(runtime, instance, due, now)
        timers = instance.timers
        if timers.take_due is not None and timers.take_due <= now:
            timers.take_due = None
            announce(instance)
            take(runtime, instance, now)
        if timers.retry_due is not None and timers.retry_due <= now:
            retry(runtime, instance, now)
        if timers.tenure_due is not None and timers.tenure_due <= now:
            follow(runtime, instance, now)
        if timers.announce_due is not None and timers.announce_due <= now:
            timers.announce_due = None
            if instance.ownership.owned and not instance.machine.leaving:
                announce(instance)
        schedule(runtime, instance)


def _run_machine(runtime: RuntimeState, instance: Instance, due: int, now: int) -> None:
    machine, ownership = instance.machine, instance.ownership
    if must_wait(runtime, instance, now):
        machine.delay_takeover(now)
    master, owned, leaving = machine.state is State.MASTER, ownership.owned, machine.leaving
    actions = machine.timeout(now)
    carry_out(runtime, instance, actions, now)
    if leaving and machine.state is State.BACKUP:
        leave_to(runtime, instance, ownership.heir)
    adverts = [action for action in actions if isinstance(action, SendAdvert)] if master else []
    if adverts:
        again_after = announce_after(instance.plan.host.announce, machine.interval)
        instance.late = time.monotonic_ns() - due
        runtime.sending.count(instance.late)
        if (
            owned
            and not adverts[0].between
            and ownership.owned
            and (ownership.announcements or now - ownership.announced >= again_after)
        ):
            ownership.announcements = max(0, ownership.announcements - 1)
            if instance.timers.announce_due is None:
                instance.timers.announce_due = now + min(ANNOUNCE_AFTER_ADVERT, machine.interval // 2)
