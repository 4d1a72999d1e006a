"""Makes instances, starts them, and takes them apart.

Thread: supervisor, and the one that starts the engine
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ..config import VirtualHost
from ..errors import EngineError
from ..linux import settings
from ..linux.device import Device
from ..linux.interfaces import Interface, read_interfaces
from ..linux.leftovers import Inventory
from ..linux.lock import VirtualHostLock, others_held
from .instances import Instance, Instances, plan_on
from .places import NOWHERE, Place


class Builder:
    """What `supervisor` and `reload` have in common. Raises what the parts raise, and then leaves nothing behind."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        self._runtime = instances.runtime
        self._indexes = itertools.count(1)

    def build(self, place: Place, inventory: Inventory, taken: bool = False) -> Instance:
        """An instance that is not among the others yet; the runtime and the guardian know it.

        Where the name of its device is `taken` for now, it has a spare one.
        """
        if place.carpdev is None:
            return self._build_waiting(place)
        carpdev = place.carpdev
        host = settings.fitted(place.host, carpdev)
        with contextlib.ExitStack() as undo:
            lock = VirtualHostLock(host.name, carpdev, host.vhid, (one.ip for one in host.addresses))
            undo.callback(lock.close)
            index = next(self._indexes)
            device = Device(host, carpdev)
            if taken and host.mac == "virtual":
                device.name = spare_name(index)
            device.setup(inventory)
            undo.callback(device.teardown)
            self._instances.open_carpdev(carpdev)
            undo.callback(self._instances.close_carpdev_if_unused, carpdev.index)
            instance = Instance(index, host, carpdev, lock, device, plan_on(carpdev, host))
            self._runtime.add_instance(index, carpdev.index, instance.plan, device, lock)
            undo.pop_all()
        return instance

    def adopt(
        self,
        host: VirtualHost,
        carpdev: Interface,
        lock: VirtualHostLock,
        inventory: Inventory,
        device_values: Mapping[str, Any],
    ) -> Instance:
        """An instance for what another process runs and passes on. It is ready to go on, and changes nothing yet."""
        with contextlib.ExitStack() as undo:
            undo.callback(lock.close)
            device = Device.passed_on(host, carpdev, inventory.interfaces, device_values)
            self._instances.open_carpdev(carpdev)
            undo.callback(self._instances.close_carpdev_if_unused, carpdev.index)
            instance = Instance(next(self._indexes), host, carpdev, lock, device, plan_on(carpdev, host))
            self._runtime.add_instance(instance.index, carpdev.index, instance.plan, device, lock)
            undo.pop_all()
        return instance

    def let_go(self, instance: Instance) -> None:
        """Forget one that was adopted and is another process's still."""
        with contextlib.suppress(EngineError):
            self._runtime.hand_on(instance.index)
        self._instances.close_carpdev_if_unused(instance.carpdev.index)
        if instance.lock is not None:
            instance.lock.close()

    def _build_waiting(self, place: Place) -> Instance:
        carpdev = NOWHERE.replace(name=place.host.carpdev or "")
        device, plan = Device(place.host, carpdev), plan_on(carpdev, place.host)
        instance = Instance(next(self._indexes), place.host, carpdev, None, device, plan, present=False)
        self._runtime.add_instance(instance.index, carpdev.index, plan, device, None)
        return instance

    def start(self, instance: Instance, place: Place) -> None:
        """Say what is to be said of its place, and start it there."""
        if place.missing:
            self._instances.report_waiting(instance, place.missing)
        if instance.host.mac != place.host.mac:
            self._instances.report_own_mac(instance)
        if instance.present:
            self._instances.report_no_gate(instance.device)
        self._instances.report_digest(instance)
        if instance.device.no_ipv6:
            self._instances.report_failure(instance, instance.device.no_ipv6)
        if not instance.usable:
            if instance.present:
                self._instances.report_carpdev(instance)
            self._runtime.link(instance.index, False)
        self._runtime.start_instance(instance.index)

    def dismantle(self, instance: Instance, restore: bool) -> None:
        """Have the guardian remove the device: it may do so even where this program has given up root.

        What cannot be removed is reported. `restore` gives the carpdev its settings back.
        """
        try:
            try:
                untouched = not restore or instance.device.untouched(read_interfaces())
                self._runtime.remove_instance(instance.index, restore and untouched)
                if not untouched:
                    instance.device.restore_rest()
                instance.device.forget()
            except EngineError:
                instance.device.teardown()
        except (OSError, MemoryError) as error:
            why = getattr(error, "strerror", None) or error or "no memory"
            self._instances.report_failure(instance, f"{instance.host.name} could not be removed: {why}")
        if instance.lock is not None:
            instance.lock.close()

    def dismantle_all(self, instances: Iterable[Instance]) -> None:
        """Those that are no longer among the others."""
        instances = tuple(instances)
        restoring = _restoring(instances)
        for instance in instances:
            self.dismantle(instance, instance in restoring)
            self._instances.close_carpdev_if_unused(instance.carpdev.index)
        left = {instance.carpdev.index for instance in instances} - {one.carpdev.index for one in restoring}
        # Another process had a virtual host there. If it has gone meanwhile, it saw ours, and left the settings, too.
        with contextlib.suppress(OSError):
            for index in filter(None, left):
                if not others_held(index, ()):
                    settings.give_back_all(index)


def spare_name(index: int) -> str:
    """A name for a device that cannot have its own yet."""
    return f"pycarp~{index}"


def _restoring(going: tuple[Instance, ...]) -> list[Instance]:
    """Those of the `going` that give their carpdev its settings back: the last on each that no other host needs."""
    last = {instance.carpdev.index: instance for instance in going if instance.carpdev.index}
    return [
        instance
        for index, instance in last.items()
        if not others_held(index, [one.host.vhid for one in going if one.carpdev.index == index])
    ]
