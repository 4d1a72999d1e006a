"""The life cycle of an engine's instances: start, reconfigure, stop. `reconcile` does what happens in between.

The supervisor alone makes devices. It has the guardian remove them, and does so itself only where there is none. It
tells the runtime what it has to know. All of it happens in the network namespace of the thread that starts the engine.

Thread: supervisor; `start` and what is public: any caller
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import threading
import time
from collections.abc import Callable, Iterable
from typing import Literal

from .. import _impl
from ..config import VirtualHost
from ..errors import CarpError, ConfigError, EngineError
from ..events import Event
from ..linux import settings
from ..linux.capabilities import require
from ..linux.device import Device
from ..linux.interfaces import Interface, choose_carpdev, read_interfaces
from ..linux.leftovers import Inventory
from ..linux.lock import VirtualHostLock, others_held
from ..linux.watch import RouteWatch, Watch
from ..protocol.abc import Runtime
from .conflict import Conflicts
from .host_look import HostLook
from .instances import Instance, Instances, plan_on
from .mailbox import Mailbox
from .reconcile import Reconciler

_THREAD_NAME = "pycarp-supervisor"
_PROGRAM_END_NOTICED = 0.5
"""Nothing wakes the supervisor when the program's main thread ends: it looks after this many seconds."""


class Supervisor:
    """Owns runtime, watch, devices and locks of one engine. Made and started by `Engine.start`.

    `emit` gets the events, `watchdog` is ns, 0 for none. Raises what the parts raise, with everything undone.
    """

    def __init__(
        self,
        hosts: Iterable[VirtualHost],
        emit: Callable[[Event], None],
        allow: bool,
        realtime: bool | Literal["auto"],
        watchdog: int,
    ) -> None:
        require("CAP_NET_ADMIN", "CAP_NET_RAW")
        self._indexes = itertools.count(1)
        self._mailbox = Mailbox()
        self._stopped = False
        undo = self._undo = contextlib.ExitStack()
        try:
            undo.callback(self._mailbox.close)
            # The watch comes first: every change after the first reading of the interfaces is noticed.
            self._watch = undo.enter_context(Watch(own_additions=False))
            self._route_watch = undo.enter_context(RouteWatch())
            self.runtime: Runtime = undo.enter_context(contextlib.closing(_impl.current.runtime(emit, realtime)))
            self._conflicts = undo.enter_context(contextlib.closing(Conflicts(self.runtime, emit)))
            self.instances = Instances(self.runtime, self._conflicts, emit, allow)
            self._reconciler = Reconciler(self.instances, self._watch, self._route_watch)
            undo.callback(self._remove_all)
            inventory = Inventory()
            chosen = _choose(hosts, inventory.interfaces)
            self.runtime.expect(host.vhid for host, _carpdev in chosen)
            for host, carpdev in chosen:
                self._add(host, carpdev, inventory)
            # Not a daemon: when the program ends without having stopped its engine, the supervisor does it.
            self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=False)
            for instance in self.instances:
                self._start(instance)
            if watchdog:
                self.runtime.watch(watchdog)
            self._thread.start()
            self._look = HostLook([instance.host for instance in self.instances], emit)
        except BaseException:
            undo.close()
            raise

    # From other threads

    def reconfigure(self, hosts: tuple[VirtualHost, ...]) -> None:
        """Make these the virtual hosts. What fails is undone as far as it was new; the other instances go on."""
        self._mailbox.call(lambda: self._reconfigure(hosts))

    def stop(self) -> None:
        """Bow out, drop, remove; returns when nothing is left."""
        if self._thread.is_alive():
            with contextlib.suppress(CarpError):
                self._mailbox.post(self._end)
            self._thread.join()
        self._look.close()

    def abandon(self) -> None:
        """In a forked child: close the descriptors, touch nothing else."""
        self.runtime.abandon()
        self._watch.close()
        self._route_watch.close()
        self._conflicts.close()
        self._mailbox.abandon()
        for instance in self.instances:
            instance.lock.close()

    # In the supervisor's thread

    def _run(self) -> None:
        try:
            self._loop()
        finally:
            # After a fault nothing looks after the devices any longer: they go.
            if not self._stopped:
                self._end()

    def _loop(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._mailbox, selectors.EVENT_READ)
            selector.register(self._watch, selectors.EVENT_READ)
            selector.register(self._route_watch, selectors.EVENT_READ)
            while not self._stopped:
                next_look = self._conflicts.look(self.instances)
                timeout = max(0, min(next_look, self._reconciler.due_in(), _PROGRAM_END_NOTICED))
                for key, _ in selector.select(timeout):
                    if key.fileobj is self._mailbox:
                        self._mailbox.work()
                    elif self._stopped:
                        break
                    elif key.fileobj is self._watch:
                        self._reconciler.read_notices()
                    else:
                        self._reconciler.routing.read_notices()
                if self._stopped:
                    break
                self._reconciler.run()
                if _program_has_ended():
                    self._end()

    def _end(self) -> None:
        self._stopped = True
        self._undo.close()

    def _add(self, asked: VirtualHost, carpdev: Interface, inventory: Inventory) -> Instance:
        host = settings.fitted(asked, carpdev)
        with contextlib.ExitStack() as undo:
            lock = VirtualHostLock(host.name, carpdev, host.vhid, (one.ip for one in host.addresses))
            undo.callback(lock.close)
            device = Device(host, carpdev)
            device.setup(inventory)
            self.instances.report_no_gate(device)
            undo.callback(device.teardown)
            self.instances.open_carpdev(carpdev)
            undo.callback(self.instances.close_carpdev_if_unused, carpdev.index)
            instance = Instance(next(self._indexes), host, carpdev, lock, device, plan_on(carpdev, host))
            self.runtime.add_instance(instance.index, carpdev.index, instance.plan, device, lock)
            self.instances.add(instance)
            undo.pop_all()
        if host is not asked:
            self.instances.report_own_mac(instance)
        if device.no_ipv6:
            self.instances.report_failure(instance, device.no_ipv6)
        return instance

    def _start(self, instance: Instance) -> None:
        if not instance.usable:
            self.runtime.link(instance.index, False)
        if instance.hindrance:
            self.instances.report_carpdev(instance)
        self.runtime.start_instance(instance.index)

    def _remove_all(self) -> None:
        with contextlib.suppress(CarpError):
            self.runtime.stop_all()
        instances = tuple(self.instances)
        restoring = _restoring(instances)
        for instance in instances:
            self._dismantle(instance, instance in restoring)
            self.instances.remove(instance)

    def _remove(self, instance: Instance) -> None:
        restore = instance in _restoring((instance,))
        self.instances.remove(instance)
        self._dismantle(instance, restore)
        self.instances.close_carpdev_if_unused(instance.carpdev.index)

    def _dismantle(self, instance: Instance, restore: bool) -> None:
        """Have the guardian remove the device: it may do so even where this program has given up root."""
        try:
            try:
                untouched = not restore or instance.device.untouched(read_interfaces())
                self.runtime.remove_instance(instance.index, restore and untouched)
                if not untouched:
                    instance.device.restore_rest()
                instance.device.forget()
            except EngineError:
                instance.device.teardown()
        except OSError as error:
            what = f"{instance.host.name} could not be removed: {error.strerror}"
            self.instances.report_failure(instance, what)
        instance.lock.close()

    def _reconfigure(self, hosts: tuple[VirtualHost, ...]) -> None:
        chosen = _choose(hosts, read_interfaces())
        self.runtime.expect(host.vhid for host, _carpdev in chosen)
        before = {instance.host.name: instance for instance in self.instances}
        changed: list[tuple[Instance, VirtualHost]] = []
        new: list[tuple[VirtualHost, Interface]] = []
        for host, carpdev in chosen:
            instance = before.get(host.name)
            if instance is not None and instance.present and _same_place(instance, host, carpdev):
                changed.append((before.pop(host.name), host))
            else:
                new.append((host, carpdev))
        for instance in before.values():
            self._remove(instance)
        for instance, host in changed:
            self._change(instance, host)
        inventory = Inventory()
        for host, carpdev in new:
            self._start(self._add(host, carpdev, inventory))

    def _change(self, instance: Instance, host: VirtualHost) -> None:
        instance.host = host = settings.fitted(host, instance.carpdev)
        instance.plan = plan_on(instance.carpdev, host, instance.plan)
        instance.device.change(host)
        self.runtime.replan(instance.index, instance.plan, instance.device)
        if instance.stopped_until is not None:
            instance.stopped_until = time.monotonic()


def _choose(hosts: Iterable[VirtualHost], interfaces: tuple[Interface, ...]) -> list[tuple[VirtualHost, Interface]]:
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


def _same_place(instance: Instance, host: VirtualHost, carpdev: Interface) -> bool:
    host = settings.fitted(host, carpdev)
    return (instance.host.vhid, instance.host.mac, instance.carpdev.index) == (host.vhid, host.mac, carpdev.index)


def _restoring(going: tuple[Instance, ...]) -> list[Instance]:
    """Those of the `going` that give their carpdev its settings back: the last on each that no other host needs."""
    last = {instance.carpdev.index: instance for instance in going}
    return [
        instance
        for index, instance in last.items()
        if not others_held(index, [one.host.vhid for one in going if one.carpdev.index == index])
    ]


def _program_has_ended() -> bool:
    """Whether only engines keep the interpreter from its end: then nothing else stops this one."""
    main = threading.main_thread()
    if main.is_alive():
        return False
    others = (thread for thread in threading.enumerate() if thread is not main and not thread.daemon)
    return all(thread.name == _THREAD_NAME for thread in others)
