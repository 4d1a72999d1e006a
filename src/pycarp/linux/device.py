"""The place of a virtual host on this machine: device, rules, settings, and the requests that move its addresses.

With the virtual MAC (the default) the addresses live on a macvlan of their own that exists from setup to teardown and
is up only while they are here. With the interface's MAC they live on the carpdev itself.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

from ..config import VirtualHost
from ..errors import CapabilityError, InterfaceError
from . import lock, messages, netlink, sysctl
from .interfaces import OWN_PROTOCOL, Address, Interface, Mark, read_interfaces
from .messages import Network
from .watch import ROUTE_PROTOCOLS

__all__ = ["OWN_PROTOCOL", "Device"]

GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT})
"""What the kernel answers when something that is to be removed is not there."""

_PRIORITY = 11200
"""Of the rules: before those of the main table (32766), with room for an administrator's on both sides."""
_TABLE_MARK, _TABLE_INDEX = 0x70, 0xFFFFF
_ROUTES = 64
"""So many routes of the carpdev are copied, the widest first."""
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_FRA_SRC, _FRA_TABLE, _FRA_PROTOCOL = 2, 15, 21
_RTN_UNICAST, _RTM_F_CLONED = 1, 0x200


class Scene:
    """The machine as it was found, for devices that are set up one after the other: each reads what the last one left.

    `interfaces`, and the `rules` that bear our protocol as (source, table); `lives` asks for each lock once.
    """

    def __init__(self) -> None:
        self.interfaces = read_interfaces()
        self.rules: list[tuple[Address, int]] = []
        self._alive: dict[tuple[int, int], bool] = {}
        with netlink.RouteSocket() as route:
            for family in (socket.AF_INET, socket.AF_INET6):
                with contextlib.suppress(OSError):  # a kernel without IPv6, or without rules
                    for _kind, payload in route.dump(netlink.dump_request(netlink.RTM_GETRULE, family)):
                        self._note_rule(netlink.attributes(payload, netlink.ROUTE.size))

    def lives(self, index: int, vhid: int) -> bool:
        """Whether somebody's lock guards this virtual host."""
        if (index, vhid) not in self._alive:
            self._alive[index, vhid] = lock.held(index, vhid)
        return self._alive[index, vhid]

    def _note_rule(self, found: dict[int, bytes]) -> None:
        if found.get(_FRA_PROTOCOL) != bytes((OWN_PROTOCOL,)) or _FRA_SRC not in found:
            return
        table = int(netlink.WORD.unpack(found[_FRA_TABLE])[0])
        if table >> 24 == _TABLE_MARK:
            self.rules.append((ip_address(found[_FRA_SRC]), table))


class Device:
    """One virtual host on its carpdev. `take`, `renew` and `drop` are batches of netlink requests, ready to send.

    The last `essential` requests of `take` decide whether it succeeded: without a route of ours, answers still leave
    by the host's own. `mute` is that part of `drop` which is quick: where several virtual hosts drop at once, it goes
    out for all of them first, so that none waits for the links of the others.

    `remove` and `restore` are what `teardown` does after the drop, for whoever may still do it when this process may
    no more: `remove` takes the device and its rules away, `restore` gives the carpdev its settings back, which only
    the last virtual host on it may ask for. Both are empty where nothing was made.

    `index` is the interface that carries the addresses: the macvlan called `name`, or the carpdev. `lifetime` is the
    seconds after which the kernel removes taken addresses unless they are renewed; None is never. The caller holds the
    `VirtualHostLock`: that is how leftovers of a crashed run are told from the devices of a running one.
    """

    def __init__(self, host: VirtualHost, carpdev: Interface, lifetime: int | None = None) -> None:
        self.host = host
        self.carpdev = carpdev
        self.lifetime = lifetime
        self.name = host.name if host.mac == "virtual" else carpdev.name
        self.index = 0
        self.take = self.renew = self.drop = self.remove = self.restore = b""
        self.mute: tuple[bytes, ...] = ()
        self.essential = 0
        self._mark: Mark | None = None

    @property
    def mac(self) -> bytes:
        """The MAC that answers for the addresses: 00:00:5e:00:01:VHID, in both families."""
        return bytes((0, 0, 0x5E, 0, 1, self.host.vhid)) if self.host.mac == "virtual" else self.carpdev.mac

    @property
    def table(self) -> int:
        """The routing table of the addresses; the numbers of carpdev and virtual host make it nobody else's."""
        return _TABLE_MARK << 24 | (self.carpdev.index & _TABLE_INDEX) << 8 | self.host.vhid & 0xFF

    def setup(self, scene: Scene | None = None) -> None:
        """Make everything but the addresses, after removing what a crashed run left.

        A `scene` is used instead of looking at the machine, and brought up to date. After an error it is of no more
        use. Raises `InterfaceError` (the name is taken, the carpdev is gone or cannot carry a macvlan) or
        `CapabilityError`; then nothing is left behind.
        """
        try:
            with netlink.RouteSocket() as route:
                scene = scene or Scene()
                self._clean(route, scene)
                if self.host.mac == "virtual":
                    self._create(route, scene)
                    self._set_rules(route, (one.ip for one in self.host.addresses))
                else:
                    self.index = self.carpdev.index
            self.refresh(self.carpdev)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self.teardown()
            if isinstance(error, PermissionError) and not isinstance(error, CapabilityError):
                raise CapabilityError(f"{self.host.name} cannot be made: {error}; it needs CAP_NET_ADMIN") from error
            raise

    def refresh(self, carpdev: Interface) -> None:
        """Build the requests anew: the carpdev's addresses, its gateways, or the virtual host's addresses changed."""
        self.carpdev = carpdev
        addresses = [ip_interface(one.ip) for one in self.host.addresses]
        add = [self._add(one) for one in addresses]
        delete = {one: messages.delete_address(self.index, one) for one in addresses}
        silent = [request for one, request in delete.items() if one.version == 4]
        self.renew = netlink.batch(*add)
        self.mute = tuple(silent)
        self.essential = len(add)
        self.remove = netlink.batch(*self._removal())
        self.restore = b"" if self._mark is None else netlink.batch(_settings(self._mark))
        if self.host.mac == "interface":
            self.take, self.drop = self.renew, netlink.batch(*delete.values())
            return
        # While the link is down the addresses are mute, and taking it down needs milliseconds of the kernel. An IPv4
        # address goes in silence, so it goes first; to remove an IPv6 address from a link that is up would send
        # multicast reports from the virtual MAC, so it goes last.
        up = messages.link_state(self.index, True)
        self.essential += 1
        self.take = netlink.batch(
            # The ways out come before the addresses, or the first answers would leave by the carpdev with its MAC.
            up,
            *self._routes(),
            # They are there since setup, unless somebody (systemd-networkd, for one) swept away what was not its own.
            *(self._rule(messages.add_rule, one.ip) for one in addresses),
            *add,
            # Once more, for its outcome to stand among the essential ones; the kernel has nothing to do.
            up,
        )
        others = [request for one, request in delete.items() if one.version == 6]
        self.drop = netlink.batch(*silent, messages.link_state(self.index, False), *others)

    def change(self, host: VirtualHost) -> None:
        """Go over to other addresses: those that are no more leave the machine now; a `take` brings the new ones.

        Name, vhid and the kind of MAC must be the same.
        """
        before = {one.ip for one in self.host.addresses}
        after = {one.ip for one in host.addresses}
        had_ipv6 = 6 in self.host.families
        self.host = host
        with netlink.RouteSocket() as route:
            requests = [messages.delete_address(self.index, ip_interface(ip)) for ip in before - after]
            if host.mac == "virtual":
                requests += [self._rule(messages.delete_rule, ip) for ip in before - after]
                if 6 in host.families and not had_ipv6:
                    self._allow_ipv6(True)
                self._set_rules(route, after - before)
            _execute(route, requests, GONE)
        self.refresh(self.carpdev)

    def teardown(self) -> None:
        """Remove everything and give the carpdev its settings back. As often as you like; what is gone is fine.

        Raises the first `OSError` that was none of that, after trying all.
        """
        mark = self._mark
        if not self.index and mark is None:
            return
        drop, removal = self.drop, self._removal()
        self.forget()
        with netlink.RouteSocket() as route:
            outcome = route.execute(drop)
            outcome += route.execute(netlink.batch(*removal))
            if mark is not None:
                outcome += _restore(route, mark, read_interfaces())
        for error in outcome:
            if error is not None and error.errno not in GONE:
                raise error

    def forget(self) -> None:
        """Somebody else has carried out `drop`, `remove`, and `restore` where it was due: nothing is left to undo."""
        self.index, self._mark = 0, None
        self.take = self.renew = self.drop = self.remove = self.restore = b""
        self.mute = ()

    def _removal(self) -> list[bytes]:
        if self._mark is None:
            return []
        requests = [messages.link_state(self.index, False), messages.delete_link(self.index)] if self.index else []
        return requests + [self._rule(messages.delete_rule, one.ip) for one in self.host.addresses]

    def _add(self, address: IPv4Interface | IPv6Interface) -> bytes:
        return messages.add_address(
            self.index,
            address,
            protocol=OWN_PROTOCOL,
            lifetime=self.lifetime,
            prefix_route=False,
            # On the carpdev the floating address must not become the source of the host's own connections.
            deprecated=self.host.mac == "interface" and address.version == 6,
        )

    # What a crashed run left

    def _clean(self, route: netlink.RouteSocket, scene: Scene) -> None:
        """Remove the devices, addresses and rules of dead virtual hosts.

        Dead is what bears our mark and is either this very virtual host, whose lock we hold, or guarded by no lock.
        """
        left: list[Interface] = []
        dead: list[tuple[Interface, Mark]] = []
        wanted = {one.ip for one in self.host.addresses}
        for interface in scene.interfaces:
            mark = interface.mark
            if mark is not None and not self._lives(scene, mark.index, mark.vhid):
                dead.append((interface, mark))
                continue
            left.append(interface)
            if interface.name == self.host.name and self.host.mac == "virtual":
                whose = "not ours" if mark is None else f"that of vhid {mark.vhid} on {mark.carpdev}"
                raise InterfaceError(
                    f"there is an interface {interface.name} already, and it is {whose}: remove it or give another name"
                )
            for one in interface.addresses:
                if mark is not None and one.interface.ip in wanted:
                    raise InterfaceError(
                        f"{one.interface.ip} is already on {interface.name}, vhid {mark.vhid}: give another address"
                    )
        stray = [
            (source, table)
            for source, table in scene.rules
            if source in wanted or not self._lives(scene, table >> 8 & _TABLE_INDEX, table & 0xFF)
        ]
        requests = [messages.delete_link(interface.index) for interface, _mark in dead]
        requests += self._stray_addresses(scene, wanted)
        requests += [messages.delete_rule(source, table, OWN_PROTOCOL, _PRIORITY) for source, table in stray]
        _execute(route, requests, GONE)
        scene.interfaces = tuple(left)
        scene.rules = [one for one in scene.rules if one not in stray]
        for _interface, mark in dead:
            if self.host.mac == "virtual" and mark.index == self.carpdev.index:
                self._mark = self._mark or mark  # its settings are what we shall give back
            else:
                _restore(route, mark, left)

    def _lives(self, scene: Scene, index: int, vhid: int) -> bool:
        return (index, vhid) != (self.carpdev.index, self.host.vhid) and scene.lives(index, vhid)

    def _stray_addresses(self, scene: Scene, wanted: set[Address]) -> list[bytes]:
        """Requests against addresses on the carpdev itself that bear our protocol but belong to nobody alive."""
        found = next((one.addresses for one in scene.interfaces if one.index == self.carpdev.index), ())
        ours = [one.interface for one in found if one.ours]
        if not ours:
            return []
        # Such an address does not say whose it is. If others are at work on this carpdev, only ours is surely stray.
        others = any(self._lives(scene, self.carpdev.index, vhid) for vhid in range(1, 256))
        return [messages.delete_address(self.carpdev.index, one) for one in ours if one.ip in wanted or not others]

    # Making the macvlan

    def _create(self, route: netlink.RouteSocket, scene: Scene) -> None:
        carpdev = next((one for one in scene.interfaces if one.index == self.carpdev.index), None)
        if carpdev is None:
            raise InterfaceError(f"{self.carpdev.name} has gone: {self.host.name} has no interface to speak on")
        former = self._mark or next(
            (one.mark for one in scene.interfaces if one.mark is not None and one.mark.index == carpdev.index), None
        )
        self._mark = mark = Mark(
            vhid=self.host.vhid,
            carpdev=carpdev.name,
            index=carpdev.index,
            arp_ignore=carpdev.arp_ignore if former is None else former.arp_ignore,
            arp_announce=carpdev.arp_announce if former is None else former.arp_announce,
        )
        outcome = route.execute(
            netlink.batch(
                messages.add_macvlan(self.name, carpdev.index, self.mac),
                messages.set_alias(self.name, str(mark)),
                messages.no_link_local(self.name),
            )
        )
        if outcome[0] is not None:
            raise self._refused(outcome[0])
        self.index = socket.if_nametoindex(self.name)
        scene.interfaces += (Interface(index=self.index, name=self.name, mac=self.mac, up=False, alias=str(mark)),)
        for error in outcome[1:]:
            if error is not None and not (error.errno == errno.EAFNOSUPPORT and 6 not in self.host.families):
                raise error
        self._allow_ipv6(6 in self.host.families)
        route.request(
            # Answer for what is on the link that was asked on, neither for the neighbour's address nor he for ours.
            messages.ipv4_conf(self.index, {"arp_ignore": 1}),
            messages.ipv4_conf(
                carpdev.index,
                {"arp_ignore": max(carpdev.arp_ignore, 1), "arp_announce": max(carpdev.arp_announce, 2)},
            ),
        )

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

    def _allow_ipv6(self, wanted: bool) -> None:
        """Where /proc/sys cannot be written, that no link-local address is made keeps the device quiet."""
        for setting, value in (("accept_ra", 0), ("autoconf", 0), ("disable_ipv6", int(not wanted))):
            sysctl.try_write(f"ipv6/conf/{self.name}/{setting}", value)

    # Rules and routes

    def _rule(self, build: Callable[[Address, int, int, int], bytes], ip: Address) -> bytes:
        return build(ip, self.table, OWN_PROTOCOL, _PRIORITY)

    def _set_rules(self, route: netlink.RouteSocket, addresses: Iterable[Address]) -> None:
        _execute(route, [self._rule(messages.add_rule, ip) for ip in addresses], frozenset({errno.EEXIST}))

    def _routes(self) -> list[bytes]:
        """The carpdev's ways to the LAN and beyond, through the device: answers leave from the virtual MAC."""
        subnets: dict[Network, None] = {}
        own = [one.interface for one in self.carpdev.addresses if not one.ours]
        for one in itertools.chain(own, self.host.addresses):
            if one.version in self.host.families and one.network.prefixlen < one.max_prefixlen:
                subnets[one.network] = None
        requests = [messages.add_route(self.index, one, self.table, OWN_PROTOCOL) for one in subnets]
        for network, gateway in self._gateways()[:_ROUTES]:
            # IPv6 holds "onlink" against the main table, where the gateway is on the carpdev, and refuses; but it finds
            # the gateway through the subnets above.
            near = any(gateway in subnet for subnet in subnets) or (gateway.version == 6 and gateway.is_link_local)
            onlink = gateway.version == 4 or not near
            requests.append(messages.add_route(self.index, network, self.table, OWN_PROTOCOL, gateway, onlink=onlink))
        return requests

    def _gateways(self) -> list[tuple[Network, Address]]:
        """(destination, gateway) of the main table's routes that leave by the carpdev, the widest first."""
        found: list[tuple[Network, Address]] = []
        with netlink.RouteSocket() as route:
            for version in self.host.families:
                family = socket.AF_INET if version == 4 else socket.AF_INET6
                for _kind, payload in route.dump(netlink.dump_request(netlink.RTM_GETROUTE, family)):
                    parsed = _parse_gateway(payload, self.carpdev.index)
                    if parsed is not None:
                        found.append(parsed)
        return sorted(found, key=lambda one: one[0].prefixlen)


def _parse_gateway(payload: bytes, index: int) -> tuple[Network, Address] | None:
    family, dst_len, _src, _tos, table, protocol, _scope, kind, flags = netlink.ROUTE.unpack_from(payload)
    if table != messages.RT_TABLE_MAIN or kind != _RTN_UNICAST or flags & _RTM_F_CLONED:
        return None
    if protocol not in ROUTE_PROTOCOLS:
        return None
    attributes = netlink.attributes(payload, netlink.ROUTE.size)
    if _RTA_GATEWAY not in attributes or attributes.get(_RTA_OIF) != netlink.WORD.pack(index):
        return None
    size = 4 if family == socket.AF_INET else 16
    return ip_network((attributes.get(_RTA_DST, bytes(size)), dst_len)), ip_address(attributes[_RTA_GATEWAY])


def _restore(route: netlink.RouteSocket, mark: Mark, interfaces: Iterable[Interface]) -> list[OSError | None]:
    """Give a carpdev its settings back, unless another virtual host still needs ours."""
    if any(one.mark is not None and one.mark.index == mark.index for one in interfaces):
        return []
    return route.execute(netlink.batch(_settings(mark)))


def _settings(mark: Mark) -> bytes:
    return messages.ipv4_conf(mark.index, {"arp_ignore": mark.arp_ignore, "arp_announce": mark.arp_announce})


def _execute(route: netlink.RouteSocket, requests: list[bytes], fine: frozenset[int]) -> None:
    for error in route.execute(netlink.batch(*requests)):
        if error is not None and error.errno not in fine:
            raise error
