"""The steward keeps the machine's interfaces and the running plans in step, in a thread of its own.

It alone makes and removes devices, watches what becomes of the carpdevs, and tells the runtime. Everything that
touches the machine happens in the network namespace of the thread that started the engine.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from . import _impl, events
from ._mailbox import Mailbox
from .abc import IPAddress, Runtime
from .config import Address, VirtualHost
from .errors import CarpError, ConfigError
from .linux.capabilities import require
from .linux.device import Device, Scene
from .linux.interfaces import Interface, choose_carpdev, read_interfaces, source_address
from .linux.lock import VirtualHostLock
from .linux.sockets import Sockets, join_groups, receive_socket, send_socket
from .linux.watch import AddressNotice, LinkNotice, Watch
from .plan import Plan, make_plan
from .protocol import State

Realtime = bool | Literal["auto"]

_GLANCE = 0.5
"""Seconds between two looks at whether the program's main thread is still there."""
_SETTLE = 0.02
"""Changes come in flocks: this many seconds after the first the interfaces are read once."""
_AGAIN = 0.5
"""Seconds until the interfaces are read again when that failed: a program may run out of descriptors for a while."""


@dataclass(slots=True, eq=False)
class Member:
    """One virtual host as the steward keeps it. While its carpdev is gone it has no device and no plan of use."""

    index: int
    host: VirtualHost
    carpdev: Interface
    lock: VirtualHostLock
    device: Device
    plan: Plan
    present: bool = True
    bereft: bool = False


class Steward:
    """Owns runtime, watch, devices and locks of one engine. Made and started by `Engine.start`.

    `emit` gets the events. Raises what the parts raise, with everything undone.
    """

    def __init__(
        self, hosts: Iterable[VirtualHost], emit: Callable[[events.Event], None], allow: bool, realtime: Realtime
    ) -> None:
        require("CAP_NET_ADMIN", "CAP_NET_RAW")
        self._emit = emit
        self._allow = allow
        self._numbers = itertools.count(1)
        self._members: dict[int, Member] = {}
        self._segments: set[int] = set()
        self._mailbox = Mailbox()
        self._stopped = False
        self._dirty_at: float | None = None
        self._routes_changed = False
        self._blind = False
        with contextlib.ExitStack() as undo:
            undo.callback(self._mailbox.close)
            # The watch comes first, so that no change falls between the first look and the first notice.
            self._watch = undo.enter_context(contextlib.closing(Watch()))
            self._runtime: Runtime = undo.enter_context(contextlib.closing(_impl.current.runtime(emit, realtime)))
            undo.callback(self._remove_all)
            scene = Scene()
            for host, carpdev in self._choose(hosts, scene.interfaces):
                self._add(host, carpdev, scene)
            # Not a daemon: when the program ends without having stopped its engine, the steward does it.
            self._thread = threading.Thread(target=self._loop, name="pycarp-steward", daemon=False)
            for member in self._members.values():
                self._start(member)
            self._thread.start()
            undo.pop_all()

    # From other threads

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(self._members.values())

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    def reconfigure(self, hosts: Iterable[VirtualHost]) -> None:
        """Make these the virtual hosts. What fails is undone as far as it was new; what ran goes on."""
        hosts = tuple(hosts)
        self._mailbox.call(lambda: self._reconfigure(hosts))

    def stop(self) -> None:
        """Bow out, drop, remove; returns when nothing is left."""
        if self._thread.is_alive():
            with contextlib.suppress(CarpError):
                self._mailbox.post(self._end)
            self._thread.join()

    def abandon(self) -> None:
        """In a forked child: close the descriptors, touch nothing else."""
        self._runtime.abandon()
        self._watch.close()
        self._mailbox.abandon()
        for member in self._members.values():
            member.lock.close()

    # In the steward's thread

    def _loop(self) -> None:
        try:
            self._attend()
        finally:
            # After a fault nobody looks after the devices any more: better none than those.
            if not self._stopped:
                self._end()

    def _attend(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._mailbox, selectors.EVENT_READ)
            selector.register(self._watch, selectors.EVENT_READ)
            while not self._stopped:
                for key, _ in selector.select(_GLANCE if self._dirty_at is None else _SETTLE):
                    if key.fileobj is self._mailbox:
                        self._mailbox.work()
                    elif not self._stopped:
                        self._notice()
                if self._stopped:
                    break
                if self._dirty_at is not None and time.monotonic() - self._dirty_at >= _SETTLE:
                    self._dirty_at = None
                    self._survey()
                if _program_has_ended():
                    self._end()

    def _end(self) -> None:
        self._stopped = True
        try:
            self._runtime.close()
        finally:
            self._remove_all()
            self._watch.close()
            self._mailbox.close()

    def _remove_all(self) -> None:
        for member in self._members.values():
            self._dismantle(member)
        self._members.clear()

    def _choose(
        self, hosts: Iterable[VirtualHost], interfaces: tuple[Interface, ...]
    ) -> list[tuple[VirtualHost, Interface]]:
        """A carpdev for each, and no two that would be one group or one device."""
        chosen = [(host, choose_carpdev(host, interfaces)) for host in hosts]
        names: set[str] = set()
        groups: dict[tuple[int, int], str] = {}
        for host, carpdev in chosen:
            if host.name in names:
                raise ConfigError(f"two virtual hosts are called {host.name}: give each a name of its own", "name")
            names.add(host.name)
            former = groups.setdefault((carpdev.index, host.vhid), host.name)
            if former != host.name:
                raise ConfigError(
                    f"{former} and {host.name} both have vhid {host.vhid} on {carpdev.name}: "
                    "give each group on a link its own vhid",
                    "vhid",
                )
        return chosen

    def _add(self, host: VirtualHost, carpdev: Interface, scene: Scene) -> Member:
        with contextlib.ExitStack() as undo:
            lock = VirtualHostLock(host.name, carpdev, host.vhid)
            undo.callback(lock.close)
            device = Device(host, carpdev)
            device.setup(scene)
            undo.callback(device.teardown)
            self._open_segment(carpdev)
            undo.callback(self._close_segment_if_empty, carpdev.index)
            member = Member(next(self._numbers), host, carpdev, lock, device, _plan(host, carpdev, None))
            self._runtime.add_host(member.index, carpdev.index, member.plan, device)
            self._members[member.index] = member
            undo.pop_all()
        return member

    def _start(self, member: Member) -> None:
        if not (member.carpdev.up and member.carpdev.running):
            self._runtime.link(member.index, False)
        self._runtime.start_host(member.index)

    def _open_segment(self, carpdev: Interface) -> None:
        if carpdev.index in self._segments:
            return
        with contextlib.ExitStack() as undo:
            receive = undo.enter_context(receive_socket(carpdev.index))
            send = undo.enter_context(send_socket(carpdev.index))
            memberships = tuple(undo.enter_context(one) for one in join_groups(carpdev.index, (4, 6)))
            self._runtime.add_segment(
                carpdev.index, Sockets(receive, send, memberships), carpdev.mac, _addresses(carpdev), self._allow
            )
            undo.pop_all()
        self._segments.add(carpdev.index)

    def _close_segment_if_empty(self, index: int) -> None:
        used = any(member.carpdev.index == index and member.present for member in self._members.values())
        if index in self._segments and not used:
            self._segments.discard(index)
            self._runtime.remove_segment(index)

    def _remove(self, member: Member) -> None:
        self._runtime.remove_host(member.index)
        del self._members[member.index]
        self._dismantle(member)
        self._close_segment_if_empty(member.carpdev.index)

    def _dismantle(self, member: Member) -> None:
        try:
            member.device.teardown()
        except OSError as error:
            self._tell(member, events.Failed, what=f"{member.host.name} could not be removed: {error.strerror}")
        member.lock.close()

    # What the kernel says

    def _notice(self) -> None:
        try:
            notices = self._watch.read()
        except OSError:
            # What was told is lost; what became of it is not.
            self._routes_changed = True
            self._mark_dirty()
            return
        for notice in notices:
            if isinstance(notice, LinkNotice):
                self._notice_link(notice)
            elif isinstance(notice, AddressNotice):
                if any(notice.index == member.carpdev.index for member in self._members.values()):
                    self._mark_dirty()
                elif not all(member.present for member in self._members.values()):
                    self._mark_dirty()
                elif not notice.present:
                    self._notice_loss(notice.index)
            else:
                # A gateway came or went, or notices were lost.
                self._routes_changed = True
                self._mark_dirty()

    def _notice_link(self, notice: LinkNotice) -> None:
        for member in self._members.values():
            if notice.index == member.carpdev.index and notice.present and member.present:
                # The link's state goes straight to the machine; what else may have changed is read at leisure.
                renamed = notice.name != member.carpdev.name
                member.carpdev = member.carpdev.replace(name=notice.name)
                if not self._set_link(member, notice.up, notice.running) and renamed:
                    self._tell_carpdev(member)
                if renamed or notice.mac != member.carpdev.mac:
                    self._mark_dirty()
            elif notice.index in (member.carpdev.index, member.device.index) and not notice.present:
                self._mark_dirty()
            elif not member.present:
                self._mark_dirty()
        if not notice.up:
            self._notice_loss(notice.index)

    def _notice_loss(self, index: int) -> None:
        """A device went down or lost an address: ours to look at unless our own drop did that."""
        for member in self._members.values():
            if member.device.index == index and self._runtime.state(member.index) is State.MASTER:
                self._mark_dirty()

    def _mark_dirty(self) -> None:
        if self._dirty_at is None:
            self._dirty_at = time.monotonic()

    def _set_link(self, member: Member, up: bool, running: bool) -> bool:
        """Tell the machine if the link came or went; returns whether it did."""
        was = member.carpdev.up and member.carpdev.running
        member.carpdev = member.carpdev.replace(up=up, running=running)
        if was == (up and running):
            return False
        self._runtime.link(member.index, up and running)
        self._tell_carpdev(member)
        return True

    def _survey(self) -> None:
        """Compare every member with what is there now, and put right what differs."""
        try:
            interfaces = read_interfaces()
        except OSError as error:
            self._dirty_at = time.monotonic() + _AGAIN
            for member in () if self._blind else self._members.values():
                self._tell(member, events.Failed, what=f"the interfaces could not be read: {error.strerror}")
            self._blind = True
            return
        self._blind = False
        routes, self._routes_changed = self._routes_changed, False
        by_index = {interface.index: interface for interface in interfaces}
        for member in list(self._members.values()):
            try:
                now = by_index.get(member.carpdev.index)
                if member.present and now is None:
                    self._lose(member)
                if not member.present:
                    self._find(member, interfaces)
                elif now is not None:
                    self._refresh(member, now, by_index, routes)
            except (CarpError, OSError) as error:
                self._tell(member, events.Failed, what=str(error))

    def _lose(self, member: Member) -> None:
        """The carpdev is gone, and the device with it."""
        self._runtime.link(member.index, False)
        member.present = False
        member.carpdev = member.carpdev.replace(up=False, running=False)
        # The lock bears the carpdev's number, with which it may come back.
        member.lock.close()
        self._tell_carpdev(member)
        self._close_segment_if_empty(member.carpdev.index)
        member.device.teardown()

    def _find(self, member: Member, interfaces: tuple[Interface, ...]) -> None:
        """Is there a carpdev again? Not finding one is no news."""
        try:
            carpdev = choose_carpdev(member.host, interfaces)
        except CarpError:
            return
        lock = VirtualHostLock(member.host.name, carpdev, member.host.vhid)
        device = Device(member.host, carpdev)
        try:
            device.setup()
            self._open_segment(carpdev)
        except BaseException:
            device.teardown()
            lock.close()
            raise
        member.lock.close()
        member.lock, member.device, member.carpdev, member.present = lock, device, carpdev, True
        member.plan = _plan(member.host, carpdev, member.plan)
        self._runtime.move_host(member.index, carpdev.index, member.plan, device)
        self._tell_carpdev(member)
        if carpdev.up and carpdev.running:
            self._runtime.link(member.index, True)

    def _refresh(self, member: Member, now: Interface, by_index: dict[int, Interface], routes: bool) -> None:
        self._set_link(member, now.up, now.running)
        before, member.carpdev = member.carpdev, now
        rebuilt = member.device.index not in by_index
        changed = routes or before.mac != now.mac or before.addresses != now.addresses
        if rebuilt:
            # Somebody removed the device by hand: make it anew.
            member.device.teardown()
            member.device.setup()
        elif changed:
            member.device.refresh(now)
        if changed:
            self._runtime.update_segment(now.index, now.mac, _addresses(now))
            member.plan = _plan(member.host, now, member.plan)
        if changed or rebuilt:
            self._runtime.replan(member.index, member.plan, member.device)
        if rebuilt or changed:
            # Also the ways to changed gateways: they come with the addresses.
            self._runtime.retake(member.index)
        if not rebuilt:
            self._look_after(member, by_index[member.device.index])

    def _look_after(self, member: Member, holder: Interface) -> None:
        """Somebody took a MASTER's address away, or set its device down: take again.

        Only what is missing at two looks in a row is: the first may have fallen between the decision and its doing.
        """
        there = {one.interface.ip for one in holder.addresses} if holder.up else set()
        missing = not there.issuperset(one.ip for one in member.host.addresses)
        if not missing or self._runtime.state(member.index) is not State.MASTER:
            member.bereft = False
        elif not member.bereft:
            member.bereft = True
            self._mark_dirty()
        else:
            member.bereft = False
            self._runtime.retake(member.index)

    # Other hosts than before

    def _reconfigure(self, hosts: tuple[VirtualHost, ...]) -> None:
        chosen = self._choose(hosts, read_interfaces())
        kept = {member.host.name: member for member in self._members.values()}
        wanted = {host.name for host, _ in chosen}
        same: list[tuple[Member, VirtualHost]] = []
        fresh: list[tuple[VirtualHost, Interface]] = []
        for host, carpdev in chosen:
            member = kept.get(host.name)
            if member is not None and member.present and _same_place(member, host, carpdev):
                same.append((member, host))
            else:
                wanted.discard(host.name)
                fresh.append((host, carpdev))
        for name, member in kept.items():
            if name not in wanted:
                self._remove(member)
        for member, host in same:
            self._change(member, host)
        scene = Scene()
        for host, carpdev in fresh:
            self._start(self._add(host, carpdev, scene))

    def _change(self, member: Member, host: VirtualHost) -> None:
        member.host = host
        member.plan = _plan(host, member.carpdev, member.plan)
        member.device.change(host)
        self._runtime.replan(member.index, member.plan, member.device)

    # Telling

    def _tell_carpdev(self, member: Member) -> None:
        up = member.carpdev.up and member.carpdev.running
        self._emit(
            events.CarpdevChanged(
                vhid=member.host.vhid,
                name=member.host.name,
                at=time.monotonic_ns(),
                carpdev=member.carpdev.name,
                present=member.present,
                up=up,
            )
        )

    def _tell(self, member: Member, kind: type[events.Failed], what: str) -> None:
        self._emit(kind(vhid=member.host.vhid, name=member.host.name, at=time.monotonic_ns(), what=what))


def _addresses(interface: Interface) -> tuple[Address, ...]:
    return tuple(address.interface for address in interface.addresses)


def _plan(host: VirtualHost, carpdev: Interface, former: Plan | None) -> Plan:
    own = frozenset(address.ip for address in host.addresses)
    sources: dict[int, IPAddress] = {}
    for family in host.families:
        address = source_address(carpdev, family, own)
        if address is not None:
            sources[family] = address
    return make_plan(host, carpdev.mac, sources, former)


def _same_place(member: Member, host: VirtualHost, carpdev: Interface) -> bool:
    return (member.host.vhid, member.host.mac, member.carpdev.index) == (host.vhid, host.mac, carpdev.index)


def _program_has_ended() -> bool:
    """Whether nothing but engines keeps the interpreter from its end: nobody is left to stop this one."""
    main = threading.main_thread()
    if main.is_alive():
        return False
    others = (thread for thread in threading.enumerate() if thread is not main and not thread.daemon)
    return all(thread.name == "pycarp-steward" for thread in others)
