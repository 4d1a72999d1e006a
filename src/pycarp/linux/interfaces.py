"""The interfaces of this machine, and which of them a virtual host speaks on."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from .._records import dataclass, field, replace
from .._unpatched import socket
from ..config import VirtualHost
from ..errors import InterfaceError, InterfaceMissing
from . import messages, netlink
from .capabilities import refused
from .messages import IPV4_CONF, Address

OWN_PROTOCOL = 112
"""Marks what this program put into the kernel: IFA_PROTO of addresses, the protocol of rules and routes."""

_ARPHRD_ETHER = 1
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_IFA_F_SECONDARY, _IFA_F_DADFAILED, _IFA_F_DEPRECATED, _IFA_F_TENTATIVE = 0x01, 0x08, 0x20, 0x40

# include/uapi/linux/if_link.h, if_addr.h, rtnetlink.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_PROTO_DOWN, _IFLA_PROP_LIST = 20, 26, 27, 39, 52
_IFLA_INFO_KIND, _IFLA_INET_CONF, _IFLA_INET6_CONF, _IFLA_ALT_IFNAME = 1, 1, 2, 53
_DEVCONF_FORWARDING, _DEVCONF_DISABLE_IPV6 = 0, 26
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PROTO = 1, 2, 8, 11

_OURS = re.compile(r"pycarp vhid (\d+) on (\S+) index=(\d+)((?: \w+=\d+)*)")


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address on an interface; `protocol` is IFA_PROTO (0 if none), `flags` the kernel's IFA_F_*."""

    interface: IPv4Interface | IPv6Interface
    protocol: int = 0
    flags: int = 0

    @property
    def ours(self) -> bool:
        return self.protocol == OWN_PROTOCOL


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface as the kernel describes it.

    `up` is the administrator's wish, `running` adds the carrier. `ipv4` has its own settings by the names of
    `messages.IPV4_CONF`, without those for all interfaces; `forwarding6` is its forwarding in IPv6, None where it has
    no IPv6 at all (below an MTU of 1280, or in a kernel without), `disable_ipv6` the setting of that name. `kind` is
    the driver's name for it (macvlan, bridge, veth, ...), empty for hardware; `master` is the index of the bridge or
    bond that it is a port of.
    """

    index: int
    name: str
    mac: bytes = b""
    up: bool = True
    running: bool = True
    alias: str = ""
    loopback: bool = False
    addresses: tuple[InterfaceAddress, ...] = ()
    ethernet: bool = True
    ipv4: Mapping[str, int] = field(default_factory=dict, hash=False)
    forwarding6: int | None = None
    disable_ipv6: int = 0
    mtu: int = 1500
    group: int = 0
    kind: str = ""
    master: int = 0
    protodown: bool = False
    altnames: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether it is the device of a virtual host, of this process or another."""
        return _OURS.fullmatch(self.alias) is not None

    @property
    def mark(self) -> Mark | None:
        """What its alias says, if it is ours."""
        return Mark.parse(self.alias)

    @property
    def own_addresses(self) -> list[IPv4Interface | IPv6Interface]:
        """Those that no virtual host of this program put there."""
        return [one.interface for one in self.addresses if not one.ours]

    def replace(self, **changes: Any) -> Interface:
        """A copy with the named fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Mark:
    """What the alias of a virtual host's device says: whose it is, and the carpdev's settings `before` we came."""

    vhid: int
    carpdev: str
    index: int
    before: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        before = "".join(f" {name}={value}" for name, value in self.before.items())
        return f"pycarp vhid {self.vhid} on {self.carpdev} index={self.index}{before}"

    @classmethod
    def parse(cls, alias: str) -> Mark | None:
        """None if the alias is not one of ours."""
        found = _OURS.fullmatch(alias)
        if found is None:
            return None
        pairs = (one.partition("=") for one in found[4].split())
        before = {name: int(value) for name, _equals, value in pairs if name in IPV4_CONF}
        return cls(int(found[1]), found[2], int(found[3]), before)


def mark_on(carpdev: int, interfaces: Iterable[Interface]) -> Mark | None:
    """That of some virtual host's device on the carpdev of that index; None where there is no device."""
    marks = (one.mark for one in interfaces)
    return next((mark for mark in marks if mark is not None and mark.index == carpdev), None)


def read_interfaces() -> tuple[Interface, ...]:
    """All interfaces of the calling thread's network namespace, by index."""
    with netlink.RouteSocket() as route:
        links = route.dump(netlink.RTM_GETLINK)
        addresses: dict[int, list[InterfaceAddress]] = {}
        for payload in route.dump(netlink.RTM_GETADDR):
            parsed = parse_address(payload)
            if parsed is not None:
                addresses.setdefault(parsed[0], []).append(parsed[1])
    interfaces = [parse_link(payload) for payload in links]
    return tuple(
        interface.replace(addresses=tuple(addresses.get(interface.index, ())))
        for interface in sorted(interfaces, key=lambda interface: interface.index)
    )


def index_of(name: str, route: netlink.RouteSocket) -> int:
    """The index of the interface that was just made. Without ioctl(2) it is removed again."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        # The C library says "no interface with this name" of whatever its ioctl was answered.
        route.execute(netlink.batch(messages.delete_link(name)))
        denied = PermissionError(errno.EPERM, os.strerror(errno.EPERM), "ioctl, SIOCGIFINDEX")
        raise refused(denied.with_traceback(error.__traceback__)) from None


def parse_link(payload: bytes) -> Interface:
    """An interface, without its addresses, from the payload of RTM_NEWLINK or RTM_DELLINK."""
    _family, hardware, index, flags, _change = netlink.LINK.unpack_from(payload)
    found = netlink.attributes(payload, netlink.LINK.size)
    families = netlink.attributes(found.get(_IFLA_AF_SPEC, b""))
    conf = netlink.attributes(families.get(int(socket.AF_INET), b"")).get(_IFLA_INET_CONF, b"")
    conf6 = netlink.attributes(families.get(int(socket.AF_INET6), b"")).get(_IFLA_INET6_CONF, b"")
    info = netlink.attributes(found.get(_IFLA_LINKINFO, b""))
    return Interface(
        index=index,
        name=netlink.string(found.get(_IFLA_IFNAME, b"")),
        mac=found.get(_IFLA_ADDRESS, b""),
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_UP and flags & _IFF_LOWER_UP),
        alias=netlink.string(found.get(_IFLA_IFALIAS, b"")),
        loopback=bool(flags & _IFF_LOOPBACK),
        ethernet=hardware == _ARPHRD_ETHER,
        # An array that starts with setting number 1; that of IPv6 starts with number 0.
        ipv4={name: _setting(conf, number - 1) for name, number in IPV4_CONF.items()},
        forwarding6=_setting(conf6, _DEVCONF_FORWARDING) if conf6 else None,
        disable_ipv6=_setting(conf6, _DEVCONF_DISABLE_IPV6),
        mtu=netlink.number(found.get(_IFLA_MTU)),
        group=netlink.number(found.get(_IFLA_GROUP)),
        kind=netlink.string(info.get(_IFLA_INFO_KIND, b"")),
        master=netlink.number(found.get(_IFLA_MASTER)),
        protodown=found.get(_IFLA_PROTO_DOWN, b"\0") != b"\0",
        altnames=tuple(_altnames(found.get(_IFLA_PROP_LIST, b""))),
    )


def parse_address(payload: bytes) -> tuple[int, InterfaceAddress] | None:
    """(interface index, address) from the payload of RTM_NEWADDR or RTM_DELADDR; None for other families than IP."""
    family, prefix, flags, _scope, index = netlink.ADDRESS.unpack_from(payload)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = netlink.attributes(payload, netlink.ADDRESS.size)
    # On a point-to-point interface, IFA_ADDRESS is the other end.
    raw = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
    if len(raw) not in (4, 16):
        return None
    flags = netlink.number(found.get(_IFA_FLAGS)) or flags
    if prefix > len(raw) * 8:
        return None
    return index, InterfaceAddress(ip_interface((raw, prefix)), netlink.octet(found.get(_IFA_PROTO)), flags)


def is_per_link(ip: Address) -> bool:
    """Whether each link has an address of its own by this number: a link-local one of IPv6."""
    return ip.version == 6 and ip.is_link_local


def choose_carpdev(host: VirtualHost, interfaces: Sequence[Interface]) -> Interface:
    """The interface that a virtual host speaks on, as ifconfig chooses it: the one whose subnet holds every address.

    Up or not; never the loopback nor the device of a virtual host. `host.carpdev` overrides. Raises `InterfaceMissing`
    where the named one is missing or none fits (with the candidates), `InterfaceError` where several fit, where it is
    no Ethernet, and where an address is on this machine already.
    """
    _refuse_held([one.ip for one in host.addresses if not is_per_link(one.ip)], interfaces)
    carpdev = _fitting(host, interfaces)
    _refuse_held([one.ip for one in host.addresses if is_per_link(one.ip)], [carpdev])
    return carpdev


def _fitting(host: VirtualHost, interfaces: Sequence[Interface]) -> Interface:
    others = [interface for interface in interfaces if not interface.loopback and not interface.ours]
    if host.carpdev is not None:
        return _named(host.carpdev, interfaces, others)
    if not host.addresses:
        raise InterfaceError(f"{host.name} has neither an address nor a carpdev: give one of them")
    fitting = [interface for interface in others if all(_holds(interface, one.ip) for one in host.addresses)]
    ethernet = [interface for interface in fitting if interface.ethernet]
    if len(ethernet) == 1:
        return ethernet[0]
    wanted = " and ".join(str(one.ip) for one in host.addresses)
    if ethernet:
        raise InterfaceError(
            f"{wanted} fits {_listed(ethernet)}: name the one to use with carpdev (carpdev {ethernet[0].name})"
        )
    if fitting:
        raise InterfaceError(f"{wanted} fits {_listed(fitting)}, which is no Ethernet: CARP cannot work there")
    candidates = [interface for interface in others if interface.ethernet]
    if not candidates:
        raise InterfaceMissing(f"this machine has no Ethernet interface to put {wanted} on")
    subnets = "subnet" if len(host.addresses) == 1 else "subnets"
    raise InterfaceMissing(
        f"no interface has the {subnets} of {wanted}; there is {_listed(candidates)}: "
        f"correct the address, or name the interface with carpdev"
    )


def usable_addresses(interface: Interface, exclude: Collection[Address] = ()) -> list[InterfaceAddress]:
    """The interface's own addresses that it can send from now; never a floating one."""
    return [
        one
        for one in interface.addresses
        if not one.ours and one.interface.ip not in exclude and not one.flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED)
    ]


def source_address(interface: Interface, family: int, exclude: Collection[Address] = ()) -> Address | None:
    """The address that adverts of a family (4 or 6) leave from: the interface's own, usable now, never a floating one.

    IPv6: a link-local one first (NetBSD's kernel sends from it). None if there is none.
    """
    usable = [one for one in usable_addresses(interface, exclude) if one.interface.version == family]
    usable.sort(
        key=lambda one: (
            family == 6 and not one.interface.is_link_local,
            bool(one.flags & _IFA_F_DEPRECATED),
            # The same bit says "secondary" in IPv4 and "temporary" in IPv6: second choice in both.
            bool(one.flags & _IFA_F_SECONDARY),
        )
    )
    return usable[0].interface.ip if usable else None


def _refuse_held(wanted: Collection[Address], interfaces: Iterable[Interface]) -> None:
    for interface in interfaces:
        for one in () if interface.ours else interface.own_addresses:
            if one.ip in wanted:
                raise InterfaceError(
                    f"{one.ip} is already on {interface.name}: a floating address must not be a host's own; "
                    f"remove it there or give another"
                )


def _named(name: str, interfaces: Sequence[Interface], others: Sequence[Interface]) -> Interface:
    for interface in interfaces:
        if interface.name != name:
            continue
        if interface.ours:
            raise InterfaceError(f"carpdev {name} is the device of a virtual host: name the interface below it")
        if interface.loopback or not interface.ethernet:
            raise InterfaceError(f"carpdev {name} is no Ethernet: CARP cannot work there")
        return interface
    there = [interface for interface in others if interface.ethernet]
    raise InterfaceMissing(
        f"there is no interface {name}; there is {_listed(there) if there else 'no Ethernet at all'}"
    )


def _holds(interface: Interface, ip: Address) -> bool:
    if is_per_link(ip):
        # Every link with IPv6 has this subnet.
        return any(one.interface.version == 6 for one in interface.addresses)
    return any(ip in one.network for one in interface.own_addresses if one.version == ip.version)


def _listed(interfaces: Sequence[Interface]) -> str:
    described = []
    for interface in interfaces:
        subnets = dict.fromkeys(str(one.network) for one in interface.own_addresses)
        described.append(f"{interface.name} ({', '.join(subnets) or 'no address'})")
    return ", ".join(described)


def _setting(conf: bytes, at: int) -> int:
    value = netlink.number(conf[at * 4 : at * 4 + 4])
    return value - (1 << 32) if value >> 31 else value


def _altnames(properties: bytes) -> Iterator[str]:
    """There is one attribute for each, all with the same number."""
    for number, data in netlink.each_attribute(properties):
        if number == _IFLA_ALT_IFNAME:
            yield netlink.string(data)
