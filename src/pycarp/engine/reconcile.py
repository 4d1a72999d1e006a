"""Compares the instances with what the kernel has, and repairs what differs: carpdevs that came or went, devices and
addresses that others changed.

Thread: supervisor
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from .._unpatched import time
from ..errors import CarpError, InterfaceError
from ..linux import settings
from ..linux.device import Device
from ..linux.interfaces import Interface, choose_carpdev, read_interfaces
from ..linux.lock import VirtualHostLock
from ..linux.netlink import RouteSocket
from ..linux.same_link import interfaces_beside, may_answer
from ..linux.watch import AddressNotice, LinkNotice, RouteWatch, SettingsNotice, Watch
from .instances import Instance, Instances, addresses_of, plan_on
from .places import one_group
from .routing import Routing

_CHANGES_GATHERED = 0.02
"""Changes come in groups: the interfaces are read once, this many seconds after the first notice."""
_RETRIED_AFTER = 0.5
"""The interfaces are read again after this many seconds when that failed: a program may be out of descriptors."""
_SOUGHT_AGAIN_AFTER = 2.0
"""Seconds until a carpdev is tried again that is there but cannot be used: a port of a bridge, for one."""
_DROP_DONE_WITHIN = 0.2
"""Seconds that a drop may take, with room to spare. An address that a BACKUP has after that was not left from it."""


class Reconciler:
    """Reads the notices of `watch`, and surveys the interfaces after a notice that needs it."""

    def __init__(self, instances: Instances, watch: Watch, route_watch: RouteWatch) -> None:
        self._instances = instances
        self._runtime = instances.runtime
        self._watch = watch
        self._survey_at: float | None = None
        self.routing = Routing(instances, route_watch)
        self._reading_failed = False
        self._running: set[int] = set()

    def due_in(self) -> float:
        """Seconds until the next survey; infinity where none is due."""
        survey = math.inf if self._survey_at is None else self._survey_at - time.monotonic()
        return min(survey, self.routing.due_in())

    def run(self) -> None:
        """Do what is due: the survey, and the ends of back-offs."""
        now = time.monotonic()
        if self._survey_at is not None and now >= self._survey_at:
            self._survey_at = None
            self.survey()
        for instance in self._instances:
            if instance.stopped_until is not None and now >= instance.stopped_until:
                self._end_backoff(instance)
        self.routing.run()

    # Notices

    def read_notices(self) -> None:
        try:
            notices = self._watch.read()
        except OSError:
            # The notices are lost; a survey finds what they told.
            self.routing.note()
            self._survey_soon()
            return
        for notice in notices:
            if isinstance(notice, LinkNotice):
                self._notice_link(notice)
            elif isinstance(notice, AddressNotice):
                self._notice_address(notice)
            elif isinstance(notice, SettingsNotice):
                if notice.index < 0 or any(notice.index == one.carpdev.index for one in self._instances):
                    self._survey_soon()
            else:
                # Notices were lost.
                self.routing.note()
                self._survey_soon()

    def _notice_address(self, notice: AddressNotice) -> None:
        instances = tuple(self._instances)
        if notice.present and any(self._is_own_renewal(instance, notice) for instance in instances):
            return
        if not any(notice.index == instance.device.index != instance.carpdev.index for instance in instances):
            # Not all of IPv4's routes that go with an address or a link are told.
            self.routing.note()
        if any(notice.index == instance.carpdev.index or not instance.present for instance in instances):
            self._survey_soon()
        if not notice.present:
            self._notice_loss(notice.index)
        elif any(notice.index == instance.device.index for instance in instances):
            # An address on the device of a BACKUP, or one that is not its own.
            self._survey_soon()

    def _is_own_renewal(self, instance: Instance, notice: AddressNotice) -> bool:
        """Whether the runtime did that. It does every second, and old kernels cannot tell whose an address is."""
        return (
            notice.index == instance.device.index
            and any(notice.address.ip == one.ip for one in instance.host.addresses)
            and self._runtime.owns(instance.index)
        )

    def _notice_link(self, notice: LinkNotice) -> None:
        own = [one.device for one in self._instances if notice.index == one.device.index != one.carpdev.index]
        if not own or own[0].unfit:
            # Of its own device it is a take or a drop, after which only what the guardian has no room for is due.
            self.routing.note()
        for instance in self._instances:
            instance.lost |= instance.present and not notice.present and notice.index == instance.carpdev.index
            if notice.index == instance.carpdev.index and notice.present and instance.present:
                # The machine hears of the link's state at once; a survey reads what else may have changed.
                renamed = notice.name != instance.carpdev.name
                instance.carpdev = instance.carpdev.replace(name=notice.name)
                if not self._set_link(instance, notice) and renamed:
                    self._instances.report_carpdev(instance)
                carpdev = instance.carpdev
                if renamed:
                    self._survey_soon(0)
                elif (notice.mac, notice.mtu, notice.group) != (carpdev.mac, carpdev.mtu, carpdev.group):
                    self._survey_soon()
            elif (
                not instance.present
                or (notice.index in (instance.carpdev.index, instance.device.index) and not notice.present)
                or (notice.index == instance.device.index and not self._is_as_made(instance, notice))
            ):
                self._survey_soon()
        if not (notice.up and notice.running):
            self._notice_loss(notice.index)
        elif notice.index not in self._running and not any(
            notice.index in (one.carpdev.index, one.device.index) for one in self._instances
        ):
            # Another interface came, perhaps to a carpdev's link.
            self._survey_soon()

    def _is_as_made(self, instance: Instance, notice: LinkNotice) -> bool:
        """Whether a macvlan has its name and MAC, and is up and running exactly while it is MASTER."""
        device = instance.device
        right = notice.running if self._runtime.owns(instance.index) else not notice.up
        return (notice.name, notice.mac) == (device.name, device.mac) and right

    def _notice_loss(self, index: int) -> None:
        """A device went down or lost an address. If the runtime wants it there, another program did that."""
        for instance in self._instances:
            if instance.device.index == index and self._runtime.owns(instance.index):
                instance.loss_noticed = True
                self._survey_soon()

    def _survey_soon(self, delay: float = _CHANGES_GATHERED) -> None:
        due = time.monotonic() + delay
        self._survey_at = due if self._survey_at is None else min(self._survey_at, due)

    def _set_link(self, instance: Instance, now: LinkNotice | Interface) -> bool:
        """Tell the machine if the link came or went; returns whether it did."""
        was = instance.usable
        instance.carpdev = instance.carpdev.replace(up=now.up, running=now.running)
        instance.hindrance = settings.hindrance(instance.host, instance.carpdev.replace(mtu=now.mtu))
        if was == instance.usable:
            return False
        self._runtime.link(instance.index, instance.usable)
        self._instances.report_carpdev(instance)
        return True

    # The survey

    def survey(self) -> None:
        """Compare every instance with what is there now, and repair what differs."""
        try:
            interfaces = read_interfaces()
        except (OSError, MemoryError) as error:
            self._survey_soon(_RETRIED_AFTER)
            for instance in () if self._reading_failed else self._instances:
                self._instances.report_failure(instance, f"the interfaces could not be read: {_why(error)}")
            self._reading_failed = True
            return
        self._reading_failed = False
        by_index = {interface.index: interface for interface in interfaces}
        beside = self._look_beside(interfaces, by_index)
        # All of them first: the sockets of a carpdev close with the last, and another one may have its index.
        for instance in self._instances:
            if instance.present and (instance.lost or instance.carpdev.index not in by_index):
                with self._reporting(instance):
                    self._lose_carpdev(instance)
        for instance in self._instances:
            with self._reporting(instance):
                new = beside.get(instance.carpdev.index)
                if new and instance.present and instance.device.guard(new, interfaces):
                    instance.outdated = True
                if instance.present:
                    self._refresh(instance, by_index[instance.carpdev.index], by_index)
                else:
                    self._seek_carpdev(instance, interfaces)

    @contextlib.contextmanager
    def _reporting(self, instance: Instance) -> Iterator[None]:
        """Report what fails, and try again later."""
        try:
            yield
        except (CarpError, OSError, MemoryError) as error:
            if not instance.outdated:
                self._instances.report_failure(instance, _why(error))
            # The next survey would see no difference.
            instance.outdated = instance.present
            self._survey_soon(_RETRIED_AFTER)

    def _look_beside(
        self, interfaces: tuple[Interface, ...], by_index: dict[int, Interface]
    ) -> dict[int, tuple[Interface, ...]]:
        """Where interfaces came that may be on a carpdev's link: those that are, by the carpdev's index."""
        carpdevs = {one.carpdev.index for one in self._instances if one.present} & by_index.keys()
        running = {one.index for one in may_answer(interfaces)}
        new, self._running = running - self._running - carpdevs, running
        return {index: interfaces_beside(by_index[index], interfaces) for index in carpdevs} if new else {}

    def _lose_carpdev(self, instance: Instance) -> None:
        """The carpdev is gone, and the device with it."""
        self._runtime.link(instance.index, False)
        instance.present, instance.lost, instance.missing = False, False, f"{instance.carpdev.name} has gone"
        instance.carpdev = instance.carpdev.replace(up=False, running=False)
        self._instances.report_carpdev(instance)
        self._instances.close_carpdev_if_unused(instance.carpdev.index)
        instance.device.teardown()

    def _seek_carpdev(self, instance: Instance, interfaces: tuple[Interface, ...]) -> None:
        """Move to a carpdev if there is one. What is missing is reported once."""
        if instance.stopped_until is not None:
            return
        now = time.monotonic()
        if now < instance.sought_at:
            self._survey_soon(instance.sought_at - now)
            return
        try:
            carpdev = choose_carpdev(instance.host, interfaces)
            self._refuse_group(instance, carpdev)
        except CarpError as error:
            self._instances.report_waiting(instance, str(error))
            return
        try:
            self._move(instance, carpdev)
        except (CarpError, OSError, MemoryError) as error:
            # The attempt makes and removes a device: without a pause, the notices of that cause the next attempt.
            instance.sought_at = now + _SOUGHT_AGAIN_AFTER
            self._survey_soon(_SOUGHT_AGAIN_AFTER)
            self._instances.report_waiting(instance, _why(error))
            return
        instance.missing = ""
        self._instances.report_carpdev(instance)
        if instance.usable:
            self._runtime.link(instance.index, True)

    def _refuse_group(self, instance: Instance, carpdev: Interface) -> None:
        for other in self._instances:
            if other is not instance and other.present and other.carpdev.index == carpdev.index:
                if other.host.vhid == instance.host.vhid:
                    raise InterfaceError(one_group(other.host, instance.host, carpdev.name))

    def _move(self, instance: Instance, carpdev: Interface) -> None:
        """Move an instance that had lost its carpdev to this one."""
        host = settings.fitted(instance.host, carpdev)
        with contextlib.ExitStack() as undo:
            lock = instance.lock
            if lock is None or carpdev.index != instance.carpdev.index:
                addresses = (one.ip for one in instance.host.addresses)
                lock = undo.enter_context(VirtualHostLock(instance.host.name, carpdev, instance.host.vhid, addresses))
            device = Device(host, carpdev)
            undo.callback(device.teardown)
            device.setup()
            self._instances.open_carpdev(carpdev)
            undo.callback(self._instances.close_carpdev_if_unused, carpdev.index)
            plan = plan_on(carpdev, host, instance.plan)
            self._runtime.move_instance(instance.index, carpdev.index, plan, device, lock)
            undo.pop_all()
        if instance.lock is not None and lock is not instance.lock:
            instance.lock.close()
        instance.lock, instance.device, instance.carpdev, instance.plan = lock, device, carpdev, plan
        instance.present, instance.outdated, instance.misplaced = True, False, None
        instance.hindrance = settings.hindrance(host, carpdev)
        if host is not instance.host:
            instance.host = host
            self._instances.report_own_mac(instance)

    def _refresh(self, instance: Instance, now: Interface, by_index: dict[int, Interface]) -> None:
        """Take up what changed on the carpdev, and repair the device and its addresses."""
        self._set_link(instance, now)
        before, instance.carpdev = instance.carpdev, now
        intact = _is_intact(instance, by_index)
        # Gates and rules go by the carpdev's name: without this, renewals fail after it was renamed.
        renamed = instance.device.carpdev.name != now.name
        changed = instance.outdated or renamed or self._own_part(before) != self._own_part(now)
        if intact and now.forwarding6 is not None and _lacks_ipv6(instance, by_index):
            instance.device.revive_ipv6(now)
            changed = True
        rebuilt = not intact and instance.stopped_until is None and self._repair_device(instance)
        if changed:
            if intact:
                instance.device.refresh(now)
            self._runtime.update_carpdev(now.index, now.mac, addresses_of(now))
            instance.plan = plan_on(now, instance.host, instance.plan)
        if rebuilt or (changed and intact):
            self._runtime.replan(instance.index, instance.plan, instance.device)
            self._runtime.retake(instance.index, quiet=not rebuilt)
            self.routing.note()
        instance.outdated = False
        if intact and instance.leaving:
            self._sweep(instance, by_index[instance.device.index])
        if intact and instance.stopped_until is None:
            self._check_addresses(instance, by_index[instance.device.index])

    def _own_part(self, carpdev: Interface) -> tuple[object, ...]:
        """The carpdev's MAC, what the macvlan follows, and own addresses: no floating ones, which takes put there."""
        floating = {one.ip for instance in self._instances for one in instance.host.addresses}
        follows = (
            carpdev.mtu,
            carpdev.group,
            carpdev.forwarding6,
            settings.is_proxy(carpdev),
            *settings.of_macvlan(carpdev).values(),
        )
        return (
            carpdev.mac,
            *follows,
            *(one for one in carpdev.addresses if not one.ours and one.interface.ip not in floating),
        )

    def after_reload(self) -> None:
        """The instances have changed, or almost."""
        self.routing.note()
        self._survey_soon()

    def _sweep(self, instance: Instance, device: Interface) -> None:
        """Remove the addresses that a reconfiguration took from it. A take or renewal under way may bring one back."""
        wanted = {one.ip for one in instance.host.addresses}
        for other in self._instances:
            if other.present and other.device.index == device.index and self._runtime.owns(other.index):
                wanted |= {one.ip for one in other.host.addresses}
        instance.leaving = {one: how for one, how in instance.leaving.items() if one.ip not in wanted}
        there = {one.interface.ip for one in device.addresses}
        with RouteSocket() as route:
            for batch, _until in instance.leaving.values():
                route.execute(batch)
        now = time.monotonic()
        instance.leaving = {
            one: (batch, until) for one, (batch, until) in instance.leaving.items() if now < until or one.ip in there
        }
        self.routing.note()
        if instance.leaving:
            self._survey_soon(_DROP_DONE_WITHIN)

    # Repairs

    def _repair_device(self, instance: Instance) -> bool:
        """Another program removed, renamed or changed the macvlan: make it anew. Returns whether it is there again."""
        if instance.backoff.count(time.monotonic()):
            self._back_off(instance, f"another program keeps removing or changing the interface {instance.device.name}")
            return False
        return self._make_device(instance)

    def _make_device(self, instance: Instance) -> bool:
        """Returns whether it is there; otherwise the instance backs off."""
        try:
            instance.device.teardown()
            instance.device.carpdev = instance.carpdev
            instance.device.setup()
        except (CarpError, OSError, MemoryError) as error:
            self._back_off(instance, _why(error))
            return False
        instance.misplaced, instance.loss_noticed = None, False
        return True

    def _check_addresses(self, instance: Instance, device: Interface) -> None:
        """A MASTER that lacks an address, or whose device is down, takes again. Another that has one drops it.

        Two surveys in a row have to find it so: the first may fall between the decision and what the kernel does.
        """
        master = self._runtime.owns(instance.index)
        wanted = instance.device.holdable
        there = {one.interface.ip for one in device.addresses} & wanted if device.up else set()
        if there and not device.running and instance.carpdev.running:
            there = set()
        wrong = there != wanted if master else bool(there) or (instance.host.mac == "virtual" and device.up)
        now = time.monotonic()
        if not wrong:
            instance.misplaced, instance.loss_noticed = None, False
        elif instance.misplaced is None or instance.misplaced[1] is not master:
            instance.misplaced = (now, master)
            self._survey_soon(_CHANGES_GATHERED if master else _DROP_DONE_WITHIN)
        elif not master and now - instance.misplaced[0] < _DROP_DONE_WITHIN:
            self._survey_soon(_DROP_DONE_WITHIN)
        else:
            self._place_addresses(instance, device, master)

    def _place_addresses(self, instance: Instance, device: Interface, master: bool) -> None:
        # Only a loss that was noticed counts for the back-off: a take may still be under way, among many others. And
        # what a BACKUP has may be left from when it was MASTER, where masters change all the time.
        counts = instance.loss_noticed and master
        instance.misplaced, instance.loss_noticed = None, False
        silent = master and device.up and not device.running
        if counts and instance.backoff.count(time.monotonic()):
            what = (
                f"taking the carrier of {device.name} (protodown)"
                if silent
                else f"removing the addresses of {device.name}"
            )
            self._back_off(instance, f"another program keeps {what}")
        elif master:
            if silent:
                self._instances.report_change(instance, f"took the carrier of {device.name} (protodown)")
            self._runtime.retake(instance.index)
        else:
            with RouteSocket() as route:
                route.execute(instance.device.drop)
            # It may have become MASTER meanwhile.
            self._survey_soon()

    def _back_off(self, instance: Instance, why: str) -> None:
        """Hand over and try again later: two programs that undo each other's work leave no service."""
        now = time.monotonic()
        pause = instance.backoff.pause(now)
        self._instances.report_failure(instance, f"{why}: backing off for {pause:.0f} s")
        instance.stopped_until = now + pause
        instance.misplaced, instance.loss_noticed = None, False
        self._runtime.stop_instance(instance.index)

    def _end_backoff(self, instance: Instance) -> None:
        instance.stopped_until = None
        if instance.present:
            try:
                by_index = {interface.index: interface for interface in read_interfaces()}
                if instance.carpdev.index in by_index and not _is_intact(instance, by_index):
                    if not self._make_device(instance):
                        return
                    self._runtime.replan(instance.index, instance.plan, instance.device)
            except (CarpError, OSError, MemoryError) as error:
                self._back_off(instance, _why(error))
                return
        self._runtime.start_instance(instance.index)
        self._survey_soon()


def _lacks_ipv6(instance: Instance, by_index: dict[int, Interface]) -> bool:
    """Whether a macvlan has lost IPv6, as it does while the MTU is below 1280."""
    host, found = instance.host, by_index[instance.device.index]
    return host.mac == "virtual" and 6 in host.families and found.forwarding6 is None and not instance.hindrance


def _is_intact(instance: Instance, by_index: dict[int, Interface]) -> bool:
    """Whether the device is there with its name and MAC. Those of a carpdev may change."""
    found = by_index.get(instance.device.index)
    if found is None or instance.host.mac == "interface":
        return found is not None
    return (found.name, found.mac) == (instance.device.name, instance.device.mac)


def _why(error: BaseException) -> str:
    if isinstance(error, CarpError):
        return str(error)
    return (isinstance(error, OSError) and error.strerror) or str(error) or "no memory"
