"""What the engine orders: the twin of `ext/guardian/orders.c`.

Everything that waits is read before the next order is carried out: so the last of several for one instance counts.
Thread: the one that has the turn.
"""

import _socket as socket
import errno
import os
from struct import Struct

from . import protocol
from .clocks import LATE_AFTER_TAKE, LEASE_MAY_BE_OVER, NS_PER_MS, NS_PER_SECOND, boottime, monotonic
from .gate import gate_create, gate_open, gate_remove, gate_renamed, gate_same, gate_shut
from .guardian import Guardian
from .instance import Instance, Order, beat_age, instance_put, instance_read, instance_remove
from .listeners import listeners_keep_up, listeners_note
from .release import drop_addresses, fine_to_drop, release
from .replies import reply_order, reply_superseded
from .route import ALL, batch_continue, batch_execute, batch_join, batch_set_lease

AT_A_TIME = 1024
"""Messages, before something is carried out in between."""
HANDED, HANDED_ROOM = 3, 16
"""Descriptors that come with ADD (description, socket that sends, lock), and for how many there is room."""
CREDENTIALS, DESCRIPTOR = Struct("=iII"), Struct("=i")
LATE_SHORT = 16
"""Requests that may follow a take at once."""
READ, NOTHING, GONE = range(3)


def _fine_to_renew(error: int) -> bool:
    return error == 0


def _fine_to_take(error: int) -> bool:
    return error == errno.EEXIST


def _waits_for(instance: Instance, kind: int) -> bool:
    return instance.order is not None and instance.order.kind == kind


def _note_beat(instance: Instance, order: Order) -> None:
    """This order is a sign of life."""
    # None comes from the future, or from before the machine was started.
    instance.at = max(0, min(order.at, monotonic()))
    instance.boot = max(0, min(order.boot, boottime()))
    instance.next_beat = order.next_beat_ms * NS_PER_MS
    instance.takeover_after = order.takeover_after_ms * NS_PER_MS
    instance.stale = beat_age(instance) > instance.next_beat
    instance.late_until = 0


def _supersede(guardian: Guardian, instance: Instance) -> None:
    if instance.order is not None and instance.order.kind != protocol.ORDER_RENEW:
        reply_superseded(guardian, instance.order)


def _place(guardian: Guardian, instance: Instance, order: Order) -> None:
    if order.kind in (protocol.ORDER_RENEW, protocol.ORDER_BEAT):
        taking = _waits_for(instance, protocol.ORDER_TAKE)
        if not instance.taken and not taking:
            return
        _note_beat(instance, order)
        if order.kind == protocol.ORDER_BEAT or taking or _waits_for(instance, protocol.ORDER_DROP):
            return
    else:
        _supersede(guardian, instance)
        if order.kind == protocol.ORDER_TAKE:
            _note_beat(instance, order)
    instance.muted = instance.muted and order.kind == protocol.ORDER_DROP
    instance.order = order


def _gate_time(instance: Instance, beaten: Instance) -> int:
    """ns that a gate may be open from now on, after that one's sign of life."""
    return instance.gate.lease * NS_PER_MS - beat_age(beaten)


def _put_gate(guardian: Guardian, fresh: Instance, former: Instance) -> None:
    """The table of a gate that is described anew, where it is another one. What fails is tried again by the next
    order."""
    fresh.gate.lease = former.gate.lease
    if not fresh.gate.device or gate_same(fresh.gate, former.gate):
        return
    if (fresh.gate.made or gate_create(guardian.filter, fresh.gate) == 0) and former.taken:
        gate_open(guardian.filter, fresh.packet, fresh.gate, _gate_time(fresh, former))


def _add(guardian: Guardian, order: Order, handed: list[int]) -> None:
    """Takes from `handed` what it keeps."""
    # What was ordered for an instance that is to be forgotten comes first.
    while (former := guardian.instances.get(order.index)) is not None and protocol.ORDER_FORGET in former.asked:
        orders_carry_out(guardian, False)
    code = errno.EINVAL
    try:
        if len(handed) >= HANDED:
            fresh = instance_read(order.index, handed[0])
            fresh.packet = socket.socket(fileno=handed[1])
            fresh.lock = handed[2]
            del handed[1:3]
            if former is not None:
                _put_gate(guardian, fresh, former)
            instance_put(guardian.instances, fresh)
            code = 0
    except ValueError:
        pass
    except OSError as error:
        code = error.errno or errno.EIO
    reply_order(guardian, order, code)


def _handle_for_instance(guardian: Guardian, order: Order) -> None:
    instance = guardian.instances.get(order.index)
    if instance is None or protocol.ORDER_FORGET in instance.asked:
        if order.kind not in (protocol.ORDER_RENEW, protocol.ORDER_BEAT):
            reply_order(guardian, order, errno.ENOENT)
    elif order.kind <= protocol.ORDER_BEAT:
        _place(guardian, instance, order)
    else:
        instance.asked[order.kind] = order


def _handle(guardian: Guardian, order: Order, uid: int | None, handed: list[int]) -> None:
    if order.kind == protocol.ORDER_QUIET:
        guardian.quiet = True
        reply_order(guardian, order)
    elif order.kind == protocol.ORDER_ADD:
        # A program that gave up root keeps its instances, and adds no others.
        if uid in (0, guardian.uid):
            _add(guardian, order, handed)
        else:
            reply_order(guardian, order, errno.EPERM)
    elif order.kind <= protocol.ORDER_RESTORE:
        _handle_for_instance(guardian, order)


def _take_ancillary(ancillary: list[tuple[int, int, bytes]]) -> tuple[list[int], int | None]:
    """Descriptors and the user that came with a message."""
    handed: list[int] = []
    uid = None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            handed += (fd for (fd,) in DESCRIPTOR.iter_unpack(data[: len(data) & ~3]))
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) >= CREDENTIALS.size:
            uid = CREDENTIALS.unpack_from(data)[1]
    return handed, uid


def _read_one(guardian: Guardian) -> int:
    room = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(HANDED_ROOM * DESCRIPTOR.size)
    try:
        raw, ancillary, flags, _address = guardian.engine.recvmsg(
            protocol.ORDER.size, room, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        )
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return NOTHING
        # ECONNRESET: the other end was closed with replies unread. That is said once, then comes what waits.
        return READ if error.errno in (errno.ECONNRESET, errno.ENOBUFS, errno.ENOMEM) else GONE
    handed, uid = _take_ancillary(ancillary)
    # An empty message has a sender; the end has none.
    if not raw and uid is None:
        return GONE
    try:
        if len(raw) == protocol.ORDER.size and not flags & socket.MSG_TRUNC:
            _handle(guardian, Order(raw), uid, handed)
    finally:
        for fd in handed:
            os.close(fd)
    return READ


def orders_read(guardian: Guardian) -> bool:
    """Read all that waits; false when the engine's end is closed."""
    for _ in range(AT_A_TIME):
        outcome = _read_one(guardian)
        if outcome != READ:
            return outcome == NOTHING
    return True


def _lease_is_over(instance: Instance, lease: int) -> bool:
    """The kernel may have removed the addresses while the guardian did not run: to renew them would bring them back.

    A gate knows by itself.
    """
    if instance.gate.device:
        return False
    return lease != protocol.LEASE_FOREVER and beat_age(instance) > lease * NS_PER_SECOND + LEASE_MAY_BE_OVER


def _give_lease(instance: Instance, lease: int) -> None:
    if instance.lease != lease:
        batch_set_lease(instance.batches[protocol.BATCH_TAKE], lease)
        batch_set_lease(instance.batches[protocol.BATCH_RENEW], lease)
        instance.lease = lease


def _open_gate(guardian: Guardian, instance: Instance, lease: int) -> int:
    instance.gate.lease = lease
    error = gate_open(guardian.filter, instance.packet, instance.gate, _gate_time(instance, instance))
    # This process may have been stopped in between.
    if _gate_time(instance, instance) < 0:
        gate_shut(instance.packet, instance.gate)
    return error


def _renew_gate(guardian: Guardian, instance: Instance, order: Order) -> None:
    """A renewal where there is a gate: the addresses stay as they are."""
    error = _open_gate(guardian, instance, order.lease)
    # Without its device it has no addresses either: the engine looks after that.
    if error in (0, errno.ENETDOWN, errno.ENXIO, errno.ENODEV):
        return
    # A table goes by its device's name: the engine is about to describe it anew.
    if error == errno.ENOENT and gate_renamed(instance.gate):
        return
    # The table has gone, and cannot be put back.
    reply_order(guardian, order, error, monotonic())
    instance.leaving = True
    release(guardian, True)


def _take_gated(guardian: Guardian, instance: Instance, order: Order) -> int:
    """Take where there is a gate. It opens before the addresses come: what the kernel says of them leaves at once."""
    _give_lease(instance, protocol.LEASE_FOREVER)
    batch_execute(guardian.route, instance.batches[protocol.BATCH_UP], 0, _fine_to_take)
    error = _open_gate(guardian, instance, order.lease)
    return (
        batch_execute(guardian.route, instance.batches[protocol.BATCH_TAKE], instance.essential, _fine_to_take) or error
    )


def _late_due(instance: Instance) -> int:
    """Many requests keep the kernel from what the first answers need, and wait until those have left."""
    count = instance.batches[protocol.BATCH_LATE].count
    return monotonic() + (LATE_AFTER_TAKE if count > LATE_SHORT else 0) if count else 0


def _take_or_renew(guardian: Guardian, instance: Instance, order: Order) -> None:
    take = order.kind == protocol.ORDER_TAKE
    started = 0
    error = errno.ETIMEDOUT
    if take:
        instance.link_due = 0
    elif not instance.taken:
        return
    elif instance.gate.device:
        _renew_gate(guardian, instance, order)
        return
    elif order.lease == instance.lease == protocol.LEASE_FOREVER:
        return  # there is nothing to renew
    if not _lease_is_over(instance, order.lease):
        # Before it is so: whatever happens from now on, there may be addresses to release.
        instance.taken = True
        started = monotonic()
        if take:
            listeners_note(guardian.listeners, instance.essential)
        if instance.gate.device:
            error = _take_gated(guardian, instance, order)
        else:
            _give_lease(instance, order.lease)
            batch = instance.batches[protocol.BATCH_TAKE if take else protocol.BATCH_RENEW]
            error = batch_execute(
                guardian.route, batch, instance.essential if take else ALL, _fine_to_take if take else _fine_to_renew
            )
    if _lease_is_over(instance, order.lease):
        error = errno.ETIMEDOUT
        instance.leaving = instance.taken
        release(guardian, True)
    if take:
        instance.late_due = 0 if error else _late_due(instance)
        instance.late_done = 0
    # A renewal that came too late is told by the reply RELEASED.
    if take or error not in (0, errno.ETIMEDOUT):
        reply_order(guardian, order, error, started)


def _drop(guardian: Guardian, instance: Instance, order: Order) -> None:
    started = monotonic()
    error = drop_addresses(guardian, instance)
    instance.taken = instance.muted = False
    reply_order(guardian, order, error, started)


def _mute_waiting(guardian: Guardian) -> None:
    """Where several drops wait, the quick part of each is done before the links of any."""
    drops = [instance for instance in guardian.instances.values() if _waits_for(instance, protocol.ORDER_DROP)]
    loud = [instance for instance in drops if not instance.muted]
    if len(drops) > 1 and loud:
        # What fails here is tried again, and told, by the drop itself.
        for instance in loud:
            gate_shut(instance.packet, instance.gate)
        mute = batch_join(instance.batches[protocol.BATCH_MUTE] for instance in loud)
        batch_execute(guardian.route, mute, ALL, fine_to_drop)
        for instance in loud:
            instance.muted = True


def _carry_out_asked(guardian: Guardian, instance: Instance) -> bool:
    """One of REMOVE, RESTORE and FORGET, in this order; false when none was asked for."""
    kinds = (protocol.ORDER_REMOVE, protocol.ORDER_RESTORE, protocol.ORDER_FORGET)
    order = next((instance.asked.pop(kind) for kind in kinds if kind in instance.asked), None)
    if order is None:
        return False
    started, error = monotonic(), 0
    if order.kind != protocol.ORDER_FORGET:
        instance.link_due = 0  # the link goes with its interface
        which = protocol.BATCH_REMOVE if order.kind == protocol.ORDER_REMOVE else protocol.BATCH_RESTORE
        error = batch_execute(guardian.route, instance.batches[which], ALL, fine_to_drop)
        if order.kind == protocol.ORDER_REMOVE:
            gate_error = gate_remove(guardian.filter, instance.gate)
            error = error or (0 if fine_to_drop(gate_error) else gate_error)
    else:
        if instance.link_due:
            batch_execute(guardian.route, instance.batches[protocol.BATCH_DROP], ALL, fine_to_drop)
        instance_remove(guardian.instances, instance)
    reply_order(guardian, order, error, started)
    return True


def _most_urgent(guardian: Guardian, patient: bool) -> Instance | None:
    """Drops come first: an address on two hosts harms more than one that comes a little later.

    But links go down slowly, and the leases of others must not end meanwhile: so one renewal comes after each drop.
    """
    waiting = [instance for instance in guardian.instances.values() if instance.order is not None]
    first = (protocol.ORDER_RENEW, protocol.ORDER_DROP) if guardian.last_dropped else (protocol.ORDER_DROP,)
    for kind in first:
        for instance in waiting:
            if _waits_for(instance, kind):
                return instance
    found = waiting[0] if waiting else None
    if found is not None and patient and _waits_for(found, protocol.ORDER_TAKE):
        if not listeners_keep_up(guardian.listeners):
            return next((instance for instance in waiting if _waits_for(instance, protocol.ORDER_RENEW)), None)
    return found


def orders_carry_out(guardian: Guardian, patient: bool) -> bool:
    """Carry out one order, the most urgent; false when there was none. With `patient`, takes wait for listeners."""
    _mute_waiting(guardian)
    instance = _most_urgent(guardian, patient)
    if instance is None:
        resting = [one for one in guardian.instances.values() if one.order is None]
        return any(_carry_out_asked(guardian, one) for one in resting)
    order, instance.order = instance.order, None
    assert order is not None
    guardian.last_dropped = order.kind == protocol.ORDER_DROP
    if order.kind == protocol.ORDER_DROP:
        _drop(guardian, instance, order)
    else:
        _take_or_renew(guardian, instance, order)
    return True


def orders_carry_out_late(guardian: Guardian) -> bool:
    """Carry out a bit of what takes have left for later; false when there was nothing."""
    for instance in guardian.instances.values():
        if instance.late_due and instance.late_due <= monotonic():
            late = instance.batches[protocol.BATCH_LATE]
            instance.late_done = batch_continue(guardian.route, late, instance.late_done)
            if instance.late_done >= late.count:
                instance.late_due = 0
            return True
    return False


def orders_withdraw(guardian: Guardian) -> None:
    """The engine has ended: takes and renewals that wait are withdrawn, and all that it has taken is to be released."""
    for instance in guardian.instances.values():
        if instance.order is not None and instance.order.kind != protocol.ORDER_DROP:
            _supersede(guardian, instance)
            # The engine has told the LAN that it is MASTER: there is something to take back.
            instance.taken |= instance.order.kind == protocol.ORDER_TAKE
            instance.order = None
        # A drop that waits is the engine's own: it has sent its own bow-out.
        instance.leaving = instance.taken and instance.order is None
