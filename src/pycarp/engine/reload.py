"""Another configuration for a running engine: all of it, or none.

First everything new is made beside what runs: locks, devices, rules, sockets, plans. Then the runtime changes over.
What fails on the way is undone, and what ran runs on. Only then does the old go.

Thread: supervisor
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from .._records import dataclass
from .._unpatched import time
from ..config import VirtualHost
from ..errors import CapabilityError, CarpError, EngineError
from ..linux import settings
from ..linux.capabilities import NUMBERS, effective
from ..linux.device import Device
from ..linux.leftovers import Inventory
from ..linux.lock import VirtualHostLock
from ..protocol import State
from .builder import Builder, spare_name
from .instances import Instance, Instances, plan_on
from .places import Place
from .plan import Plan


@dataclass(frozen=True, slots=True)
class _Version:
    """What an instance is made of, before a change or after it."""

    host: VirtualHost
    lock: VirtualHostLock | None
    device: Device
    plan: Plan


@dataclass(slots=True)
class _Change:
    """An instance that stays in the runtime.

    `anew`: with another name or kind of MAC it stops and starts again. `entrust`: the
    guardian has to be told.
    """

    instance: Instance
    before: _Version
    after: _Version
    place: Place
    anew: bool
    entrust: bool


class Reload:
    """One reconfiguration. `run` does it, or raises and has changed nothing; a Reload runs once.

    `owner` is the user that started the engine: the guardian adds nothing for another.
    """

    def __init__(self, instances: Instances, builder: Builder, owner: int) -> None:
        self._instances = instances
        self._runtime = instances.runtime
        self._builder = builder
        self._permitted = _may_build(owner)
        self._undo: list[Callable[[], object]] = []
        self._changes: list[_Change] = []
        self._new: list[tuple[Instance, Place]] = []
        self._going: list[Instance] = []

    def run(self, places: tuple[Place, ...]) -> None:
        try:
            self._prepare(places)
            self._change_over()
        except BaseException as error:
            self._go_back(error)
            raise
        self._finish()

    # Beside what runs

    def _prepare(self, places: tuple[Place, ...]) -> None:
        before = tuple(self._instances)
        groups = {(one.carpdev.index, one.host.vhid): one for one in before if one.present}
        waiting = {one.host.name: one for one in before if not one.present}
        plain: list[Place] = []
        kept: dict[Instance, Place] = {}
        for place in places:
            if place.carpdev is not None:
                former = groups.get((place.carpdev.index, place.host.vhid))
            else:
                former = waiting.get(place.host.name)
                if former is not None and former.host.vhid != place.host.vhid:
                    former = None
            if former is None:
                plain.append(place)
            else:
                kept[former] = place
        self._going = [one for one in before if one not in kept]
        inventory: Inventory | None = None
        names = {one.device.name for one in before if one.present}
        for instance, place in kept.items():
            if instance.host != settings.fitted(place.host, instance.carpdev):
                inventory = self._prepare_change(instance, place, inventory, names)
        for place in plain:
            self._require(place.host, "be added")
            inventory = inventory or self._inventory()
            instance = self._builder.build(place, inventory, place.host.name in names)
            self._undo.append(partial(self._builder.dismantle_all, (instance,)))
            self._new.append((instance, place))

    def _inventory(self) -> Inventory:
        return Inventory([one.device for one in self._instances if one.present])

    def _prepare_change(
        self, instance: Instance, place: Place, inventory: Inventory | None, names: set[str]
    ) -> Inventory | None:
        host = settings.fitted(place.host, instance.carpdev)
        before = _Version(instance.host, instance.lock, instance.device, instance.plan)
        anew = instance.present and (host.name, host.mac) != (before.host.name, before.host.mac)
        lock = self._lock_for(instance, host)
        plan = plan_on(instance.carpdev, host, instance.plan)
        same = False
        if not instance.present:
            device = Device(host, instance.carpdev)
        elif host.mac == before.host.mac:
            device = before.device.changed_to(host, self._permitted)
            same = before.device.same_orders(device) and plan.bowouts == before.plan.bowouts
            if anew or not same:
                self._require(host, "be changed")
            if anew and host.mac == "virtual":
                inventory = inventory or self._inventory()
                inventory.refuse_name(host.name)
            known = {one.ip for one in before.host.addresses}
            added = [one for one in host.addresses if one.ip not in known]
            self._undo.append(partial(self._instances.leave, instance, device, added))
            device.admit(before.host)
        else:
            self._require(host, "be changed")
            inventory = inventory or self._inventory()
            device = Device(host, instance.carpdev)
            if host.mac == "virtual" and host.name in names:
                device.name = spare_name(instance.index)
            self._undo.append(partial(_tear_down_beside, device, before.device))
            device.setup(inventory)
        after = _Version(host, lock, device, plan)
        self._changes.append(_Change(instance, before, after, place, anew, entrust=not same))
        return inventory

    def _lock_for(self, instance: Instance, host: VirtualHost) -> VirtualHostLock | None:
        wanted = {one.ip for one in host.addresses}
        if instance.lock is None or wanted == {one.ip for one in instance.host.addresses}:
            return instance.lock
        lock = instance.lock.with_addresses(host.name, instance.carpdev, host.vhid, wanted)
        self._undo.append(lock.close)
        return lock

    def _require(self, host: VirtualHost, what: str) -> None:
        if not self._permitted:
            raise CapabilityError(
                f"{host.name} cannot {what}: this program has given up CAP_NET_ADMIN, or is another user now; keep "
                "that, or start anew as root"
            )

    # The change

    def _change_over(self) -> None:
        for change in self._changes:
            if not change.anew:
                self._replan(change)
        stopping = [*self._going, *(one.instance for one in self._changes if one.anew)]
        for instance in stopping:
            self._stop(instance)
        for instance in self._going:
            self._undo.append(partial(self._instances.add, instance))
            self._instances.remove(instance)
        for change in self._changes:
            if change.anew:
                self._replan(change)
        self._give_names()
        for instance, _place in self._new:
            self._undo.append(partial(self._instances.remove, instance))
            self._instances.add(instance)

    def _replan(self, change: _Change) -> None:
        instance = change.instance

        def back() -> None:
            _put(instance, change.before)
            change.before.device.reclaim()
            self._runtime.replan(
                instance.index, change.before.plan, change.before.device, change.before.lock, change.entrust
            )

        self._undo.append(back)
        after = change.after
        self._runtime.replan(instance.index, after.plan, after.device, after.lock, change.entrust)
        _put(instance, after)

    def _stop(self, instance: Instance) -> None:
        if instance.stopped_until is not None:
            return
        master = self._runtime.state(instance.index) is State.MASTER

        def back() -> None:
            self._runtime.start_instance(instance.index)
            if master:
                self._runtime.force(instance.index, State.MASTER)

        self._undo.append(back)
        self._runtime.stop_instance(instance.index)

    def _give_names(self) -> None:
        """The devices get the names of their virtual hosts; those that have such a name and go get a spare one."""
        kept = [one.instance for one in self._changes if one.instance.present]
        wanted = [one for one in (*kept, *(one for one, _place in self._new if one.present)) if _misnamed(one)]
        final = {one.host.name for one in wanted}
        holding = [(one, one.device) for one in (*kept, *self._going) if one.present]
        holding += [(one.instance, one.before.device) for one in self._changes if one.instance.present]
        for instance, device in holding:
            former_kind = device is not instance.device and device.host.mac == instance.host.mac
            if device.host.mac == "virtual" and device.name in final and not former_kind:
                self._rename(instance, device, spare_name(instance.index))
        for instance in wanted:
            self._rename(instance, instance.device, instance.host.name)
        for instance in wanted:
            self._tell_guardian(instance, instance.device)

    def _rename(self, instance: Instance, device: Device, name: str) -> None:
        former = device.name

        def back() -> None:
            device.rename(former)
            if device is instance.device:
                self._tell_guardian(instance, device)

        self._undo.append(back)
        device.rename(name)

    def _tell_guardian(self, instance: Instance, device: Device) -> None:
        self._runtime.replan(instance.index, instance.plan, device, instance.lock)

    # How it ends

    def _go_back(self, error: BaseException) -> None:
        failures: list[str] = []
        while self._undo:
            try:
                self._undo.pop()()
            except (CarpError, OSError, MemoryError) as failure:
                failures.append(str(failure) or type(failure).__name__)
        if failures:
            raise EngineError(
                f"{error}; and not all of the old configuration could be brought back ({'; '.join(failures)}): "
                "stop the engine and start it anew"
            ) from error

    def _finish(self) -> None:
        """Nothing can fail any more, but for what is only reported."""
        self._undo.clear()
        for change in self._changes:
            instance, before, after = change.instance, change.before, change.after
            if before.host.mac != after.host.mac:
                self._tear_down(instance, before.device, after.device)
            elif instance.present:
                # The survey removes them: by then, another instance that gets one of them has it.
                kept = {one.ip for one in after.host.addresses}
                lost = [one for one in before.host.addresses if one.ip not in kept]
                self._instances.leave(instance, before.device, lost)
            if before.lock is not None and before.lock is not after.lock:
                before.lock.close()
        self._builder.dismantle_all(self._going)
        for change in self._changes:
            self._instances.report_changed_digest(change.before.plan, change.after.host)
            if change.anew:
                self._builder.start(change.instance, change.place)
            elif change.place.missing:
                self._instances.report_waiting(change.instance, change.place.missing)
        for instance, place in self._new:
            self._builder.start(instance, place)
        now = time.monotonic()
        for instance in self._instances:
            if instance.stopped_until is not None:
                instance.stopped_until = now

    def _tear_down(self, instance: Instance, device: Device, other: Device) -> None:
        try:
            _tear_down_beside(device, other)
        except (CarpError, OSError, MemoryError) as error:
            why = f"what {device.name} had before could not be removed: {error or 'no memory'}"
            self._instances.report_failure(instance, why)


def _misnamed(instance: Instance) -> bool:
    return instance.host.mac == "virtual" and instance.device.name != instance.host.name


def _tear_down_beside(device: Device, other: Device) -> None:
    """Remove a device of an instance that has another."""
    device.leave_to(other)
    device.teardown()


def _put(instance: Instance, version: _Version) -> None:
    instance.host, instance.lock = version.host, version.lock
    instance.device, instance.plan = version.device, version.plan


def _may_build(owner: int) -> bool:
    try:
        return set(NUMBERS) <= effective() and os.getuid() in (0, owner)
    except OSError:
        return True
