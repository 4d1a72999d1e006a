"""What a crashed run left on this machine, and how it is told from what a running one needs."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ..errors import InterfaceError
from . import lock, messages, netlink, settings
from .interfaces import OWN_PROTOCOL, Interface, Mark, is_per_link, read_interfaces
from .messages import Address
from .same_link import interfaces_beside

if TYPE_CHECKING:
    from .device import Device

RULE_PRIORITY = 11200
"""Before the rules of the main table (32766), with room for an administrator's on both sides."""
_TABLE_MARK, _TABLE_INDEX = 0x70, 0xFFFFF
_FRA_SRC, _FRA_TABLE, _FRA_PROTOCOL = 2, 15, 21


def table_of(index: int, vhid: int) -> int:
    """The routing table of a virtual host on the carpdev of that index: no other program uses this number."""
    return _TABLE_MARK << 24 | (index & _TABLE_INDEX) << 8 | vhid & 0xFF


class Inventory:
    """The machine as it was found, for devices that are set up one after the other: each reads what the last one left.

    `interfaces`, and `rules`: those of our protocol as (source, table). Each lock is asked for once. The `running`
    devices are the caller's own: their names, addresses and rules are in nobody's way and stay.
    """

    def __init__(self, running: Iterable[Device] = ()) -> None:
        self._running = {(one.carpdev.index, one.host.vhid): one for one in running}
        self.interfaces = read_interfaces()
        self.rules: list[tuple[Address, int]] = []
        self._beside: dict[int, list[int]] = {}
        self._held = functools.cache(lock.held)
        with netlink.RouteSocket() as route:
            for family in (socket.AF_INET, socket.AF_INET6):
                with contextlib.suppress(OSError):  # a kernel without IPv6, or without rules
                    for payload in route.dump(netlink.RTM_GETRULE, family):
                        self._note_rule(netlink.attributes(payload, netlink.ROUTE.size))

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
            if mark is not None and not self._lives(device, mark.index, mark.vhid):
                dead.append((interface, mark))
            else:
                left.append(interface)
                if mark is None or (mark.index, mark.vhid) not in self._running:
                    _refuse_taken(device, interface, own)
        stray = [
            (source, table)
            for source, table in self.rules
            if not self._lives(device, table >> 8 & _TABLE_INDEX, table & 0xFF)
        ]
        requests = [messages.delete_link(interface.index) for interface, _mark in dead]
        requests += [
            messages.bridge_fdb(mark.index, one.mac, False) for one, mark in dead if self._is_bridge(mark.index)
        ]
        changed = {mark.index: mark.before for _interface, mark in dead} | self._records(device)
        there = {one.index: one for one in left}
        requests += self._stray_addresses(device, own)
        requests += [messages.delete_rule(source, table, OWN_PROTOCOL, RULE_PRIORITY) for source, table in stray]
        self.interfaces = tuple(left)
        self.rules = [one for one in self.rules if one not in stray]
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
        alone = bool(ours) and not any(self._lives(device, index, vhid) for vhid in range(1, 256))
        return [messages.delete_address(index, one) for one in ours if one.ip in own or alone]

    def _lives(self, device: Device, index: int, vhid: int) -> bool:
        """Whether a lock guards this virtual host, and it is not the device's own; the `running` live, too."""
        if (index, vhid) == (device.carpdev.index, device.host.vhid):
            return (index, vhid) in self._running
        return self._held(index, vhid)

    def _note_rule(self, found: dict[int, bytes]) -> None:
        if found.get(_FRA_PROTOCOL) != bytes((OWN_PROTOCOL,)) or _FRA_SRC not in found:
            return
        table = int(netlink.WORD.unpack(found[_FRA_TABLE])[0])
        if table >> 24 == _TABLE_MARK:
            self.rules.append((ip_address(found[_FRA_SRC]), table))


def _refuse_taken(device: Device, interface: Interface, own: set[Address]) -> None:
    mark = interface.mark
    if interface.name == device.name and device.host.mac == "virtual":
        whose = "not ours" if mark is None else f"that of vhid {mark.vhid} on {mark.carpdev}"
        raise InterfaceError(
            f"there is an interface {interface.name} already, and it is {whose}: remove it or give another name"
        )
    if mark is None:
        return
    for one in interface.addresses:
        elsewhere = is_per_link(one.interface.ip) and mark.index != device.carpdev.index
        if one.interface.ip in own and not elsewhere:
            raise InterfaceError(
                f"{one.interface.ip} is already on {interface.name}, vhid {mark.vhid}: give another address"
            )
