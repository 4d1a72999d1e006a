"""What a virtual host has on this machine: device, rules, settings, and the requests that take and drop its addresses.

With the virtual MAC (the default) the addresses are on a macvlan of their own, which exists from setup to teardown and
is up only while they are here. With the interface's MAC they are on the carpdev itself.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from ..config import VirtualHost
from ..errors import CapabilityError, InterfaceError
from ..protocol.frames import virtual_mac
from . import lock, messages, netlink, settings
from .interfaces import OWN_PROTOCOL, Gateway, Interface, Mark, mark_on, parse_gateway, read_interfaces
from .leftovers import RULE_PRIORITY, Inventory, table_of
from .messages import Address, Network

GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT})
"""What the kernel answers when something that is to be removed is not there."""

_ROUTES = 64
"""This many routes of the carpdev are copied, the widest first."""


class Device:
    """One virtual host on its carpdev. `take`, `renew` and `drop` are batches of netlink requests, ready to send.

    `late` follows a take when that is answered: it may be long, and no request of it is needed for the first answer.

    The last `essential` requests of `take` decide whether it succeeded: without a route of ours, answers still leave
    by the host's own. `mute` is the part of `drop` that is quick: where several virtual hosts drop at once, it goes out
    for all of them first, so that none waits for the links of the others.

    `remove` and `restore` are what `teardown` does after the drop. The guardian does it where this process may no
    longer do it: `remove` takes the device and its rules away, `restore` gives the carpdev its settings back, which
    only the last virtual host on it may ask for. Both are empty where nothing was made.

    `no_ipv6` says in one sentence why the device cannot have IPv6; then it takes IPv4 addresses alone.

    `index` is the interface that carries the addresses: the macvlan called `name`, or the carpdev. The caller has the
    `VirtualHostLock`: that is how leftovers of a crashed run are told from the devices of a running one.
    """

    def __init__(self, host: VirtualHost, carpdev: Interface) -> None:
        self.host = host
        self.carpdev = carpdev
        self.name = host.name if host.mac == "virtual" else carpdev.name
        self.index = 0
        self.take = self.late = self.renew = self.drop = self.remove = self.restore = b""
        self.mute: tuple[bytes, ...] = ()
        self.essential = 0
        self.no_ipv6 = ""
        self._changed: list[tuple[Interface, Mapping[str, int]]] = []
        self._with_subnet = False
        self.table = table_of(carpdev.index, host.vhid)

    @property
    def mac(self) -> bytes:
        """The MAC that answers for the addresses: 00:00:5e:00:01:VHID, in both families."""
        return virtual_mac(self.host.vhid) if self.host.mac == "virtual" else self.carpdev.mac

    @property
    def holdable(self) -> set[Address]:
        """The addresses that the device can have."""
        return {one.ip for one in self.host.addresses if one.version == 4 or not self.no_ipv6}

    def setup(self, inventory: Inventory | None = None) -> None:
        """Make everything but the addresses, after removing what a crashed run left.

        An `inventory` spares reading the machine, and is brought up to date; after an error it is of no use. Raises
        `InterfaceError` (the name is taken, the carpdev is gone or cannot carry a macvlan) or `CapabilityError`; then
        nothing is left behind.
        """
        try:
            with netlink.RouteSocket() as route:
                inventory = inventory or Inventory()
                self._clean(route, inventory)
                beside = inventory.beside(self.carpdev)
                if self.host.mac == "virtual":
                    self._create(route, inventory)
                    self._set_rules(route, (one.ip for one in self.host.addresses))
                else:
                    self.index = self.carpdev.index
                for interface in beside:
                    self._change(route, inventory, interface, settings.of_beside(interface))
            self.refresh(self.carpdev)
            if self.no_ipv6 and not self.holdable:
                raise InterfaceError(self.no_ipv6)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self.teardown()
            if isinstance(error, PermissionError) and not isinstance(error, CapabilityError):
                raise CapabilityError(f"{self.host.name} cannot be made: {error}; it needs CAP_NET_ADMIN") from error
            raise

    def refresh(self, carpdev: Interface) -> None:
        """Build the requests anew: the carpdev's addresses, its gateways, or the virtual host's addresses changed."""
        self.carpdev = carpdev
        if self.host.mac == "virtual":
            self.no_ipv6 = settings.set_ipv6(self.name, carpdev, 6 in self.host.families)
        addresses = [self._placed(one) for one in self.host.addresses]
        add = [self._add(one) for one in addresses if one.ip in self.holdable]
        delete = {one: messages.delete_address(self.index, one) for one in addresses}
        silent = [request for one, request in delete.items() if one.version == 4]
        if self._on_bridge:
            # Before another host has the address, or the bridge would keep that host's frames from its guests.
            silent.insert(0, messages.bridge_fdb(carpdev.index, self.mac, False))
        self.renew = netlink.batch(*add)
        self.mute = tuple(silent)
        self.essential = len(add)
        self.remove = netlink.batch(*self._removal())
        back = [settings.give_back_later(interface, before) for interface, before in self._changed]
        self.restore = netlink.batch(*itertools.chain(*back))
        if self.host.mac == "interface":
            self.take, self.drop = self.renew, netlink.batch(*delete.values())
            return
        # While the link is down the addresses are mute, and taking it down needs milliseconds of the kernel. IPv4
        # addresses go first: that sends nothing. IPv6 addresses go last: removed from a link that is up, they send
        # multicast reports from the virtual MAC.
        up = messages.link_state(self.index, True)
        self.essential += 1
        self.take = netlink.batch(
            *self._place(),
            # The routes come before the addresses, or the first answers would leave by the carpdev with its MAC.
            up,
            *self._routes(),
            # They are there since setup, unless another program removed them, as systemd-networkd does.
            *(self._rule(messages.add_rule, one.ip) for one in addresses),
            *add,
            # Once more, for its outcome to stand among the essential ones; the kernel has nothing to do.
            up,
        )
        others = [request for one, request in delete.items() if one.version == 6]
        self.drop = netlink.batch(*silent, messages.link_state(self.index, False), *others)

    @property
    def _on_bridge(self) -> bool:
        return self.host.mac == "virtual" and self.carpdev.kind == "bridge"

    def _place(self) -> list[bytes]:
        """Make the macvlan as the carpdev is now. Other programs change it: udev runs sysctl for a new interface, FRR
        sets protodown on one with a VRRP MAC, and the kernel makes its MTU smaller with the carpdev's, never larger."""
        requests = [
            messages.lift_protodown(self.index),
            messages.set_mtu(self.index, self.carpdev.mtu),
            messages.set_group(self.index, self.carpdev.group),
            messages.ipv4_conf(self.index, settings.of_macvlan(self.carpdev)),
        ]
        if 6 in self.host.families:
            requests.append(messages.no_link_local(self.index))
        if self._on_bridge:
            # Without it the bridge, which learns only from what comes in by a port, floods every port.
            requests.append(messages.bridge_fdb(self.carpdev.index, self.mac, True))
        return requests

    def revive_ipv6(self, carpdev: Interface) -> None:
        """Give the macvlan IPv6 again, which the kernel took from it while its MTU was below 1280.

        The link goes down first: the kernel would make a link-local address of the virtual MAC. A take is due after
        it, and a `refresh` before. Raises `OSError`.
        """
        with netlink.RouteSocket() as route:
            down = messages.link_state(self.index, False)
            route.request(down, messages.set_mtu(self.index, carpdev.mtu), messages.no_link_local(self.index))

    def change(self, host: VirtualHost) -> None:
        """Change to other addresses: the former ones leave the machine now, a `take` brings the new ones.

        Name, vhid and the kind of MAC must be the same.
        """
        before = {one.ip: self._placed(one) for one in self.host.addresses}
        after = {one.ip for one in host.addresses}
        self.host = host
        with netlink.RouteSocket() as route:
            gone = before.keys() - after
            requests = [messages.delete_address(self.index, before[ip]) for ip in gone]
            if host.mac == "virtual":
                requests += [self._rule(messages.delete_rule, ip) for ip in gone]
                self._set_rules(route, after - before.keys())
            route.request(*requests, fine=GONE)
        self.refresh(self.carpdev)

    def teardown(self) -> None:
        """Remove everything and give the carpdev its settings back. May be called again; what is gone is fine.

        Raises the first other `OSError`, after trying all.
        """
        if not self.index and not self._changed:
            return
        changed, drop, removal = self._changed, self.drop, self._removal()
        self.forget()
        with netlink.RouteSocket() as route:
            outcome = route.execute(drop)
            outcome += route.execute(netlink.batch(*removal))
            outcome += self._restore(route, changed)
        netlink.raise_first(outcome, GONE)

    def forget(self) -> None:
        """The guardian has carried out `drop`, `remove`, and `restore` where it was due: nothing is left to undo."""
        self.index, self._changed = 0, []
        self.take = self.late = self.renew = self.drop = self.remove = self.restore = b""
        self.mute = ()

    def untouched(self, interfaces: Iterable[Interface]) -> bool:
        """Whether the settings that this device has changed are as it left them: then `restore` restores all."""
        now = {one.index: one.ipv4 for one in interfaces}
        return all(
            after.ipv4.get(name) == now[after.index].get(name)
            for after, before in self._changed
            if after.index in now
            for name in before
        )

    def restore_rest(self) -> None:
        """What `restore` is for, but for what an administrator has changed meanwhile. Raises `OSError`."""
        with netlink.RouteSocket() as route:
            netlink.raise_first(self._restore(route, self._changed), GONE)

    def _restore(
        self, route: netlink.RouteSocket, changed: Iterable[tuple[Interface, Mapping[str, int]]]
    ) -> list[OSError | None]:
        """Give interfaces their settings back, unless another virtual host still needs ours."""
        interfaces = {one.index: one for one in read_interfaces()}
        outcome: list[OSError | None] = []
        for after, before in changed:
            now = interfaces.get(after.index)
            carpdev = (settings.recorded(after) or (after.index, before))[0]
            if now is not None and not self._is_needed(carpdev, interfaces.values()):
                outcome += route.execute(netlink.batch(*settings.give_back(now, before)))
        return outcome

    def _is_needed(self, carpdev: int, interfaces: Iterable[Interface]) -> bool:
        """Whether another virtual host is on that carpdev."""
        return mark_on(carpdev, interfaces) is not None or lock.others_held(carpdev, (self.host.vhid,))

    def _placed(self, address: IPv4Interface | IPv6Interface) -> IPv4Interface | IPv6Interface:
        """An address as it stands on the device: alone, so that it brings no subnet."""
        return address if self._with_subnet and address.version == 4 else ip_interface(address.ip)

    def _removal(self) -> list[bytes]:
        if self.host.mac == "interface":
            return []
        requests = [messages.link_state(self.index, False), messages.delete_link(self.index)] if self.index else []
        return requests + [self._rule(messages.delete_rule, one.ip) for one in self.host.addresses]

    def _add(self, address: IPv4Interface | IPv6Interface) -> bytes:
        return messages.add_address(
            self.index,
            address,
            protocol=OWN_PROTOCOL,
            prefix_route=False,
            # On the carpdev the floating address must not become the source of the host's own connections.
            deprecated=self.host.mac == "interface" and address.version == 6,
        )

    def _clean(self, route: netlink.RouteSocket, inventory: Inventory) -> None:
        requests, changed = inventory.removal(self)
        route.request(*requests, fine=GONE)
        for interface, before in changed:
            self._restore(route, [(interface, before)])
        if changed:
            inventory.interfaces = read_interfaces()

    # Making the macvlan

    def _create(self, route: netlink.RouteSocket, inventory: Inventory) -> None:
        carpdev = inventory.carpdev(self.carpdev.index)
        if carpdev is None:
            raise InterfaceError(f"{self.carpdev.name} has gone: {self.host.name} has no interface to speak on")
        given = settings.of_carpdev(carpdev)
        before = settings.before_giving(carpdev, given, self._known(carpdev, inventory.interfaces))
        mark = Mark(self.host.vhid, carpdev.name, carpdev.index, before)
        self._with_subnet = settings.needs_subnet()
        added, *others = route.execute(
            netlink.batch(
                messages.add_macvlan(self.name, carpdev.index, self.mac),
                messages.set_alias(self.name, str(mark)),
                messages.no_link_local(self.name),
            )
        )
        if added is not None:
            raise self._refused(added)
        self.index = socket.if_nametoindex(self.name)
        inventory.interfaces += (Interface(self.index, self.name, self.mac, up=False, alias=str(mark)),)
        netlink.raise_first(others, () if 6 in self.host.families else (errno.EAFNOSUPPORT,))
        self.carpdev = self._change(route, inventory, carpdev, given)
        route.execute(netlink.batch(*self._place()))

    def _change(
        self, route: netlink.RouteSocket, inventory: Inventory, interface: Interface, given: Mapping[str, int]
    ) -> Interface:
        """Give an interface other settings, for as long as there are virtual hosts on the carpdev."""
        before = settings.before_giving(interface, given, self._known(interface, inventory.interfaces))
        requests, after = settings.give(interface, given, self.carpdev.index, before)
        self._changed.append((after, before))
        settings.request(route, requests)
        inventory.replace(after)
        return after

    @staticmethod
    def _known(carpdev: Interface, interfaces: Iterable[Interface]) -> Mapping[str, int]:
        """The carpdev's settings before an earlier virtual host changed them."""
        record = settings.recorded(carpdev)
        if record is not None:
            return record[1]
        mark = mark_on(carpdev.index, interfaces)
        return mark.before if mark is not None else {}

    def _refused(self, error: OSError) -> OSError:
        if isinstance(error, PermissionError):
            return error
        where = f"{self.host.name} cannot be put on {self.carpdev.name}"
        if error.errno == errno.EEXIST:
            return InterfaceError(f"there is an interface {self.name} already, and it is not ours: give another name")
        if error.errno == errno.EBUSY:
            return InterfaceError(f"{where}, a port of a bridge or a bond: name the bridge or bond as the carpdev")
        if error.errno == errno.EOPNOTSUPP:
            return InterfaceError(f'{where}: this kernel has no macvlan; mac="interface" does without')
        return InterfaceError(f"{where}: {error.strerror}")

    # Rules and routes

    def _rule(self, build: Callable[[Address, int, int, int], bytes], ip: Address) -> bytes:
        return build(ip, self.table, OWN_PROTOCOL, RULE_PRIORITY)

    def _set_rules(self, route: netlink.RouteSocket, addresses: Iterable[Address]) -> None:
        route.request(*(self._rule(messages.add_rule, ip) for ip in addresses), fine=(errno.EEXIST,))

    def _routes(self) -> list[bytes]:
        """The carpdev's routes, through the device instead: answers leave from the virtual MAC."""
        subnets: dict[Network, None] = {}
        for one in itertools.chain(self.carpdev.own_addresses, self.host.addresses):
            if one.version in self.host.families and one.network.prefixlen < one.max_prefixlen:
                subnets[one.network] = None
        requests = [messages.add_route(self.index, one, self.table, OWN_PROTOCOL) for one in subnets]
        for route in self._gateways()[:_ROUTES]:
            network, gateway = route.network, route.address
            # IPv6 compares "onlink" with the main table, where the gateway is on the carpdev, and refuses. But it finds
            # the gateway through the subnets above.
            near = any(gateway in subnet for subnet in subnets) or (gateway.version == 6 and gateway.is_link_local)
            onlink = gateway.version == 4 or not near
            requests.append(messages.add_route(self.index, network, self.table, OWN_PROTOCOL, gateway, onlink=onlink))
        return requests

    def _gateways(self) -> list[Gateway]:
        """The main table's routes that leave by the carpdev, the widest first."""
        found: list[Gateway | None] = []
        with netlink.RouteSocket() as route:
            for version in self.host.families:
                family = socket.AF_INET if version == 4 else socket.AF_INET6
                found += map(parse_gateway, route.dump(netlink.RTM_GETROUTE, family))
        gateways = [one for one in found if one is not None and one.index == self.carpdev.index]
        return sorted(gateways, key=lambda one: one.network.prefixlen)
