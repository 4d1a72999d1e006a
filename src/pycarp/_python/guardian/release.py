"""Releasing addresses without an order: the drop first, then the bow-out, at which another host takes over at once.

The twin of `ext/guardian/release.c`.
Thread: the one that has the turn.
"""

import errno

from . import clocks
from .bowout import bowout_finish, bowout_send
from .clocks import monotonic, sleep_until
from .gate import gate_disarm, gate_shut
from .guardian import Guardian
from .instance import Instance, beat_age
from .listeners import listeners_note, listeners_read
from .protocol import BATCH_DROP, BATCH_MUTE, ORDER_DROP, ORDER_TAKE
from .replies import reply_order, reply_released, reply_superseded
from .route import ALL, batch_execute, batch_join


def fine_to_drop(error: int) -> bool:
    """What a drop or a removal may fail with: it is gone already, perhaps with its interface; or the rule that comes
    when an IPv6 address goes is there."""
    return error in (errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT, errno.EEXIST)


def _time_left(instance: Instance) -> int:
    """ns until this instance is overdue, by what is known now."""
    if instance.late_until:
        return instance.late_until - monotonic()
    return instance.next_beat - beat_age(instance)


def _take_waits(instance: Instance) -> bool:
    return instance.order is not None and instance.order.kind == ORDER_TAKE


def release_next(guardian: Guardian) -> int | None:
    """ns until the next instance is overdue, the next link goes down, or the next take may come, or None."""
    left = []
    now = monotonic()
    for instance in guardian.instances.values():
        if (instance.taken or _take_waits(instance)) and not guardian.quiet:
            left.append(_time_left(instance))
        # Only one that has taken its addresses has a late batch, and only one that has not a link that goes down.
        if instance.late_due:
            left.append(instance.late_due - now)
        if instance.link_due:
            left.append(max(instance.link_due, guardian.listeners.look_at) - now)
        elif _take_waits(instance):
            left.append(guardian.listeners.look_at - now)
    return min(left, default=None)


def _execute(guardian: Guardian, instance: Instance, which: int) -> int:
    return batch_execute(guardian.route, instance.batches[which], ALL, fine_to_drop)


def _remove_addresses(guardian: Guardian, instance: Instance) -> int:
    link_later = instance.mute_is_all and instance.link
    if not link_later or _execute(guardian, instance, BATCH_MUTE):
        return _execute(guardian, instance, BATCH_DROP)
    instance.link_due = monotonic() + clocks.LINK_DOWN_AFTER_DROP
    return 0


def drop_addresses(guardian: Guardian, instance: Instance) -> int:
    """Drop an instance's addresses, its link later where the addresses go without it: 0 or an errno."""
    instance.late_due = 0
    gate_shut(instance.packet, instance.gate)
    error = _remove_addresses(guardian, instance)
    listeners_note(guardian.listeners, instance.essential)
    if error == 0:
        gate_disarm(instance.packet, instance.gate)
    return error


def _may_go_down(guardian: Guardian, instance: Instance) -> bool:
    """Nobody needs it down soon: it waits until programs have heard of the addresses that went."""
    passed = monotonic() - instance.link_due
    return passed >= clocks.LINK_WAITS_AT_MOST or (passed >= 0 and listeners_read(guardian.listeners))


def release_link(guardian: Guardian, wait: bool) -> bool:
    """Take down a link whose time has come; false when there is none, or listeners are behind.

    With `wait`, wait for the time of the next, and for no listener.
    """
    due = [instance for instance in guardian.instances.values() if instance.link_due]
    if not due:
        return False
    first = min(due, key=lambda instance: instance.link_due)
    if not wait and not _may_go_down(guardian, first):
        return False
    listeners_note(guardian.listeners, 1)
    sleep_until(first.link_due)
    first.link_due = 0
    _execute(guardian, first, BATCH_DROP)
    return True


def _is_overdue(instance: Instance) -> bool:
    left = _time_left(instance)
    if left >= 0:
        return False
    if instance.late_until == 0 and left < -clocks.GUARDIAN_WOKEN_LATE:
        instance.late_until = monotonic() + clocks.GUARDIAN_WOKEN_LATE_ALLOWANCE
        return False
    return True


def release_overdue(guardian: Guardian) -> None:
    """Release the instances whose engine has been silent for too long."""
    for instance in guardian.instances.values():
        order = instance.order
        if instance.stale and order is not None and order.kind != ORDER_DROP:
            instance.order = None
            if order.kind == ORDER_TAKE:
                reply_order(guardian, order, errno.ETIMEDOUT)
        claimed = instance.taken or _take_waits(instance)
        if claimed and not guardian.quiet and (instance.stale or _is_overdue(instance)):
            if instance.order is not None and _take_waits(instance):
                # The engine has told the LAN that it is MASTER: there is something to take back.
                reply_superseded(guardian, instance.order)
                instance.order, instance.taken = None, True
            instance.leaving = True
        instance.stale = False
    release(guardian, True)


def release(guardian: Guardian, bowout: bool) -> None:
    """Release every instance that is `leaving`: mute, drop, and bow out where that is of use."""
    leaving = [instance for instance in guardian.instances.values() if instance.leaving]
    if not leaving:
        return
    begun = monotonic()
    for instance in leaving:
        instance.silent = gate_shut(instance.packet, instance.gate)
    mute = batch_join(instance.batches[BATCH_MUTE] for instance in leaving)
    muted = batch_execute(guardian.route, mute, ALL, fine_to_drop) == 0
    for instance in leaving:
        instance.silent = instance.silent or (muted and instance.mute_is_all)
    for instance in leaving:
        if bowout and instance.silent:
            bowout_send(instance, begun + clocks.BOWOUT_AFTER_DROP)
    for instance in leaving:
        silence, started = beat_age(instance), monotonic()
        # IPv6 addresses fall silent with the link, long before the kernel has finished with it.
        if bowout and not instance.silent:
            bowout_send(instance, started + clocks.BOWOUT_AFTER_DROP)
        error = drop_addresses(guardian, instance)
        instance.silent = True
        instance.taken = instance.leaving = instance.muted = False
        instance.late_until = 0
        reply_released(guardian, instance, error, started, silence)
    bowout_finish()
