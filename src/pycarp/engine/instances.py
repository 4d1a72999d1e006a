"""The instances of an engine and the carpdevs that are open for them: what `supervisor` and `reconcile` share.

Thread: supervisor; `find` and iteration: any caller
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import _impl
from .._records import dataclass, field
from .._unpatched import time
from ..config import Address, VirtualHost
from ..events import CarpdevChanged, CarpdevMacUsed, ChangedByOthers, Event, Failed, GateUnavailable, Waiting
from ..linux import settings
from ..linux.device import Device
from ..linux.interfaces import Interface, source_address, usable_addresses
from ..linux.lock import VirtualHostLock
from ..linux.sockets import Sockets, join_groups, receive_socket, send_socket
from ..protocol.abc import IPAddress, Runtime
from . import change
from .arguments import chosen
from .backoff import Backoff
from .conflict import Conflicts, Silence
from .plan import Plan, make_plan

_ORDERS_DONE = 0.5
"""Seconds in which the guardian has carried out what was ordered before, with room to spare."""


@dataclass(slots=True, eq=False)
class Instance:
    """One virtual host at run time. `index` is its number in the runtime. Times are seconds of time.monotonic().

    `present` says whether its carpdev is there: without one, the device does not exist and the plan is of no use.
    `lost`: the carpdev was deleted, even where another one has its index now.
    `missing` says what it waits for then; `sought_at` is when it is looked for again after a failure.
    `hindrance` says why the carpdev cannot be used although it is up; empty where it can.
    `misplaced` says since when its addresses are not where its state wants them, and whether that state was MASTER.
    `loss_noticed`: the kernel told of a lost address, or of the link going down, since all was well. `outdated`: the
    last change of its carpdev could not be taken up. `stopped_until`: its back-off ends then. `leaving` are addresses
    that a reconfiguration took from it: what removes each, and until when an order under way may bring it back.
    """

    index: int
    host: VirtualHost
    carpdev: Interface
    lock: VirtualHostLock | None
    device: Device
    plan: Plan
    present: bool = True
    lost: bool = False
    missing: str = ""
    sought_at: float = 0.0
    hindrance: str = ""
    misplaced: tuple[float, bool] | None = None
    loss_noticed: bool = False
    outdated: bool = False
    stopped_until: float | None = None
    leaving: dict[Address, tuple[bytes, float]] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    silence: Silence | None = None

    def __post_init__(self) -> None:
        self.hindrance = settings.hindrance(self.host, self.carpdev)

    @property
    def usable(self) -> bool:
        """Whether the carpdev can carry the virtual host's traffic now."""
        return self.carpdev.up and self.carpdev.running and not self.hindrance


class Instances:
    """All instances of one engine, in the order in which they were added."""

    def __init__(
        self, runtime: Runtime, conflicts: Conflicts, emit: Callable[[Event], None], obey_adverts: bool
    ) -> None:
        self.runtime = runtime
        self._conflicts = conflicts
        self._emit = emit
        self._obey_adverts = obey_adverts
        self._instances: dict[int, Instance] = {}
        self._carpdevs: set[int] = set()
        self._no_gate_reported = False

    def __iter__(self) -> Iterator[Instance]:
        return iter(tuple(self._instances.values()))

    def find(self, which: int | str) -> Instance:
        """The one with this vhid or name. Raises `EngineError` where none or several have it."""
        return chosen(self, which)

    def leave(self, instance: Instance, device: Device, addresses: Iterable[Address]) -> None:
        """The survey removes these addresses of a device, which are no longer its own."""
        until = time.monotonic() + _ORDERS_DONE
        instance.leaving |= {one: (device.parting((one,)), until) for one in addresses}

    def add(self, instance: Instance) -> None:
        self._instances[instance.index] = instance

    def remove(self, instance: Instance) -> None:
        del self._instances[instance.index]

    def open_carpdev(self, carpdev: Interface) -> None:
        """Open its sockets and hand them to the runtime, unless that is done already."""
        if carpdev.index in self._carpdevs:
            return
        with contextlib.ExitStack() as undo:
            receive = undo.enter_context(receive_socket(carpdev.index))
            send = undo.enter_context(send_socket(carpdev.index))
            memberships = tuple(undo.enter_context(one) for one in join_groups(carpdev.index, (4, 6)))
            sockets = Sockets(receive, send, memberships)
            self.runtime.add_carpdev(carpdev.index, sockets, carpdev.mac, addresses_of(carpdev), self._obey_adverts)
            undo.callback(self.runtime.remove_carpdev, carpdev.index)
            self._conflicts.attach(carpdev.index)
            undo.pop_all()
        self._carpdevs.add(carpdev.index)

    def close_carpdev_if_unused(self, index: int) -> None:
        used = any(instance.carpdev.index == index and instance.present for instance in self)
        if index in self._carpdevs and not used:
            self._carpdevs.discard(index)
            self._conflicts.detach(index)
            self.runtime.remove_carpdev(index)

    def report_carpdev(self, instance: Instance) -> None:
        carpdev = instance.carpdev
        why = instance.hindrance if instance.present and carpdev.up and carpdev.running else ""
        values = {"carpdev": carpdev.name, "present": instance.present, "up": instance.usable, "why": why}
        self._report(instance, CarpdevChanged, **values)

    def report_own_mac(self, instance: Instance) -> None:
        carpdev = instance.carpdev
        self._report(instance, CarpdevMacUsed, carpdev=carpdev.name, driver=carpdev.kind)

    def report_change(self, instance: Instance, what: str) -> None:
        self._report(instance, ChangedByOthers, what=what)

    def report_changed_digest(self, former: Plan, host: VirtualHost) -> None:
        for event in change.of_reload(former.host, host, former.authenticator, time.monotonic_ns()):
            self._emit(event)

    def report_digest(self, instance: Instance) -> None:
        for event in change.of_start(instance.host, instance.plan.authenticator, time.monotonic_ns()):
            self._emit(event)

    def report_waiting(self, instance: Instance, missing: str) -> None:
        """Once for each thing that is missing: which interfaces there are instead may change all the time."""
        told = instance.missing.partition(";")[0]
        instance.missing = missing
        if told != missing.partition(";")[0]:
            self._report(instance, Waiting, what=missing)

    def report_failure(self, instance: Instance, what: str) -> None:
        self._report(instance, Failed, what=what)

    def report_no_gate(self, device: Device) -> None:
        """Once, where this machine makes no gates."""
        if device.gate is None and not self._no_gate_reported:
            self._no_gate_reported = True
            self._emit(GateUnavailable(vhid=0, name="", at=time.monotonic_ns(), why=device.no_gate))

    def _report(self, instance: Instance, kind: type[Event], **values: Any) -> None:
        self._emit(kind(vhid=instance.host.vhid, name=instance.host.name, at=time.monotonic_ns(), **values))


def addresses_of(interface: Interface) -> tuple[Address, ...]:
    return tuple(address.interface for address in interface.addresses)


def plan_on(carpdev: Interface, host: VirtualHost, former: Plan | None = None) -> Plan:
    """The plan of a virtual host on this carpdev; `former` is the one that it replaces."""
    floating = frozenset(address.ip for address in host.addresses)
    sources: dict[int, IPAddress] = {}
    for family in host.families:
        address = source_address(carpdev, family, floating)
        if address is not None:
            sources[family] = address
    own = [one.interface for one in usable_addresses(carpdev, floating)] if host.peers or host.groups else ()
    return make_plan(_impl.current, host, carpdev.mac, sources, former, bool(carpdev.forwarding6), own)
