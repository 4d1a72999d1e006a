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
from dataclasses import dataclass, field
from typing import Literal

from . import _impl, events
from ._mailbox import Mailbox
from ._relapse import Relapses
from ._strangers import Strangers
from .abc import IPAddress, Runtime
from .config import Address, VirtualHost
from .errors import CarpError, ConfigError, EngineError
from .linux.capabilities import require
from .linux.device import Device, Scene
from .linux.interfaces import Interface, choose_carpdev, read_interfaces, source_address
from .linux.lock import VirtualHostLock
from .linux.netlink import RouteSocket
from .linux.sockets import Sockets, join_groups, receive_socket, send_socket
from .linux.watch import AddressNotice, LinkNotice, Watch
from .plan import Plan, make_plan

Realtime = bool | Literal["auto"]

_GLANCE = 0.5
"""Seconds between two looks at whether the program's main thread is still there."""
_SETTLE = 0.02
"""Changes come in flocks: this many seconds after the first the interfaces are read once."""
_AGAIN = 0.5
"""Seconds until the interfaces are read again when that failed: a program may run out of descriptors for a while."""
_DOING = 0.2
"""Seconds that the kernel may take to let go of addresses, with room to spare: what is here then was put here."""


@dataclass(slots=True, eq=False)
class Member:
    """One virtual host as the steward keeps it. While its carpdev is gone it has no device and no plan of use.

    `amiss` says since when its addresses are not where its state wants them, and in which state that was seen; `robbed`
    that a loss was noticed since all was well. `stale`: what was read of its carpdev was not taken up. `back_at`: it is
    stopped until then, because putting it back did not help. Times are seconds of time.monotonic().
    """

    index: int
    host: VirtualHost
    carpdev: Interface
    lock: VirtualHostLock
    device: Device
    plan: Plan
    present: bool = True
    amiss: tuple[float, bool] | None = None
    robbed: bool = False
    stale: bool = False
    back_at: float | None = None
    relapses: Relapses = field(default_factory=Relapses)


class Steward:
    """Owns runtime, watch, devices and locks of one engine. Made and started by `Engine.start`.

    `emit` gets the events, `watchdog` is ns, 0 for none. Raises what the parts raise, with everything undone.
    """

    def __init__(
        self,
        hosts: Iterable[VirtualHost],
        emit: Callable[[events.Event], None],
        allow: bool,
        realtime: Realtime,
        watchdog: int,
    ) -> None:
        require("CAP_NET_ADMIN", "CAP_NET_RAW")
        self._emit = emit
        self._allow = allow
        self._numbers = itertools.count(1)
        self._members: dict[int, Member] = {}
        self._segments: set[int] = set()
        self._mailbox = Mailbox()
        self._stopped = False
        self._survey_at: float | None = None
        self._routes_changed = False
        self._blind = False
        with contextlib.ExitStack() as undo:
            undo.callback(self._mailbox.close)
            # The watch comes first, so that no change falls between the first look and the first notice.
            self._watch = undo.enter_context(contextlib.closing(Watch(own_additions=False)))
            self._runtime: Runtime = undo.enter_context(contextlib.closing(_impl.current.runtime(emit, realtime)))
            self._strangers = undo.enter_context(contextlib.closing(Strangers(self._runtime, emit)))
            undo.callback(self._remove_all)
            scene = Scene()
            for host, carpdev in self._choose(hosts, scene.interfaces):
                self._add(host, carpdev, scene)
            # Not a daemon: when the program ends without having stopped its engine, the steward does it.
            self._thread = threading.Thread(target=self._loop, name="pycarp-steward", daemon=False)
            for member in self._members.values():
                self._start(member)
            if watchdog:
                self._runtime.watch(watchdog)
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
        self._strangers.close()
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
                asking = self._strangers.look(self._members.values())
                for key, _ in selector.select(self._patience(asking)):
                    if key.fileobj is self._mailbox:
                        self._mailbox.work()
                    elif not self._stopped:
                        self._notice()
                if self._stopped:
                    break
                now = time.monotonic()
                if self._survey_at is not None and now >= self._survey_at:
                    self._survey_at = None
                    self._survey()
                for member in self._members.values():
                    if member.back_at is not None and now >= member.back_at:
                        self._come_back(member)
                if _program_has_ended():
                    self._end()

    def _patience(self, asking: float) -> float:
        """Seconds until something is due that nobody wakes us for."""
        due = _GLANCE if self._survey_at is None else self._survey_at - time.monotonic()
        return max(0, min(asking, due, _GLANCE))

    def _end(self) -> None:
        self._stopped = True
        try:
            self._remove_all()
        finally:
            self._runtime.close()
            self._strangers.close()
            self._watch.close()
            self._mailbox.close()

    def _remove_all(self) -> None:
        with contextlib.suppress(CarpError):
            self._runtime.stop_all()
        members = list(self._members.values())
        restorable = self._restorable(members)
        for member in members:
            self._dismantle(member, restorable.get(member.carpdev.index) is member)
        self._members.clear()

    def _restorable(self, going: list[Member]) -> dict[int, Member]:
        """By carpdev, the last of those that go, where no other virtual host needs the carpdev's settings any more."""
        last = {member.carpdev.index: member for member in going if member.host.mac == "virtual"}
        own = {member.device.index for member in going}
        try:
            marks = [one.mark for one in read_interfaces() if one.index not in own]
        except OSError:
            return last
        for mark in marks:
            if mark is not None:
                last.pop(mark.index, None)
        return last

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
            self._runtime.add_host(member.index, carpdev.index, member.plan, device, lock)
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
            undo.callback(self._runtime.remove_segment, carpdev.index)
            self._strangers.attach(carpdev.index)
            undo.pop_all()
        self._segments.add(carpdev.index)

    def _close_segment_if_empty(self, index: int) -> None:
        used = any(member.carpdev.index == index and member.present for member in self._members.values())
        if index in self._segments and not used:
            self._segments.discard(index)
            self._strangers.detach(index)
            self._runtime.remove_segment(index)

    def _remove(self, member: Member) -> None:
        restore = member.carpdev.index in self._restorable([member])
        del self._members[member.index]
        self._dismantle(member, restore)
        self._close_segment_if_empty(member.carpdev.index)

    def _dismantle(self, member: Member, restore: bool) -> None:
        """The guardian removes the device: it may do so even when this program has given up root."""
        try:
            try:
                self._runtime.remove_host(member.index, restore)
                member.device.forget()
            except EngineError:
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
                self._notice_address(notice)
            else:
                # A gateway came or went, or notices were lost.
                self._routes_changed = True
                self._mark_dirty()

    def _notice_address(self, notice: AddressNotice) -> None:
        members = self._members.values()
        if notice.present and any(self._renewed(member, notice) for member in members):
            return
        if any(notice.index == member.carpdev.index for member in members):
            self._mark_dirty()
        elif not all(member.present for member in members):
            self._mark_dirty()
        if not notice.present:
            self._notice_loss(notice.index)
        elif any(notice.index == member.device.index for member in members):
            # An address on a device whose virtual host is not MASTER, or not one of its own.
            self._mark_dirty()

    def _renewed(self, member: Member, notice: AddressNotice) -> bool:
        """Whether that was our own doing: it is so every second, where the watch cannot tell addresses apart."""
        return (
            notice.index == member.device.index
            and any(notice.address.ip == one.ip for one in member.host.addresses)
            and self._runtime.holds(member.index)
        )

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
            elif notice.index == member.device.index and not self._as_left(member, notice):
                self._mark_dirty()
        if not notice.up:
            self._notice_loss(notice.index)

    def _as_left(self, member: Member, notice: LinkNotice) -> bool:
        """Whether a macvlan is as we made it, and not up where nobody wants it up."""
        kept = (notice.name, notice.mac) == (member.device.name, member.device.mac)
        return kept and not (notice.up and not self._runtime.holds(member.index))

    def _notice_loss(self, index: int) -> None:
        """A device went down or lost an address: ours to look at unless our own drop did that."""
        for member in self._members.values():
            if member.device.index == index and self._runtime.holds(member.index):
                member.robbed = True
                self._mark_dirty()

    def _mark_dirty(self, delay: float = _SETTLE) -> None:
        due = time.monotonic() + delay
        self._survey_at = due if self._survey_at is None else min(self._survey_at, due)

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
            self._mark_dirty(_AGAIN)
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
                if not member.stale:
                    self._tell(member, events.Failed, what=str(error))
                # It is not undone, and the next look would see no change any more.
                member.stale = member.present
                self._mark_dirty(_AGAIN)

    def _lose(self, member: Member) -> None:
        """The carpdev is gone, and the device with it."""
        self._runtime.link(member.index, False)
        member.present = False
        member.carpdev = member.carpdev.replace(up=False, running=False)
        self._tell_carpdev(member)
        self._close_segment_if_empty(member.carpdev.index)
        member.device.teardown()

    def _find(self, member: Member, interfaces: tuple[Interface, ...]) -> None:
        """Is there a carpdev again? Not finding one is no news."""
        if member.back_at is not None:
            return
        try:
            carpdev = choose_carpdev(member.host, interfaces)
        except CarpError:
            return
        try:
            self._settle(member, carpdev)
        except (CarpError, OSError) as error:
            # The attempt alone makes enough noise to wake us for the next one.
            self._stand_back(member, str(error))
            return
        self._tell_carpdev(member)
        if carpdev.up and carpdev.running:
            self._runtime.link(member.index, True)

    def _settle(self, member: Member, carpdev: Interface) -> None:
        """Move a virtual host that had lost its carpdev to this one."""
        with contextlib.ExitStack() as undo:
            lock = member.lock
            if carpdev.index != member.carpdev.index:
                lock = undo.enter_context(VirtualHostLock(member.host.name, carpdev, member.host.vhid))
            device = Device(member.host, carpdev)
            undo.callback(device.teardown)
            device.setup()
            self._open_segment(carpdev)
            undo.callback(self._close_segment_if_empty, carpdev.index)
            plan = _plan(member.host, carpdev, member.plan)
            self._runtime.move_host(member.index, carpdev.index, plan, device, lock)
            undo.pop_all()
        if lock is not member.lock:
            member.lock.close()
        member.lock, member.device, member.carpdev, member.plan = lock, device, carpdev, plan
        member.present, member.stale, member.amiss = True, False, None

    def _refresh(self, member: Member, now: Interface, by_index: dict[int, Interface], routes: bool) -> None:
        self._set_link(member, now.up, now.running)
        before, member.carpdev = member.carpdev, now
        whole = _is_whole(member, by_index)
        changed = member.stale or routes or before.mac != now.mac or self._own_part(before) != self._own_part(now)
        away = member.back_at is not None
        rebuilt = not whole and not away
        if rebuilt and not self._rebuild(member):
            rebuilt, away = False, True
        if changed:
            if whole:
                member.device.refresh(now)
            self._runtime.update_segment(now.index, now.mac, _addresses(now))
            member.plan = _plan(member.host, now, member.plan)
        if rebuilt or (changed and whole):
            self._runtime.replan(member.index, member.plan, member.device)
            # Also the ways to changed gateways: they come with the addresses.
            self._runtime.retake(member.index)
        member.stale = False
        if not rebuilt and not away:
            self._look_after(member, by_index[member.device.index])

    def _own_part(self, carpdev: Interface) -> tuple[object, ...]:
        """The carpdev's own addresses: where floating ones are on it, they come and go by our own doing."""
        floating = {one.ip for member in self._members.values() for one in member.host.addresses}
        return tuple(one for one in carpdev.addresses if not one.ours and one.interface.ip not in floating)

    # What others do to it

    def _rebuild(self, member: Member) -> bool:
        """Somebody removed, renamed or changed the macvlan: make it anew. Returns whether it is there again."""
        if member.relapses.count(time.monotonic()):
            self._stand_back(member, f"somebody keeps removing or changing the interface {member.device.name}")
            return False
        try:
            self._make_anew(member)
        except (CarpError, OSError) as error:
            self._stand_back(member, str(error))
            return False
        return True

    def _make_anew(self, member: Member) -> None:
        member.device.teardown()
        member.device.carpdev = member.carpdev
        member.device.setup()
        member.amiss, member.robbed = None, False

    def _look_after(self, member: Member, holder: Interface) -> None:
        """Somebody took a MASTER's address away, or set its device down: take again. Or gave the address to one that is
        no MASTER: take it away.

        Only what is so at two looks is: the first may have fallen between the decision and its doing.
        """
        master = self._runtime.holds(member.index)
        wanted = {one.ip for one in member.host.addresses}
        there = {one.interface.ip for one in holder.addresses} & wanted if holder.up else set()
        mistaken = there != wanted if master else bool(there) or (member.host.mac == "virtual" and holder.up)
        now = time.monotonic()
        if not mistaken:
            member.amiss, member.robbed = None, False
        elif member.amiss is None or member.amiss[1] is not master:
            member.amiss = (now, master)
            self._mark_dirty(_SETTLE if master else _DOING)
        elif not master and now - member.amiss[0] < _DOING:
            self._mark_dirty(_DOING)
        else:
            self._put_right(member, master)

    def _put_right(self, member: Member, master: bool) -> None:
        # A take may still be under way, with many others; then nobody has taken anything from us. And what a BACKUP has
        # may be what it had a moment ago as MASTER, where masters change all the time.
        counts = member.robbed and master
        member.amiss, member.robbed = None, False
        if counts and member.relapses.count(time.monotonic()):
            self._stand_back(member, f"somebody keeps removing the addresses of {member.device.name}")
        elif master:
            self._runtime.retake(member.index)
        else:
            with RouteSocket() as route:
                route.execute(member.device.drop)
            # It may have become MASTER meanwhile.
            self._mark_dirty()

    def _stand_back(self, member: Member, why: str) -> None:
        """Hand over and try again later: two that undo each other's work all day serve nobody."""
        now = time.monotonic()
        pause = member.relapses.pause(now)
        self._tell(member, events.Failed, what=f"{why}: standing back for {pause:.0f} s")
        member.back_at = now + pause
        member.amiss, member.robbed = None, False
        self._runtime.stop_host(member.index)

    def _come_back(self, member: Member) -> None:
        member.back_at = None
        if member.present:
            try:
                by_index = {interface.index: interface for interface in read_interfaces()}
                if member.carpdev.index in by_index and not _is_whole(member, by_index):
                    self._make_anew(member)
                    self._runtime.replan(member.index, member.plan, member.device)
            except (CarpError, OSError) as error:
                self._stand_back(member, str(error))
                return
        self._runtime.start_host(member.index)
        self._mark_dirty()

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
        if member.back_at is not None:
            member.back_at = time.monotonic()

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


def _is_whole(member: Member, by_index: dict[int, Interface]) -> bool:
    """Whether the device is there and as we made it; the carpdev itself may be as it likes."""
    found = by_index.get(member.device.index)
    if found is None or member.host.mac == "interface":
        return found is not None
    return (found.name, found.mac) == (member.device.name, member.device.mac)


def _program_has_ended() -> bool:
    """Whether nothing but engines keeps the interpreter from its end: nobody is left to stop this one."""
    main = threading.main_thread()
    if main.is_alive():
        return False
    others = (thread for thread in threading.enumerate() if thread is not main and not thread.daemon)
    return all(thread.name == "pycarp-steward" for thread in others)
