"""What a crashed run left on this machine, and how it is told from what a running one needs."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING

from ..errors import InterfaceError
from . import fib, gate, lock, messages, settings
from .fib import Route, Rule, Snapshot
from .interfaces import OWN_PROTOCOL, Interface, Mark, is_per_link, read_interfaces
from .messages import Address
from .routes import is_own_table, tables_like, tables_of, turn_of
from .same_link import interfaces_beside

if TYPE_CHECKING:
    from .device import Device


class Inventory:
    """The machine as it was found, for devices that are set up one after the other: each reads what the last one left.

    `snapshot` has rules and routes, `rules` and `routes` those of our protocol, the routes with their tables. Each lock
    is asked for once. The `running` devices are the caller's own: their names, addresses and rules are in nobody's way
    and stay.
    """

    def __init__(self, running: Iterable[Device] = ()) -> None:
        self._running = {(one.carpdev.index, one.host.vhid): one for one in running}
        self.interfaces = read_interfaces()
        self._beside: dict[int, list[int]] = {}
        self.snapshot = Snapshot()
        self._held = functools.cache(lock.held)
        self._gates: list[gate.Owner] = []
        with contextlib.suppress(OSError), gate.FilterSocket() as filters:  # a kernel without nf_tables
            self._gates = filters.tables()
        self.rules: list[Rule] = []
        self.routes: list[tuple[int, Route]] = []
        with contextlib.suppress(OSError):  # a kernel without rules has left none
            rules = (one for family in fib.FAMILIES for one in self.snapshot.rules(family))
            self.rules = [one for one in rules if one.protocol == OWN_PROTOCOL]
            self.routes = list(fib.read_own_routes())

    def tables(self, device: Device) -> int:
        """The first table for a device: not those of a running one of the same carpdev and vhid.

        Raises `InterfaceError` where another virtual host has them: see `tables_of`.
        """
        own = device.carpdev.index, device.host.vhid
        for other in self._owners.get(tables_of(*own), ()):
            if other != own and self._lives(device, *other):
                name = device.host.name
                raise InterfaceError(
                    f"{name} cannot have routing tables of its own: vhid {other[1]} on interface {other[0]} has "
                    f"the same numbers; give {name} another vhid"
                )
        running = self._running.get((device.carpdev.index, device.host.vhid))
        return tables_of(device.carpdev.index, device.host.vhid, running is not None and not turn_of(running.tables))

    def removal(self, device: Device) -> tuple[list[bytes], list[tuple[Interface, Mapping[str, int]]]]:
        """Take what dead virtual hosts left off the inventory, for a device whose lock the caller has.

        Dead is what bears our mark and has either this device's vhid and carpdev, or no lock. Returns the requests that
        remove it, and the interfaces whose settings it had changed: (index, settings before). Raises `InterfaceError`
        where the device's name or one of its addresses is another's.
        """
        own = {one.ip for one in device.host.addresses}
        dead: list[tuple[Interface, Mark]] = []
        left: list[Interface] = []
        for interface in self.interfaces:
            mark = interface.mark
            running = None if mark is None else self._running.get((mark.index, mark.vhid))
            # A device of a running virtual host that is not the one it has now could not be removed before.
            stale = running is not None and running.index != interface.index
            if mark is not None and (stale or not self._lives(device, mark.index, mark.vhid)):
                dead.append((interface, mark))
            else:
                left.append(interface)
                if running is None:
                    _refuse_taken(device, interface, own)
        requests = [messages.delete_link(interface.index) for interface, _mark in dead]
        requests += [
            messages.bridge_fdb(mark.index, one.mac, False) for one, mark in dead if self._is_bridge(mark.index)
        ]
        changed = {mark.index: mark.before for _interface, mark in dead} | self._records(device)
        there = {one.index: one for one in left}
        requests += self._stray_addresses(device, own)
        requests += self._stray_ways(device)
        self.interfaces = tuple(left)
        return requests, [(there[index], before) for index, before in changed.items() if index in there]

    def beside(self, carpdev: Interface) -> tuple[Interface, ...]:
        """The other interfaces on the carpdev's link that answer for any address, as they are now. It asks once."""
        if carpdev.index not in self._beside:
            self._beside[carpdev.index] = [one.index for one in interfaces_beside(carpdev, self.interfaces)]
        return tuple(one for one in self.interfaces if one.index in self._beside[carpdev.index])

    def replace(self, interface: Interface) -> None:
        """It is now so."""
        self.interfaces = tuple(interface if one.index == interface.index else one for one in self.interfaces)

    def _is_bridge(self, index: int) -> bool:
        found = self.carpdev(index)
        return found is not None and found.kind == "bridge"

    def _records(self, device: Device) -> dict[int, Mapping[str, int]]:
        """The interfaces whose settings were changed for a carpdev that has no live virtual host: a macvlan that
        would tell may have been removed by hand."""
        found = [(one.index, settings.recorded(one)) for one in self.interfaces]
        return {
            index: record[1]
            for index, record in found
            if record is not None and not any(self._lives(device, record[0], vhid) for vhid in range(1, 256))
        }

    def dead_gates(self, device: Device) -> list[gate.Owner]:
        """Take the gates of dead virtual hosts off the inventory."""
        living = [one for one in self._gates if one[:2] in self._running or self._lives(device, *one[:2])]
        dead = [one for one in self._gates if one not in living]
        self._gates = living
        return dead

    def refuse_name(self, name: str) -> None:
        """Raises `InterfaceError` where another than the `running` devices has this name."""
        own = {one.index for one in self._running.values()}
        for interface in self.interfaces:
            if interface.name == name and interface.index not in own:
                raise _name_taken(interface)

    def carpdev(self, index: int) -> Interface | None:
        return next((one for one in self.interfaces if one.index == index), None)

    def _stray_addresses(self, device: Device, own: set[Address]) -> list[bytes]:
        """Requests against addresses on the carpdev itself that bear our protocol but are of no live virtual host."""
        index = device.carpdev.index
        found = self.carpdev(index)
        running = {ip.ip for one in self._running.values() if one.index == index for ip in one.host.addresses}
        there = found.addresses if found is not None else ()
        ours = [one.interface for one in there if one.ours and one.interface.ip not in running]
        # Such an address does not say whose it is. With other virtual hosts on this carpdev, only our own is surely
        # stray.
        alone = bool(ours) and self._alone(device)
        return [messages.delete_address(index, one) for one in ours if one.ip in own or alone]

    def _stray_ways(self, device: Device) -> list[bytes]:
        """Requests against rules and routes of dead virtual hosts, and of this one."""
        there = {table for table, _route in self.routes} | {one.table for one in self.rules}
        living = {table for table in there if is_own_table(table) and self._is_living(device, table)}
        # A rule that looks up another's table has no number of ours: another rule for its source has.
        sources = {one.source for one in self.rules if one.table in living}
        rules = [
            one
            for one in self.rules
            if (one.table not in living if is_own_table(one.table) else one.source not in sources)
        ]
        routes = [
            (table, one)
            for table, one in self.routes
            if (table not in living if is_own_table(table) else self._is_stray_subnet(device, table, one))
        ]
        stray = {*rules, *routes}
        self.rules = [one for one in self.rules if one not in stray]
        self.routes = [one for one in self.routes if one not in stray]
        return [one.delete() for one in rules] + [one.delete(table) for table, one in routes]

    def _is_living(self, device: Device, table: int) -> bool:
        return any(self._lives(device, *owner) for owner in self._owners.get(tables_like(table), ()))

    @functools.cached_property
    def _owners(self) -> dict[int, list[tuple[int, int]]]:
        """Which (carpdev, vhid) have which tables: usually one."""
        found: dict[int, list[tuple[int, int]]] = {}
        for index in [one.index for one in self.interfaces if one.ethernet and not one.ours]:
            for vhid in range(256):
                found.setdefault(tables_of(index, vhid), []).append((index, vhid))
        return found

    def _is_stray_subnet(self, device: Device, table: int, route: Route) -> bool:
        """A subnet's route of ours does not say whose it is. It goes with its device; one on the carpdev stays."""
        running = (one.host.addresses for one in self._running.values())
        if table != fib.MAIN or not route.uses(device.carpdev.index) or _is_for(route, itertools.chain(*running)):
            return False
        return _is_for(route, device.host.addresses) or self._alone(device)

    def _alone(self, device: Device) -> bool:
        """Whether no other virtual host is on this carpdev."""
        return not any(self._lives(device, device.carpdev.index, vhid) for vhid in range(1, 256))

    def _lives(self, device: Device, index: int, vhid: int) -> bool:
        """Whether a lock guards this virtual host, and it is not the device's own; the `running` live, too."""
        if (index, vhid) == (device.carpdev.index, device.host.vhid):
            return (index, vhid) in self._running
        return self._held(index, vhid)


def _is_for(route: Route, addresses: Iterable[IPv4Interface | IPv6Interface]) -> bool:
    return any(route.network == one.network for one in addresses)


def _name_taken(interface: Interface) -> InterfaceError:
    mark = interface.mark
    whose = "not ours" if mark is None else f"that of vhid {mark.vhid} on {mark.carpdev}"
    return InterfaceError(
        f"there is an interface {interface.name} already, and it is {whose}: remove it or give another name"
    )


def _refuse_taken(device: Device, interface: Interface, own: set[Address]) -> None:
    mark = interface.mark
    if interface.name == device.name and device.host.mac == "virtual":
        raise _name_taken(interface)
    if mark is None:
        return
    for one in interface.addresses:
        elsewhere = is_per_link(one.interface.ip) and mark.index != device.carpdev.index
        if one.interface.ip in own and not elsewhere:
            raise InterfaceError(
                f"{one.interface.ip} is already on {interface.name}, vhid {mark.vhid}: give another address"
            )
