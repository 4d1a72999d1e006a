"""A MASTER defends its addresses (RFC 5227 section 2.4): another host says that it has them, with a MAC of its own.

That is a host of the group that takes over late and yields to the next advert, as ucarp does, or one that does not
speak CARP. Clients believe it until they hear otherwise, so the MASTER advertises and announces at once.

Thread: supervisor
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .._records import dataclass, field
from .._unpatched import selectors, time
from ..errors import CarpError
from ..events import AddressConflict, Event
from ..linux.arp_listener import ArpListener
from ..protocol import NS_PER_SECOND, State
from ..protocol.frames import is_virtual

if TYPE_CHECKING:
    from ..protocol.abc import IPAddress, Runtime
    from .instances import Instance

_PAUSE_FIRST = NS_PER_SECOND // 20
_PAUSE_LAST = 10 * NS_PER_SECOND
"""Between two defences: doubled each time, up to RFC 5227's DEFEND_INTERVAL."""
_FORGOTTEN = 10 * NS_PER_SECOND
"""After so long without another's claim the next pause is a first one."""
_REPORTED_AFTER = 4
"""A host that goes on so many defences later does not yield."""
_NEVER = 1 << 62
_READ_AGAIN_AFTER = _PAUSE_FIRST
"""A flood is looked at that often, not all the time; before that no defence follows another one."""
_HOSTS_KEPT = 64
"""For each instance, this many other hosts are remembered: any host can forge more."""


@dataclass(slots=True)
class Contest:
    """Who contests the addresses of one MASTER. Times are ns; `due` is a defence that waits for the pause to end."""

    heard: int = 0
    pause: int = 0
    pause_ends: int = 0
    due: int = _NEVER
    count: int = 0
    reported: set[tuple[IPAddress, bytes]] = field(default_factory=set)


class Defence:
    """The supervisor calls `read` when the descriptor is readable, and `look` at every turn of its loop."""

    def __init__(
        self,
        runtime: Runtime,
        emit: Callable[[Event], None],
        clock: Callable[[], int] = time.monotonic_ns,
        make_listener: Callable[[int], ArpListener] = ArpListener,
    ) -> None:
        self._runtime = runtime
        self._emit = emit
        self._clock = clock
        self._make_listener = make_listener
        self._listeners: dict[int, ArpListener] = {}
        self._resting: list[ArpListener] = []
        self._read_again = _NEVER
        self._contests: dict[int, Contest] = {}
        self._known: list[tuple[Instance, object, bool]] = []
        self._selector = selectors.EpollSelector()

    def fileno(self) -> int:
        return self._selector.fileno()

    def attach(self, carpdev: int) -> None:
        """Listen on this carpdev. That needs CAP_NET_RAW, which a program may give up later."""
        listener = self._listeners[carpdev] = self._make_listener(carpdev)
        self._selector.register(listener, selectors.EVENT_READ)
        self._known = []

    def detach(self, carpdev: int) -> None:
        listener = self._listeners.pop(carpdev, None)
        if listener is not None:
            if listener in self._resting:
                self._resting.remove(listener)
            else:
                self._selector.unregister(listener)
            listener.close()

    def close(self) -> None:
        for carpdev in tuple(self._listeners):
            self.detach(carpdev)
        self._selector.close()

    def look(self, instances: Iterable[Instance], now: int) -> int:
        """Follow which addresses there are, and defend where that had to wait; returns when it is due next (ns)."""
        defended = [one for one in instances if one.present and not one.host.led]
        known: list[tuple[Instance, object, bool]] = [(one, one.host, one.present) for one in defended]
        if len(known) != len(self._known) or any(a[1] is not b[1] for a, b in zip(known, self._known, strict=True)):
            self._known = known
            self._listen(defended)
        if self._read_again <= now:
            self._listen_again()
        due = self._read_again
        for instance in defended:
            contest = self._contests.get(instance.index)
            if contest is None:
                continue
            if self._runtime.state(instance.index) is not State.MASTER:
                del self._contests[instance.index]
                continue
            if contest.due <= now:
                self._defend(instance, contest, now)
            due = min(due, contest.due)
        return due

    def read(self, instances: Iterable[Instance]) -> None:
        """Who was heard, and what is to be done about it. More is heard after a while: see `look`."""
        now = self._clock()
        self._rest(now)
        heard = {carpdev: told for carpdev, one in self._listeners.items() if (told := one.read())}
        if not heard:
            return
        for instance in instances:
            told = heard.get(instance.carpdev.index, [])
            if told and instance.present and self._runtime.state(instance.index) is State.MASTER:
                own = {one.ip for one in instance.host.addresses}
                # Who has a virtual MAC speaks CARP or VRRP: adverts settle that.
                others = [
                    one for one in told if one[0] in own and one[1] != instance.carpdev.mac and not is_virtual(one[1])
                ]
                if others and not instance.host.led:
                    self._contested(instance, others, now)

    def _rest(self, now: int) -> None:
        for listener in self._listeners.values():
            if listener not in self._resting:
                self._selector.unregister(listener)
                self._resting.append(listener)
        self._read_again = now + _READ_AGAIN_AFTER

    def _listen_again(self) -> None:
        for listener in self._resting:
            self._selector.register(listener, selectors.EVENT_READ)
        self._resting, self._read_again = [], _NEVER

    def _contested(self, instance: Instance, others: list[tuple[IPAddress, bytes]], now: int) -> None:
        contest = self._contests.setdefault(instance.index, Contest())
        if now - contest.heard > _FORGOTTEN:
            contest.pause = contest.count = 0
        contest.heard = now
        if contest.count >= _REPORTED_AFTER:
            self._report(instance, contest, others, now)
        if now >= contest.pause_ends:
            self._defend(instance, contest, now)
        else:
            contest.due = contest.pause_ends

    def _defend(self, instance: Instance, contest: Contest, now: int) -> None:
        contest.pause = min(max(2 * contest.pause, _PAUSE_FIRST), _PAUSE_LAST)
        contest.pause_ends, contest.due = now + contest.pause, _NEVER
        contest.count += 1
        with contextlib.suppress(CarpError):
            self._runtime.announce(instance.index, True)

    def _report(self, instance: Instance, contest: Contest, others: list[tuple[IPAddress, bytes]], now: int) -> None:
        vhid, name = instance.host.vhid, instance.host.name
        for address, mac in others:
            if (address, mac) not in contest.reported and len(contest.reported) < _HOSTS_KEPT:
                contest.reported.add((address, mac))
                text = mac.hex(":")
                self._emit(AddressConflict(vhid=vhid, name=name, at=now, address=str(address), mac=text, held=True))

    def _listen(self, instances: list[Instance]) -> None:
        for carpdev, listener in self._listeners.items():
            with contextlib.suppress(OSError):  # it has gone: the watch tells
                listener.listen(
                    address.ip for one in instances if one.carpdev.index == carpdev for address in one.host.addresses
                )
