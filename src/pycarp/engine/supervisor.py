"""The supervisor keeps the machine's interfaces and the running plans in step, in a thread of its own.

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

from .. import _impl, events
from ..config import Address, VirtualHost
from ..errors import CarpError, ConfigError, EngineError
from ..linux.capabilities import require
from ..linux.device import Device, Scene
from ..linux.interfaces import Interface, choose_carpdev, read_interfaces, source_address
from ..linux.lock import VirtualHostLock
from ..linux.netlink import RouteSocket
from ..linux.sockets import Sockets, join_groups, receive_socket, send_socket
from ..linux.watch import AddressNotice, LinkNotice, Watch
from ..protocol.abc import IPAddress, Runtime
from .backoff import Backoff
from .conflict import Conflicts
from .mailbox import Mailbox
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
class Instance:
    """One virtual host as the supervisor keeps it. While its carpdev is gone it has no device and no plan of use.

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
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
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
        self._instances: dict[int, Instance] = {}
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
            self._conflicts = undo.enter_context(contextlib.closing(Conflicts(self._runtime, emit)))
            undo.callback(self._remove_all)
            scene = Scene()
            for host, carpdev in self._choose(hosts, scene.interfaces):
                self._add(host, carpdev, scene)
            # Not a daemon: when the program ends without having stopped its engine, the supervisor does it.
            self._thread = threading.Thread(target=self._loop, name="pycarp-supervisor", daemon=False)
            for instance in self._instances.values():
                self._start(instance)
            if watchdog:
                self._runtime.watch(watchdog)
            self._thread.start()
            undo.pop_all()

    # From other threads

    @property
    def instances(self) -> tuple[Instance, ...]:
        return tuple(self._instances.values())

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
        self._conflicts.close()
        self._mailbox.abandon()
        for instance in self._instances.values():
            instance.lock.close()

    # In the supervisor's thread

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
                asking = self._conflicts.look(self._instances.values())
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
                for instance in self._instances.values():
                    if instance.back_at is not None and now >= instance.back_at:
                        self._come_back(instance)
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
            self._conflicts.close()
            self._watch.close()
            self._mailbox.close()

    def _remove_all(self) -> None:
        with contextlib.suppress(CarpError):
            self._runtime.stop_all()
        instances = list(self._instances.values())
        restorable = self._restorable(instances)
        for instance in instances:
            self._dismantle(instance, restorable.get(instance.carpdev.index) is instance)
        self._instances.clear()

    def _restorable(self, going: list[Instance]) -> dict[int, Instance]:
        """By carpdev, the last of those that go, where no other virtual host needs the carpdev's settings any more."""
        last = {instance.carpdev.index: instance for instance in going if instance.host.mac == "virtual"}
        own = {instance.device.index for instance in going}
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

    def _add(self, host: VirtualHost, carpdev: Interface, scene: Scene) -> Instance:
        with contextlib.ExitStack() as undo:
            lock = VirtualHostLock(host.name, carpdev, host.vhid)
            undo.callback(lock.close)
            device = Device(host, carpdev)
            device.setup(scene)
            undo.callback(device.teardown)
            self._open_segment(carpdev)
            undo.callback(self._close_segment_if_empty, carpdev.index)
            instance = Instance(next(self._numbers), host, carpdev, lock, device, _plan(host, carpdev, None))
            self._runtime.add_instance(instance.index, carpdev.index, instance.plan, device, lock)
            self._instances[instance.index] = instance
            undo.pop_all()
        return instance

    def _start(self, instance: Instance) -> None:
        if not (instance.carpdev.up and instance.carpdev.running):
            self._runtime.link(instance.index, False)
        self._runtime.start_instance(instance.index)

    def _open_segment(self, carpdev: Interface) -> None:
        if carpdev.index in self._segments:
            return
        with contextlib.ExitStack() as undo:
            receive = undo.enter_context(receive_socket(carpdev.index))
            send = undo.enter_context(send_socket(carpdev.index))
            memberships = tuple(undo.enter_context(one) for one in join_groups(carpdev.index, (4, 6)))
            self._runtime.add_carpdev(
                carpdev.index, Sockets(receive, send, memberships), carpdev.mac, _addresses(carpdev), self._allow
            )
            undo.callback(self._runtime.remove_carpdev, carpdev.index)
            self._conflicts.attach(carpdev.index)
            undo.pop_all()
        self._segments.add(carpdev.index)

    def _close_segment_if_empty(self, index: int) -> None:
        used = any(instance.carpdev.index == index and instance.present for instance in self._instances.values())
        if index in self._segments and not used:
            self._segments.discard(index)
            self._conflicts.detach(index)
            self._runtime.remove_carpdev(index)

    def _remove(self, instance: Instance) -> None:
        restore = instance.carpdev.index in self._restorable([instance])
        del self._instances[instance.index]
        self._dismantle(instance, restore)
        self._close_segment_if_empty(instance.carpdev.index)

    def _dismantle(self, instance: Instance, restore: bool) -> None:
        """The guardian removes the device: it may do so even when this program has given up root."""
        try:
            try:
                self._runtime.remove_instance(instance.index, restore)
                instance.device.forget()
            except EngineError:
                instance.device.teardown()
        except OSError as error:
            self._tell(instance, events.Failed, what=f"{instance.host.name} could not be removed: {error.strerror}")
        instance.lock.close()

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
        instances = self._instances.values()
        if notice.present and any(self._renewed(instance, notice) for instance in instances):
            return
        if any(notice.index == instance.carpdev.index for instance in instances):
            self._mark_dirty()
        elif not all(instance.present for instance in instances):
            self._mark_dirty()
        if not notice.present:
            self._notice_loss(notice.index)
        elif any(notice.index == instance.device.index for instance in instances):
            # An address on a device whose virtual host is not MASTER, or not one of its own.
            self._mark_dirty()

    def _renewed(self, instance: Instance, notice: AddressNotice) -> bool:
        """Whether that was our own doing: it is so every second, where the watch cannot tell addresses apart."""
        return (
            notice.index == instance.device.index
            and any(notice.address.ip == one.ip for one in instance.host.addresses)
            and self._runtime.owns(instance.index)
        )

    def _notice_link(self, notice: LinkNotice) -> None:
        for instance in self._instances.values():
            if notice.index == instance.carpdev.index and notice.present and instance.present:
                # The link's state goes straight to the machine; what else may have changed is read at leisure.
                renamed = notice.name != instance.carpdev.name
                instance.carpdev = instance.carpdev.replace(name=notice.name)
                if not self._set_link(instance, notice.up, notice.running) and renamed:
                    self._tell_carpdev(instance)
                if renamed or notice.mac != instance.carpdev.mac:
                    self._mark_dirty()
            elif notice.index in (instance.carpdev.index, instance.device.index) and not notice.present:
                self._mark_dirty()
            elif not instance.present:
                self._mark_dirty()
            elif notice.index == instance.device.index and not self._as_left(instance, notice):
                self._mark_dirty()
        if not notice.up:
            self._notice_loss(notice.index)

    def _as_left(self, instance: Instance, notice: LinkNotice) -> bool:
        """Whether a macvlan is as we made it, and not up where nobody wants it up."""
        kept = (notice.name, notice.mac) == (instance.device.name, instance.device.mac)
        return kept and not (notice.up and not self._runtime.owns(instance.index))

    def _notice_loss(self, index: int) -> None:
        """A device went down or lost an address: ours to look at unless our own drop did that."""
        for instance in self._instances.values():
            if instance.device.index == index and self._runtime.owns(instance.index):
                instance.robbed = True
                self._mark_dirty()

    def _mark_dirty(self, delay: float = _SETTLE) -> None:
        due = time.monotonic() + delay
        self._survey_at = due if self._survey_at is None else min(self._survey_at, due)

    def _set_link(self, instance: Instance, up: bool, running: bool) -> bool:
        """Tell the machine if the link came or went; returns whether it did."""
        was = instance.carpdev.up and instance.carpdev.running
        instance.carpdev = instance.carpdev.replace(up=up, running=running)
        if was == (up and running):
            return False
        self._runtime.link(instance.index, up and running)
        self._tell_carpdev(instance)
        return True

    def _survey(self) -> None:
        """Compare every instance with what is there now, and put right what differs."""
        try:
            interfaces = read_interfaces()
        except OSError as error:
            self._mark_dirty(_AGAIN)
            for instance in () if self._blind else self._instances.values():
                self._tell(instance, events.Failed, what=f"the interfaces could not be read: {error.strerror}")
            self._blind = True
            return
        self._blind = False
        routes, self._routes_changed = self._routes_changed, False
        by_index = {interface.index: interface for interface in interfaces}
        for instance in list(self._instances.values()):
            try:
                now = by_index.get(instance.carpdev.index)
                if instance.present and now is None:
                    self._lose(instance)
                if not instance.present:
                    self._find(instance, interfaces)
                elif now is not None:
                    self._refresh(instance, now, by_index, routes)
            except (CarpError, OSError) as error:
                if not instance.stale:
                    self._tell(instance, events.Failed, what=str(error))
                # It is not undone, and the next look would see no change any more.
                instance.stale = instance.present
                self._mark_dirty(_AGAIN)

    def _lose(self, instance: Instance) -> None:
        """The carpdev is gone, and the device with it."""
        self._runtime.link(instance.index, False)
        instance.present = False
        instance.carpdev = instance.carpdev.replace(up=False, running=False)
        self._tell_carpdev(instance)
        self._close_segment_if_empty(instance.carpdev.index)
        instance.device.teardown()

    def _find(self, instance: Instance, interfaces: tuple[Interface, ...]) -> None:
        """Is there a carpdev again? Not finding one is no news."""
        if instance.back_at is not None:
            return
        try:
            carpdev = choose_carpdev(instance.host, interfaces)
        except CarpError:
            return
        try:
            self._settle(instance, carpdev)
        except (CarpError, OSError) as error:
            # The attempt alone makes enough noise to wake us for the next one.
            self._stand_back(instance, str(error))
            return
        self._tell_carpdev(instance)
        if carpdev.up and carpdev.running:
            self._runtime.link(instance.index, True)

    def _settle(self, instance: Instance, carpdev: Interface) -> None:
        """Move a virtual host that had lost its carpdev to this one."""
        with contextlib.ExitStack() as undo:
            lock = instance.lock
            if carpdev.index != instance.carpdev.index:
                lock = undo.enter_context(VirtualHostLock(instance.host.name, carpdev, instance.host.vhid))
            device = Device(instance.host, carpdev)
            undo.callback(device.teardown)
            device.setup()
            self._open_segment(carpdev)
            undo.callback(self._close_segment_if_empty, carpdev.index)
            plan = _plan(instance.host, carpdev, instance.plan)
            self._runtime.move_instance(instance.index, carpdev.index, plan, device, lock)
            undo.pop_all()
        if lock is not instance.lock:
            instance.lock.close()
        instance.lock, instance.device, instance.carpdev, instance.plan = lock, device, carpdev, plan
        instance.present, instance.stale, instance.amiss = True, False, None

    def _refresh(self, instance: Instance, now: Interface, by_index: dict[int, Interface], routes: bool) -> None:
        self._set_link(instance, now.up, now.running)
        before, instance.carpdev = instance.carpdev, now
        whole = _is_whole(instance, by_index)
        changed = instance.stale or routes or before.mac != now.mac or self._own_part(before) != self._own_part(now)
        away = instance.back_at is not None
        rebuilt = not whole and not away
        if rebuilt and not self._rebuild(instance):
            rebuilt, away = False, True
        if changed:
            if whole:
                instance.device.refresh(now)
            self._runtime.update_carpdev(now.index, now.mac, _addresses(now))
            instance.plan = _plan(instance.host, now, instance.plan)
        if rebuilt or (changed and whole):
            self._runtime.replan(instance.index, instance.plan, instance.device)
            # Also the ways to changed gateways: they come with the addresses.
            self._runtime.retake(instance.index)
        instance.stale = False
        if not rebuilt and not away:
            self._look_after(instance, by_index[instance.device.index])

    def _own_part(self, carpdev: Interface) -> tuple[object, ...]:
        """The carpdev's own addresses: where floating ones are on it, they come and go by our own doing."""
        floating = {one.ip for instance in self._instances.values() for one in instance.host.addresses}
        return tuple(one for one in carpdev.addresses if not one.ours and one.interface.ip not in floating)

    # What others do to it

    def _rebuild(self, instance: Instance) -> bool:
        """Somebody removed, renamed or changed the macvlan: make it anew. Returns whether it is there again."""
        if instance.backoff.count(time.monotonic()):
            self._stand_back(instance, f"somebody keeps removing or changing the interface {instance.device.name}")
            return False
        try:
            self._make_anew(instance)
        except (CarpError, OSError) as error:
            self._stand_back(instance, str(error))
            return False
        return True

    def _make_anew(self, instance: Instance) -> None:
        instance.device.teardown()
        instance.device.carpdev = instance.carpdev
        instance.device.setup()
        instance.amiss, instance.robbed = None, False

    def _look_after(self, instance: Instance, holder: Interface) -> None:
        """Somebody took a MASTER's address away, or set its device down: take again. Or gave the address to one that is
        no MASTER: take it away.

        Only what is so at two looks is: the first may have fallen between the decision and its doing.
        """
        master = self._runtime.owns(instance.index)
        wanted = {one.ip for one in instance.host.addresses}
        there = {one.interface.ip for one in holder.addresses} & wanted if holder.up else set()
        mistaken = there != wanted if master else bool(there) or (instance.host.mac == "virtual" and holder.up)
        now = time.monotonic()
        if not mistaken:
            instance.amiss, instance.robbed = None, False
        elif instance.amiss is None or instance.amiss[1] is not master:
            instance.amiss = (now, master)
            self._mark_dirty(_SETTLE if master else _DOING)
        elif not master and now - instance.amiss[0] < _DOING:
            self._mark_dirty(_DOING)
        else:
            self._put_right(instance, master)

    def _put_right(self, instance: Instance, master: bool) -> None:
        # A take may still be under way, with many others; then nobody has taken anything from us. And what a BACKUP has
        # may be what it had a moment ago as MASTER, where masters change all the time.
        counts = instance.robbed and master
        instance.amiss, instance.robbed = None, False
        if counts and instance.backoff.count(time.monotonic()):
            self._stand_back(instance, f"somebody keeps removing the addresses of {instance.device.name}")
        elif master:
            self._runtime.retake(instance.index)
        else:
            with RouteSocket() as route:
                route.execute(instance.device.drop)
            # It may have become MASTER meanwhile.
            self._mark_dirty()

    def _stand_back(self, instance: Instance, why: str) -> None:
        """Hand over and try again later: two that undo each other's work all day serve nobody."""
        now = time.monotonic()
        pause = instance.backoff.pause(now)
        self._tell(instance, events.Failed, what=f"{why}: standing back for {pause:.0f} s")
        instance.back_at = now + pause
        instance.amiss, instance.robbed = None, False
        self._runtime.stop_instance(instance.index)

    def _come_back(self, instance: Instance) -> None:
        instance.back_at = None
        if instance.present:
            try:
                by_index = {interface.index: interface for interface in read_interfaces()}
                if instance.carpdev.index in by_index and not _is_whole(instance, by_index):
                    self._make_anew(instance)
                    self._runtime.replan(instance.index, instance.plan, instance.device)
            except (CarpError, OSError) as error:
                self._stand_back(instance, str(error))
                return
        self._runtime.start_instance(instance.index)
        self._mark_dirty()

    # Other hosts than before

    def _reconfigure(self, hosts: tuple[VirtualHost, ...]) -> None:
        chosen = self._choose(hosts, read_interfaces())
        kept = {instance.host.name: instance for instance in self._instances.values()}
        wanted = {host.name for host, _ in chosen}
        same: list[tuple[Instance, VirtualHost]] = []
        fresh: list[tuple[VirtualHost, Interface]] = []
        for host, carpdev in chosen:
            instance = kept.get(host.name)
            if instance is not None and instance.present and _same_place(instance, host, carpdev):
                same.append((instance, host))
            else:
                wanted.discard(host.name)
                fresh.append((host, carpdev))
        for name, instance in kept.items():
            if name not in wanted:
                self._remove(instance)
        for instance, host in same:
            self._change(instance, host)
        scene = Scene()
        for host, carpdev in fresh:
            self._start(self._add(host, carpdev, scene))

    def _change(self, instance: Instance, host: VirtualHost) -> None:
        instance.host = host
        instance.plan = _plan(host, instance.carpdev, instance.plan)
        instance.device.change(host)
        self._runtime.replan(instance.index, instance.plan, instance.device)
        if instance.back_at is not None:
            instance.back_at = time.monotonic()

    # Telling

    def _tell_carpdev(self, instance: Instance) -> None:
        up = instance.carpdev.up and instance.carpdev.running
        self._emit(
            events.CarpdevChanged(
                vhid=instance.host.vhid,
                name=instance.host.name,
                at=time.monotonic_ns(),
                carpdev=instance.carpdev.name,
                present=instance.present,
                up=up,
            )
        )

    def _tell(self, instance: Instance, kind: type[events.Failed], what: str) -> None:
        self._emit(kind(vhid=instance.host.vhid, name=instance.host.name, at=time.monotonic_ns(), what=what))


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


def _same_place(instance: Instance, host: VirtualHost, carpdev: Interface) -> bool:
    return (instance.host.vhid, instance.host.mac, instance.carpdev.index) == (host.vhid, host.mac, carpdev.index)


def _is_whole(instance: Instance, by_index: dict[int, Interface]) -> bool:
    """Whether the device is there and as we made it; the carpdev itself may be as it likes."""
    found = by_index.get(instance.device.index)
    if found is None or instance.host.mac == "interface":
        return found is not None
    return (found.name, found.mac) == (instance.device.name, instance.device.mac)


def _program_has_ended() -> bool:
    """Whether nothing but engines keeps the interpreter from its end: nobody is left to stop this one."""
    main = threading.main_thread()
    if main.is_alive():
        return False
    others = (thread for thread in threading.enumerate() if thread is not main and not thread.daemon)
    return all(thread.name == "pycarp-supervisor" for thread in others)
