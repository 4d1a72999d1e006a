"""The guardian as a program of plain Python.

It alone writes the addresses of an engine, on the engine's word, and when the engine dies or falls silent it lets go of
them: first they are dropped, then the bow-out says so. It runs without the package and imports only what starts fast.
Its twin is the compiled program; orders, replies and descriptors are those of `pycarp.linux.guardian_client`.
"""

from __future__ import annotations

# Their public faces, socket and signal, build enumerations first: as long as the rest of the start takes.
import _signal as signal  # type: ignore[import-not-found]
import _socket as socket
import _thread
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import select
import stat
import struct
import sys
import time
from _queue import SimpleQueue

from .protocol import (
    DESCRIPTION,
    DESCRIPTION_VERSION,
    FRAME_LENGTH,
    LEASE_FOREVER,
    ORDER,
    ORDER_ADD,
    ORDER_BEAT,
    ORDER_DROP,
    ORDER_FORGET,
    ORDER_QUIET,
    ORDER_REMOVE,
    ORDER_RENEW,
    ORDER_RESTORE,
    ORDER_TAKE,
    REPLY,
    REPLY_HELLO,
    REPLY_RELEASED,
    REPLY_SUPERSEDED,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# What it finds open: descriptors from here on are closed.
ENGINE, LIFELINE, PIDFD, OTHERS = 3, 4, 5, 6

BLOB_LIMIT = 4 << 20
CREDENTIALS = struct.Struct("=iII")
PASSED = 8  # so many descriptors are looked for in a message, to be closed if they are not the three of an ADD
REPLIES_KEPT = 512
AT_A_TIME = 1024  # messages, before something is carried out in between
AT_THE_END = 4096  # orders that are still carried out
BOWOUT_TRIES = 5  # attempts, where there is no room for a frame

ALREADY = frozenset({0, errno.EEXIST})
NOT_THERE = frozenset({0, errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ESRCH})
GONE = NOT_THERE | {errno.ENOENT}
FINE = {
    ORDER_TAKE: ALREADY,
    ORDER_RENEW: frozenset({0}),
    ORDER_DROP: NOT_THERE,
    ORDER_REMOVE: GONE,
    ORDER_RESTORE: GONE,
}

MS = 1_000_000
LOOK = 0.0001
"""Seconds between two looks at a link that goes down."""
DROP_LEAD = 300_000
"""A bow-out waits this many ns after the drop was sent: answers stop within 0.1 ms of that."""
LEASE_SLACK = 900 * MS
"""Beyond its lease by so much an address may have gone, and a renewal would bring it back after a pause."""
LINGER = 50 * MS
"""The link of an address that has gone stays up so long: to take it down keeps others waiting."""
LATE = 5 * MS
"""Who wakes later than this for a deadline was paused himself."""
GRACE = 20 * MS
"""So long the engine gets then, once, to tell that it lives."""
LONGEST = 3600 * 1000 * MS
"""ns of sleep: poll cannot count so many ms."""
LIFELINE_PAUSE = 0.02
"""Seconds between two looks at a lifeline that nobody holds."""


# Netlink


NLMSG = struct.Struct("=IHHII")
LINK = struct.Struct("=BxHiII")
ADDRESS_SIZE = 8
ATTRIBUTE = struct.Struct("=HH")
WORD = struct.Struct("=I")
NLMSG_ERROR, RTM_NEWADDR, RTM_DELADDR, RTM_SETLINK, IFA_CACHEINFO = 2, 20, 21, 19, 6
NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
SOL_NETLINK, NETLINK_CAP_ACK = 270, 10
IFF_UP, IFF_RUNNING, SIOCGIFFLAGS = 0x1, 0x40, 0x8913
PART = 128
"""An acknowledgement weighs some 800 bytes in a receive buffer of usually 208 KiB; one that does not fit is lost."""
PATIENCE = struct.pack("@qq", 5, 0)
"""The kernel answers in the call; this is for one that has lost an answer."""


class Batch:
    """Requests for one send call. Each is made to ask for an acknowledgement, and numbered, from 1."""

    __slots__ = ("count", "data", "leases", "link", "removals")

    def __init__(self, data: bytes) -> None:
        """Raises `ValueError` for what is no such batch."""
        self.data = bytearray(data)
        self.count = self.removals = 0
        self.link = 0
        """The interface that they take down, or 0."""
        self.leases: list[tuple[int, bool]] = []
        """Where lifetimes stand, and whether the address is preferred."""
        at = 0
        while at < len(data):
            if at + NLMSG.size > len(data):
                raise ValueError("a request is cut off")
            length, kind, flags, _sequence, port = NLMSG.unpack_from(data, at)
            if length < NLMSG.size or at + length > len(data):
                raise ValueError("a request is malformed")
            self.count += 1
            NLMSG.pack_into(self.data, at, length, kind, flags | NLM_F_REQUEST | NLM_F_ACK, self.count, port)
            if kind == RTM_NEWADDR:
                self._find_lifetimes(at + NLMSG.size + ADDRESS_SIZE, at + length)
            elif kind == RTM_SETLINK and length >= NLMSG.size + LINK.size:
                _family, _type, index, up, change = LINK.unpack_from(data, at + NLMSG.size)
                if change & IFF_UP and not up & IFF_UP:
                    self.link = index
            self.removals += kind == RTM_DELADDR
            at += (length + 3) & ~3
        if at != len(data):
            raise ValueError("the last request is cut off")

    def lend(self, lease: int) -> None:
        """The kernel shall remove the addresses after so many seconds."""
        for at, preferred in self.leases:
            if preferred:
                WORD.pack_into(self.data, at, lease)
            WORD.pack_into(self.data, at + 4, lease)

    def _find_lifetimes(self, at: int, end: int) -> None:
        while at + 4 <= end:
            length, kind = ATTRIBUTE.unpack_from(self.data, at)
            if length < 4 or at + length > end:
                return
            if kind == IFA_CACHEINFO and length >= 12:
                self.leases.append((at + 4, WORD.unpack_from(self.data, at + 4)[0] != 0))
            at += (length + 3) & ~3


def joined(batches: Iterable[Batch]) -> Batch:
    """All their requests, numbered anew."""
    return Batch(b"".join(batch.data for batch in batches))


class Route:
    """A netlink socket in the network namespace of the engine's thread that started us."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._behind = False

    def execute(self, batch: Batch, fine: frozenset[int], essential: int | None = None) -> int:
        """Send a batch, as many requests at a time as the socket has room for the answers.

        The first error that is not fine among the last `essential` requests, or all; 0 if there is none.
        """
        considered = batch.count if essential is None else essential
        failure = 0
        at = done = 0
        while done < batch.count:
            start, first = at, done + 1
            while done < batch.count and done < first - 1 + PART:
                at += (WORD.unpack_from(batch.data, at)[0] + 3) & ~3
                done += 1
            codes = dict.fromkeys(range(first, done + 1), 0)
            error = self._execute_part(batch.data[start:at], codes)
            for number, code in codes.items():
                if failure == 0 and number > batch.count - considered and code not in fine:
                    failure = code
            # The rest is sent all the same: what can be dropped must be.
            failure = failure or error
        return failure

    def _execute_part(self, requests: bytes | bytearray, codes: dict[int, int]) -> int:
        """Send requests and fill in what each was answered; 0, or why that could not be done."""
        if self._behind:
            self._forget_answers()
        missing = set(codes)
        try:
            self._socket.send(requests)
        except OSError as error:
            return error.errno or errno.EIO
        try:
            while missing:
                reply = self._socket.recv(1 << 16)
                at = 0
                while at + NLMSG.size + 4 <= len(reply):
                    length, kind, _flags, sequence, _port = NLMSG.unpack_from(reply, at)
                    if length < NLMSG.size + 4:
                        break
                    if kind == NLMSG_ERROR and sequence in missing:
                        missing.discard(sequence)
                        codes[sequence] = -struct.unpack_from("=i", reply, at + NLMSG.size)[0]
                    at += (length + 3) & ~3
        except OSError as error:
            # Numbers begin anew with each batch: a late answer would be taken for the next one's.
            self._behind = True
            return errno.ETIMEDOUT if error.errno == errno.EAGAIN else error.errno or errno.EIO
        return 0

    def _forget_answers(self) -> None:
        while True:
            try:
                self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except OSError as error:
                # A full socket says so once, and then gives what it holds.
                if error.errno != errno.ENOBUFS:
                    break
        self._behind = False


def link_sends(asking: socket.socket, index: int) -> bool:
    """Whether an interface still sends.

    It stops long before the kernel has finished with taking it down, and this waits for nobody who is at that: by
    name, since that call alone does without the lock that all changes of interfaces and addresses share.
    """
    try:
        request = struct.pack("=16sH22x", socket.if_indextoname(index).encode(), 0)
        flags = struct.unpack_from("=16xH", fcntl.ioctl(asking.fileno(), SIOCGIFFLAGS, request))[0]
    except OSError:
        return False
    return bool(flags & IFF_RUNNING)


# Virtual hosts


class Host:
    """What is prepared for one virtual host, and whether it is here now."""

    __slots__ = (
        "at",
        "batches",
        "boot",
        "essential",
        "frames",
        "grace",
        "hold",
        "link_due",
        "lock",
        "mastered",
        "mute",
        "muted",
        "patience",
        "send",
        "silent",
    )

    def __init__(self, blob: bytes, index: int, send: socket.socket, lock: int) -> None:
        """Raises `ValueError` for what is no description of this virtual host."""
        if len(blob) < DESCRIPTION.size:
            raise ValueError("the description is cut off")
        version, number, self.essential, frames, *lengths = DESCRIPTION.unpack_from(blob)
        if version != DESCRIPTION_VERSION or number != index or len(blob) != DESCRIPTION.size + sum(lengths):
            raise ValueError("the description is malformed")
        at = DESCRIPTION.size
        parts = []
        for length in lengths:
            parts.append(blob[at : at + length])
            at += length
        take, renew, drop, mute, remove, restore = (Batch(part) for part in parts[:6])
        self.batches = {
            ORDER_TAKE: take,
            ORDER_RENEW: renew,
            ORDER_DROP: drop,
            ORDER_REMOVE: remove,
            ORDER_RESTORE: restore,
        }
        self.mute = mute
        self.frames = _frames(parts[6], frames)
        self.send, self.lock = send, lock
        self.mastered = self.muted = False
        # Nobody is answered for its addresses any more.
        self.silent = False
        self.at = self.boot = self.hold = self.patience = self.grace = 0
        # Its addresses have gone, its link goes then; 0: it is down, or to stay up.
        self.link_due = 0

    @property
    def mute_is_all(self) -> bool:
        """Whether nothing answers any more once the quick part is done."""
        return self.mute.count == self.batches[ORDER_DROP].removals

    def lived(self, at: int, boot: int, hold: int, patience: int) -> None:
        """The engine gave a sign of life, good for `hold` ms."""
        # None comes from the future.
        self.at, self.boot = min(at, time.monotonic_ns()), min(boot, boottime())
        self.hold, self.patience = hold, patience
        self.grace = 0

    def silence(self) -> int:
        return elapsed(self.at, self.boot)

    def inherit(self, former: Host) -> None:
        """Go on where another description of the same virtual host was."""
        for name in ("mastered", "muted", "at", "boot", "hold", "patience", "grace", "link_due"):
            setattr(self, name, getattr(former, name))

    def close(self) -> None:
        self.send.close()
        os.close(self.lock)


def _frames(data: bytes, count: int) -> list[bytes]:
    found = []
    at = 0
    for _ in range(count):
        if at + 2 > len(data):
            raise ValueError("the frames are cut off")
        (length,) = FRAME_LENGTH.unpack_from(data, at)
        found.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    if at != len(data):
        raise ValueError("the frames are malformed")
    return found


def elapsed(at: int, boot: int) -> int:
    """ns since then, by the clock that saw more: CLOCK_MONOTONIC stands still while the machine is suspended."""
    return max(time.monotonic_ns() - at, boottime() - boot)


def boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


# The guardian


class Order:
    """One order as it came, with the descriptors and the user it came with."""

    __slots__ = ("at", "boot", "fds", "index", "kind", "lease", "next_beat_ms", "number", "takeover_after_ms", "uid")

    def __init__(self, raw: bytes, fds: list[int], uid: int) -> None:
        (
            self.kind,
            _flags,
            _zero,
            self.index,
            self.at,
            self.lease,
            self.next_beat_ms,
            self.takeover_after_ms,
            self.number,
            self.boot,
        ) = ORDER.unpack(raw)
        self.fds, self.uid = fds, uid

    def stale(self) -> bool:
        """Whether a pause lies between its decision and now."""
        return bool(elapsed(self.at, self.boot) > self.next_beat_ms * MS)

    def outlived(self) -> bool:
        """Whether its lease may have ended already: an address renewed after that would come back."""
        return bool(self.lease != LEASE_FOREVER and elapsed(self.at, self.boot) > self.lease * 1000 * MS + LEASE_SLACK)


class Guardian:
    """Reads orders, carries them out one at a time, and looks whether the engine lives."""

    def __init__(self, engine: socket.socket, route: Route, timer: Timer, lifeline: int, pidfd: int) -> None:
        self._engine, self._route, self._timer = engine, route, timer
        self._uid = os.getuid()
        self._hosts: dict[int, Host] = {}
        self._waiting: dict[int, Order] = {}
        # FORGET, REMOVE and RESTORE let what was ordered before happen first; nothing is read meanwhile.
        self._held: Order | None = None
        self._doomed: dict[int, Host] = {}
        self._replies: list[bytes] = []
        self._quiet = self._dead = self._deaf = False
        self._dropped = False
        self._lifeline, self._pidfd = lifeline, pidfd
        self._poll = select.poll()
        for fd in (timer.fd, lifeline, pidfd):
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)

    def run(self) -> None:
        """Until the engine has ended, in order or not; then nothing of it is left."""
        try:
            self._serve()
        finally:
            # Also after a fault of our own: without a guardian there shall be no address.
            mastered = [host for host in self._hosts.values() if host.mastered]
            self._release(mastered, bowout=not self._quiet)
            while self._take_down_link(wait=True):
                pass

    def _serve(self) -> None:
        while not self._dead:
            self._look()
            self._read()
            self._release_doomed()
            self._release_overdue()
            self._carry_out()
            self._take_down_link(wait=False)
        for _ in range(AT_THE_END):
            self._read()
            self._bequeath()
            if self._held is None and not self._waiting:
                return
            self._carry_out()

    def _bequeath(self) -> None:
        """The engine is no more: what it wanted to have is not had, what it wanted to be rid of goes."""
        for index in [index for index, order in self._waiting.items() if order.kind != ORDER_DROP]:
            # It has told the LAN that it is the master: there is something to take back.
            self._hosts[index].mastered |= self._waiting.pop(index).kind == ORDER_TAKE
        leaving = [
            host for index, host in self._hosts.items() if host.mastered and (self._quiet or index not in self._waiting)
        ]
        self._release(leaving, bowout=not self._quiet)

    # Waiting

    def _look(self) -> None:
        """Sleep until there is something to do."""
        self._send_replies()
        self._poll.register(self._engine, select.POLLIN | (select.POLLOUT if self._replies else 0))
        left = self._time_left()
        self._timer.set(left)
        for fd, _events in self._poll.poll(None if left is None else -(-left // MS)):
            if fd == self._pidfd or (fd == self._lifeline and not self._quiet):
                self._dead = True
            elif fd == self._lifeline:
                self._poll.unregister(fd)

    def _time_left(self) -> int | None:
        """ns until a beat is overdue; None if none is due."""
        if self._waiting or self._held is not None or self._doomed:
            return 0
        left = [self._left(host) for host in self._hosts.values() if self._watched(host)]
        left += [host.link_due - time.monotonic_ns() for host in self._hosts.values() if host.link_due]
        return min(max(0, min(left)), LONGEST) if left else None

    def _watched(self, host: Host) -> bool:
        return host.mastered and not self._quiet

    def _left(self, host: Host) -> int:
        if host.grace:
            return host.grace - time.monotonic_ns()
        return host.hold * MS - host.silence()

    # Orders

    def _read(self) -> None:
        """All that waits in the socket: of orders for one virtual host the last counts."""
        for _ in range(AT_A_TIME):
            if self._deaf:
                return
            if self._held is not None:
                if self._blocked(self._held):
                    return
                held, self._held = self._held, None
                self._settle(held)
            try:
                raw, ancillary, _flags, _address = self._engine.recvmsg(
                    ORDER.size + 1,
                    socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(4 * PASSED),
                    socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
                )
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionResetError:
                continue  # it ended with replies unread: told once, and then what it had ordered before
            except OSError:
                self._deaf = self._dead = True
                return
            if not raw and not ancillary:
                self._deaf = self._dead = True
                return
            fds, uid = _passed(ancillary)
            try:
                if len(raw) == ORDER.size:
                    self._accept(Order(raw, fds, uid))
            finally:
                for fd in fds:
                    os.close(fd)

    def _accept(self, order: Order) -> None:
        kind, index = order.kind, order.index
        if kind == ORDER_QUIET:
            self._quiet = True
            self._reply(order)
        elif kind == ORDER_ADD:
            self._reply(order, self._add(order))
        elif kind > ORDER_RESTORE:
            return
        elif index not in self._hosts:
            if kind not in (ORDER_RENEW, ORDER_BEAT):
                self._reply(order, errno.ENOENT)
        elif kind in (ORDER_FORGET, ORDER_REMOVE, ORDER_RESTORE):
            self._held = order
        elif kind in (ORDER_RENEW, ORDER_BEAT):
            self._hear(order, self._hosts[index])
        else:
            self._queue(order, self._hosts[index])

    def _hear(self, order: Order, host: Host) -> None:
        """A sign of life, unless it is as old as a pause is long."""
        waiting = self._waiting.get(order.index)
        if not host.mastered and (waiting is None or waiting.kind != ORDER_TAKE):
            return
        host.lived(order.at, order.boot, order.next_beat_ms, order.takeover_after_ms)
        if order.stale():
            if host.mastered:
                self._doom(order.index, host)
            return
        self._doomed.pop(order.index, None)  # by an older one that waited before it
        if order.kind == ORDER_RENEW and (waiting is None or waiting.kind == ORDER_RENEW):
            self._waiting[order.index] = order

    def _queue(self, order: Order, host: Host) -> None:
        if order.kind == ORDER_TAKE:
            host.lived(order.at, order.boot, order.next_beat_ms, order.takeover_after_ms)
            if order.stale():
                self._reply(order, errno.ETIMEDOUT)
                if host.mastered:
                    self._doom(order.index, host)
                return
            self._doomed.pop(order.index, None)
        former = self._waiting.get(order.index)
        if former is not None and former.kind != ORDER_RENEW:
            self._reply(former, flags=REPLY_SUPERSEDED)
        host.muted = host.muted and order.kind == ORDER_DROP
        self._waiting[order.index] = order

    def _doom(self, index: int, host: Host) -> None:
        """Let go as soon as all is read."""
        self._doomed[index] = host
        if index in self._waiting and self._waiting[index].kind == ORDER_RENEW:
            del self._waiting[index]

    def _add(self, order: Order) -> int:
        """Take in a description; what it should be answered by."""
        if order.uid not in (0, self._uid):
            return errno.EPERM
        if len(order.fds) != 3:
            return errno.EINVAL
        blob, send, lock = order.fds
        try:
            found = os.fstat(blob)
            if not stat.S_ISREG(found.st_mode) or found.st_size > BLOB_LIMIT:
                return errno.EINVAL
            kept = os.dup(lock)
            try:
                packets = socket.socket(fileno=os.dup(send))
                try:
                    host = Host(os.pread(blob, found.st_size, 0), order.index, packets, kept)
                except BaseException:
                    packets.close()
                    raise
            except BaseException:
                os.close(kept)
                raise
        except OSError as error:
            return errno.EINVAL if error.errno == errno.ENOTSOCK else error.errno or errno.EIO
        except ValueError:
            return errno.EINVAL
        former = self._hosts.get(order.index)
        self._hosts[order.index] = host
        if former is not None:
            host.inherit(former)
            former.close()
            if order.index in self._doomed:
                self._doomed[order.index] = host
        return 0

    def _blocked(self, order: Order) -> bool:
        """A drop of any virtual host goes before the removal of one."""
        return order.index in self._waiting or any(one.kind == ORDER_DROP for one in self._waiting.values())

    def _settle(self, order: Order) -> None:
        host = self._hosts[order.index]
        if order.kind == ORDER_FORGET:
            if host.link_due:
                self._route.execute(host.batches[ORDER_DROP], FINE[ORDER_DROP])
            self._doomed.pop(order.index, None)
            del self._hosts[order.index]
            host.close()
            self._reply(order)
        else:
            host.link_due = 0  # the link goes with its interface
            started = time.monotonic_ns()
            error = self._route.execute(host.batches[order.kind], FINE[order.kind])
            self._reply(order, error, started)

    def _carry_out(self) -> None:
        """One order. A drop goes first: an address on two hosts harms more than one that comes a little later."""
        if not self._waiting:
            return
        drops = [index for index, order in self._waiting.items() if order.kind == ORDER_DROP]
        if len(drops) > 1:
            # The quick part of each goes before the links of any. What fails here is tried again, and reported, by each
            # one's own drop.
            loud = [self._hosts[index] for index in drops if not self._hosts[index].muted]
            self._mute(loud)
            for host in loud:
                host.muted = True
        index = drops[0] if drops else next(iter(self._waiting))
        renewals = [one for one, order in self._waiting.items() if order.kind == ORDER_RENEW]
        if drops and renewals and self._dropped:
            # Links go down slowly: between two of them the others' leases must not run out.
            index = renewals[0]
        order = self._waiting.pop(index)
        self._dropped = order.kind == ORDER_DROP
        host = self._hosts[index]
        if order.kind == ORDER_DROP:
            host.muted = False
            started = time.monotonic_ns()
            error = self._drop(host)
            host.mastered = False
            self._doomed.pop(index, None)
            self._reply(order, error, started)
        elif order.kind == ORDER_TAKE:
            self._lend(order, host)
        elif host.mastered:
            self._lend(order, host)

    def _drop(self, host: Host) -> int:
        """Take its addresses away, at once where that is all that needs to be done at once."""
        if not (host.mute_is_all and host.batches[ORDER_DROP].link):
            return self._route.execute(host.batches[ORDER_DROP], FINE[ORDER_DROP])
        if self._route.execute(host.mute, FINE[ORDER_DROP]):
            return self._route.execute(host.batches[ORDER_DROP], FINE[ORDER_DROP])
        host.link_due = time.monotonic_ns() + LINGER
        return 0

    def _take_down_link(self, wait: bool) -> bool:
        """Take down a link whose time has come; with `wait`, wait for the next. False when there is none."""
        due = [host for host in self._hosts.values() if host.link_due]
        if not due:
            return False
        first = min(due, key=lambda host: host.link_due)
        left = first.link_due - time.monotonic_ns()
        if left > 0:
            if not wait:
                return False
            time.sleep(left / 1e9)
        first.link_due = 0
        self._route.execute(first.batches[ORDER_DROP], FINE[ORDER_DROP])
        return True

    def _lend(self, order: Order, host: Host) -> None:
        """Take or renew."""
        if order.kind == ORDER_TAKE:
            host.link_due = 0
        if order.outlived():
            self._refuse(order, host)
            return
        # Before it is so: whatever happens from now on, there may be addresses to let go of.
        host.mastered = True
        batch = host.batches[order.kind]
        batch.lend(order.lease)
        started = time.monotonic_ns()
        error = self._route.execute(batch, FINE[order.kind], (order.kind == ORDER_TAKE and host.essential) or None)
        if order.outlived():
            # We slept between reading the order and its end, and what the kernel had removed is back.
            self._refuse(order, host)
        elif order.kind == ORDER_TAKE or error:
            self._reply(order, error, started)

    def _refuse(self, order: Order, host: Host) -> None:
        if order.kind == ORDER_TAKE:
            self._reply(order, errno.ETIMEDOUT)
        self._doom(order.index, host)

    # Letting go

    def _release_doomed(self) -> None:
        if self._doomed:
            doomed = [host for host in self._doomed.values() if host.mastered]
            self._doomed.clear()
            self._release(doomed)

    def _release_overdue(self) -> None:
        """Those whose engine should have given a sign of life by now, and everything it said has been read."""
        overdue = []
        for host in self._hosts.values():
            if not self._watched(host) or (left := self._left(host)) >= 0:
                continue
            if host.grace == 0 and left < -LATE:
                # We were paused too: perhaps it speaks in a moment.
                host.grace = time.monotonic_ns() + GRACE
            else:
                overdue.append(host)
        if overdue:
            self._release(overdue)

    def _release(self, hosts: list[Host], bowout: bool = True) -> None:
        """Drop first, then bow out: who hears a bow-out takes over at once.

        Taking a link down keeps its caller for milliseconds, although the addresses are mute at once: another thread
        sends the bow-outs meanwhile.
        """
        if not hosts:
            return
        signed_bowouts: SimpleQueue[tuple[int, Host] | None] = SimpleQueue()
        done = _thread.allocate_lock()
        done.acquire()
        apart = bowout and _start_thread(_say_farewell, signed_bowouts, done)
        muted = self._mute(hosts) == 0
        now = time.monotonic_ns()
        for host in hosts:
            host.silent = muted and host.mute_is_all
            if host.silent:
                signed_bowouts.put((now + DROP_LEAD, host))
        for host in hosts:
            started = time.monotonic_ns()
            if not host.silent:
                # IPv6 addresses fall silent with the link, long before the kernel has finished with it.
                signed_bowouts.put((started + DROP_LEAD, host))
            error = self._drop(host)
            host.silent = True
            host.mastered = host.muted = False
            host.grace = 0
            for index, one in self._hosts.items():
                if one is host:
                    self._say(REPLY_RELEASED, 0, index, error, 0, started, time.monotonic_ns(), max(0, host.silence()))
        signed_bowouts.put(None)
        if apart:
            done.acquire()
        elif bowout:
            _say_farewell(signed_bowouts, done)

    def _mute(self, hosts: list[Host]) -> int:
        return self._route.execute(joined(host.mute for host in hosts), NOT_THERE)

    # Replies

    def _reply(self, order: Order, error: int = 0, started: int = 0, flags: int = 0) -> None:
        now = time.monotonic_ns()
        self._say(order.kind, flags, order.index, error, order.number, started or now, now, 0)

    def _say(self, kind: int, flags: int, *rest: int) -> None:
        if len(self._replies) < REPLIES_KEPT:
            self._replies.append(REPLY.pack(kind, flags, 0, *rest))
        self._send_replies()

    def _send_replies(self) -> None:
        """As many as the engine has room for: it may be stopped, and we never wait for it."""
        sent = 0
        for reply in self._replies:
            try:
                self._engine.send(reply, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                    break
            sent += 1
        del self._replies[:sent]


def _passed(ancillary: list[tuple[int, int, bytes]]) -> tuple[list[int], int]:
    """The descriptors and the user that a message came with; -1 without one."""
    fds: list[int] = []
    uid = -1
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            fds += (one for (one,) in struct.iter_unpack("=i", data[: len(data) & ~3]))
        elif kind == socket.SCM_CREDENTIALS and len(data) >= CREDENTIALS.size:
            uid = CREDENTIALS.unpack_from(data)[1]
    return fds, uid


def _say_farewell(signed_bowouts: SimpleQueue[tuple[int, Host] | None], done: _thread.LockType) -> None:
    """Send the bow-outs of virtual hosts, each at its time, unless others have taken over long since."""
    while (item := signed_bowouts.get()) is not None:
        due, host = item
        left = due - time.monotonic_ns()
        if left > 0:
            time.sleep(left / 1e9)
        # Who takes the link down may first have to wait for others who change this machine's interfaces.
        link = host.batches[ORDER_DROP].link
        while not host.silent and (link == 0 or link_sends(host.send, link)):
            time.sleep(LOOK)
        if host.silence() < host.patience * MS:
            for frame in host.frames:
                _send_frame(host.send, frame)
    done.release()


def _send_frame(packets: socket.socket, frame: bytes) -> None:
    for _ in range(BOWOUT_TRIES):
        try:
            packets.send(frame, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS, errno.EINTR):
                return
            time.sleep(MS / 1e9)
        else:
            return


def _start_thread(function: Any, *arguments: Any) -> bool:
    try:
        _thread.start_new_thread(function, arguments)
    except RuntimeError:
        return False
    return True


# The process


PR_SET_NAME, PR_SET_TIMERSLACK, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 15, 29, 38, 47, 4
MCL_CURRENT, MCL_FUTURE = 1, 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_NET_ADMIN = 1 << 12
IGNORED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2")


def _settle_down(libc: Any, realtime: bool) -> None:
    """Out of everybody's way, and hard to kill by accident. What is refused is done without."""
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    libc.prctl(PR_SET_NAME, ctypes.c_char_p(b"pycarp-guardian"), 0, 0, 0)
    libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    os.chdir("/")
    _quietly(os.setsid)
    _quietly(_write, "/proc/self/oom_score_adj", b"-1000")
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    # Only without a limit what comes later is locked as well: it would otherwise find no room.
    later = MCL_FUTURE if _quietly(resource.setrlimit, resource.RLIMIT_MEMLOCK, unlimited) else 0
    _thread.stack_size(256 << 10)
    libc.mlockall(MCL_CURRENT | later)
    if realtime:
        _quietly(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))


def _quietly(function: Any, *arguments: Any) -> bool:
    try:
        function(*arguments)
    except (OSError, ValueError):
        return False
    return True


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _confine(libc: Any) -> bool:
    """Keep CAP_NET_ADMIN alone; whether it was there."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data) != 0:
        return False
    permitted = struct.unpack("=6I", data.raw)[1] & CAP_NET_ADMIN
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.capset(header, struct.pack("=6I", permitted, permitted, 0, 0, 0, 0))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(permitted)


class Timer:
    """A descriptor that becomes readable after a time that a suspend does not stop; -1 where there is none.

    Who wakes up after an hour must not wait for the rest of a second.
    """

    def __init__(self, libc: Any) -> None:
        self._libc = libc
        self.fd: int = libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK)

    def set(self, left: int | None) -> None:
        """In so many ns; None for never."""
        if self.fd >= 0:
            seconds, rest = divmod(0 if left is None else max(1, left), 1_000_000_000)
            self._libc.timerfd_settime(self.fd, 0, struct.pack("@4l", 0, 0, seconds, rest), None)


def _watch_lifeline(libc: Any, memory: Any, wake: int) -> None:
    """Wait for the mutex that the engine's thread holds: we get it when that thread has died, and not before."""
    while True:
        code = libc.pthread_mutex_lock(memory)
        if code in (errno.EOWNERDEAD, errno.ENOTRECOVERABLE):
            os.eventfd_write(wake, 1)
            return
        if code != 0:
            return  # it is none; there are the pidfd and the socket
        # Nobody holds it yet.
        libc.pthread_mutex_unlock(memory)
        time.sleep(LIFELINE_PAUSE)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def main(realtime: bool) -> None:
    pidfd = PIDFD if _is_open(PIDFD) else -1
    os.closerange(OTHERS if pidfd >= 0 else PIDFD, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    libc = ctypes.CDLL(None)
    _settle_down(libc, realtime)
    engine = socket.socket(fileno=ENGINE)
    engine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    try:
        memory = (ctypes.c_char * mmap.PAGESIZE).from_buffer(mmap.mmap(LIFELINE, mmap.PAGESIZE))
        route = Route()
    except OSError as error:
        engine.send(REPLY.pack(REPLY_HELLO, 0, 0, 0, error.errno or errno.EIO, 0, 0, 0, os.getpid()))
        raise
    wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    allowed = _confine(libc)
    _thread.start_new_thread(_watch_lifeline, (libc, memory, wake))
    guardian = Guardian(engine, route, Timer(libc), wake, pidfd)
    now = time.monotonic_ns()
    engine.send(REPLY.pack(REPLY_HELLO, 0, 0, 0, 0 if allowed else errno.EPERM, 0, now, now, os.getpid()))
    guardian.run()


def run_program() -> None:
    try:
        main(sys.argv[1:] == ["1"])
    except BaseException:
        os._exit(1)
    # The thread that waits for the lifeline may wait for ever.
    os._exit(0)
