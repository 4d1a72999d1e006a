"""Netlink requests about links, addresses, routes and rules, as bytes.

Every request asks for an acknowledgement; `netlink.batch` joins and numbers them. The tests hold each one equal to what
pyroute2 makes of the same wish.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from .._unpatched import socket
from ..protocol.timing import LEASE_FOREVER
from . import netlink
from .netlink import ACK, APPEND, CREATE, EXCLUSIVE, NESTED, REPLACE, attribute, message, nest, text, word

Interface = IPv4Interface | IPv6Interface
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# include/uapi/linux/if.h, if_link.h
_IFF_UP = 0x1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 3, 18, 1, 2
_IFLA_MTU, _IFLA_LINK, _IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_GROUP = 4, 5, 20, 26, 27
_IFLA_PROTO_DOWN, _IFLA_PROP_LIST, _IFLA_ALT_IFNAME, _IFLA_PROTO_DOWN_REASON = 39, 52, 53, 55
_IFLA_MACVLAN_MODE, _MACVLAN_MODE_BRIDGE, _IFLA_MACVLAN_BC_QUEUE_LEN = 1, 4, 7
_BROADCASTS = 10_000
"""What comes to all, as ARP requests do, waits in one queue for the macvlans of an interface. 1,000, the kernel's own
length, lost a third of 2,000 requests with 250 of them."""
_IFLA_INET_CONF, _IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 1, 8, 1
_PROTO_DOWN_REASON_MASK, _PROTO_DOWN_REASON_VALUE = 1, 2

# include/uapi/linux/neighbour.h, if_addr.h
_NUD_PERMANENT, _NTF_SELF, _NDA_LLADDR = 0x80, 0x02, 2
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 2, 4, 6, 8, 11
_LIFETIME = struct.Struct("=IIII")
"""struct ifa_cacheinfo: preferred and valid, in seconds; created and updated, which only the kernel sets."""

# include/uapi/linux/rtnetlink.h, fib_rules.h
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_RTN_UNICAST, _RTNH_F_ONLINK = 1, 4
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL, _FR_ACT_TO_TBL = 2, 6, 15, 21, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253

IPV4_CONF = {
    "forwarding": 1,
    "proxy_arp": 3,
    "accept_redirects": 4,
    "secure_redirects": 5,
    "send_redirects": 6,
    "shared_media": 7,
    "rp_filter": 8,
    "accept_source_route": 9,
    "log_martians": 11,
    "arp_filter": 13,
    "medium_id": 14,
    "disable_xfrm": 15,
    "disable_policy": 16,
    "arp_announce": 18,
    "arp_ignore": 19,
    "promote_secondaries": 20,
    "accept_local": 23,
    "src_valid_mark": 24,
    "proxy_arp_pvlan": 25,
    "route_localnet": 26,
}
"""include/uapi/linux/ip.h, IPV4_DEVCONF_*."""


_SETTING = struct.Struct("=i")


def _family(version: int) -> int:
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


# Links


def new_link(*attributes: bytes) -> bytes:
    """EEXIST if the name is taken."""
    return _link(netlink.RTM_NEWLINK, CREATE | EXCLUSIVE, 0, *attributes)


def set_link(index: int, *attributes: bytes) -> bytes:
    """Change an interface. An index of 0 leaves it to IFLA_IFNAME to say which one."""
    return _link(netlink.RTM_SETLINK, 0, index, *attributes)


def _link(kind: int, flags: int, index: int, *attributes: bytes) -> bytes:
    return message(kind, ACK | flags, netlink.LINK.pack(0, 0, index, 0, 0), *attributes)


def link_state(index: int, up: bool) -> bytes:
    return message(netlink.RTM_SETLINK, ACK, netlink.LINK.pack(0, 0, index, up * _IFF_UP, _IFF_UP))


def rename_link(index: int, name: str) -> bytes:
    return set_link(index, text(IFLA_IFNAME, name))


def delete_link(which: int | str) -> bytes:
    """By index or name."""
    if isinstance(which, str):
        return _link(netlink.RTM_DELLINK, 0, 0, text(IFLA_IFNAME, which))
    return _link(netlink.RTM_DELLINK, 0, which)


def link_of_kind(kind: str, *data: bytes) -> bytes:
    """The attribute that says which driver's link it is, with that driver's own attributes."""
    return nest(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind), nest(IFLA_INFO_DATA, *data))


def add_macvlan(name: str, parent: int, mac: bytes) -> bytes:
    """A macvlan in bridge mode, down."""
    return new_link(
        text(IFLA_IFNAME, name),
        word(_IFLA_LINK, parent),
        attribute(IFLA_ADDRESS, mac),
        link_of_kind(
            "macvlan", word(_IFLA_MACVLAN_MODE, _MACVLAN_MODE_BRIDGE), word(_IFLA_MACVLAN_BC_QUEUE_LEN, _BROADCASTS)
        ),
    )


def set_alias(name: str, alias: str) -> bytes:
    """By name, so that it can follow the creation in one batch: a kill in between must not leave an unmarked device."""
    return set_link(0, text(IFLA_IFNAME, name), text(_IFLA_IFALIAS, alias))


def no_link_local(which: str | int) -> bytes:
    """addrgenmode none: the kernel makes up no IPv6 address of its own when the link goes up. By name or by index."""
    mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_ADDR_GEN_NONE,)))
    spec = nest(_IFLA_AF_SPEC, nest(int(socket.AF_INET6), mode))
    if isinstance(which, int):
        return set_link(which, spec)
    return set_link(0, text(IFLA_IFNAME, which), spec)


def set_mtu(index: int, mtu: int) -> bytes:
    """EINVAL where that of the interface below is smaller."""
    return set_link(index, word(_IFLA_MTU, mtu))


def set_group(index: int, group: int) -> bytes:
    return set_link(index, word(_IFLA_GROUP, group))


def lift_protodown(index: int) -> bytes:
    """Give an interface its carrier back, whichever program took it by protodown, and for whatever reasons.

    While reasons are there the kernel refuses to clear protodown. EOPNOTSUPP where a driver has none.
    """
    none = attribute(_PROTO_DOWN_REASON_MASK, b"\xff" * 4) + word(_PROTO_DOWN_REASON_VALUE, 0)
    return set_link(index, nest(_IFLA_PROTO_DOWN_REASON | NESTED, none), attribute(_IFLA_PROTO_DOWN, b"\0"))


def set_protodown(name: str) -> bytes:
    """Take an interface's carrier, by name. EOPNOTSUPP where a driver has none."""
    return set_link(0, text(IFLA_IFNAME, name), attribute(_IFLA_PROTO_DOWN, b"\1"))


def add_altname(index: int, name: str) -> bytes:
    """Another name of an interface. EEXIST if it is taken, EOPNOTSUPP before Linux 5.5."""
    return _link(netlink.RTM_NEWLINKPROP, CREATE | EXCLUSIVE | APPEND, index, _altname(name))


def delete_altname(index: int, name: str) -> bytes:
    return _link(netlink.RTM_DELLINKPROP, 0, index, _altname(name))


def _altname(name: str) -> bytes:
    return nest(_IFLA_PROP_LIST | NESTED, text(_IFLA_ALT_IFNAME, name))


def bridge_fdb(index: int, mac: bytes, present: bool) -> bytes:
    """Have a bridge take frames for this MAC itself, and flood them to no port; or end that.

    As `bridge fdb add MAC dev BRIDGE self local`. ENOENT where there is nothing to end.
    """
    kind, flags = (netlink.RTM_NEWNEIGH, CREATE | REPLACE) if present else (netlink.RTM_DELNEIGH, 0)
    head = netlink.NEIGHBOUR.pack(socket.AF_BRIDGE, index, _NUD_PERMANENT, _NTF_SELF, 0)
    return message(kind, ACK | flags, head, attribute(_NDA_LLADDR, mac))


def ipv4_conf(index: int, values: Mapping[str, int]) -> bytes:
    """Set the IPv4 settings of an interface (names of `IPV4_CONF`), as writing /proc/sys/net/ipv4/conf/NAME would.

    Through netlink it also works where /proc/sys is mounted read-only, as in containers.
    """
    settings = (attribute(IPV4_CONF[name], _SETTING.pack(value)) for name, value in values.items())
    return set_link(index, nest(_IFLA_AF_SPEC, nest(int(socket.AF_INET), nest(_IFLA_INET_CONF, *settings))))


# Addresses


def add_address(
    index: int, address: Interface, *, protocol: int = 0, prefix_route: bool = True, deprecated: bool = False
) -> bytes:
    """Add an address, or renew it when it is there; IPv6 without duplicate detection. The guardian sets the lifetime.

    `protocol` is IFA_PROTO. A `deprecated` address answers like any other, but the host does not choose it for
    connections that it opens.
    """
    more = [attribute(_IFA_PROTO, bytes((protocol,)))] if protocol else []
    flags = (_IFA_F_NODAD if address.version == 6 else 0) | (0 if prefix_route else _IFA_F_NOPREFIXROUTE)
    if flags:
        more.append(word(_IFA_FLAGS, flags))
    if address.version == 4 and address.network.prefixlen < 31:
        more.append(attribute(_IFA_BROADCAST, address.network.broadcast_address.packed))
    more.append(attribute(_IFA_CACHEINFO, _LIFETIME.pack(0 if deprecated else LEASE_FOREVER, LEASE_FOREVER, 0, 0)))
    return _address(netlink.RTM_NEWADDR, CREATE | REPLACE, index, address, *more)


def delete_address(index: int, address: Interface) -> bytes:
    return _address(netlink.RTM_DELADDR, 0, index, address)


def _address(kind: int, flags: int, index: int, address: Interface, *more: bytes) -> bytes:
    # The scope and the flags of the head stay 0: IFA_FLAGS has room for all flags.
    head = netlink.ADDRESS.pack(_family(address.version), address.network.prefixlen, 0, 0, index)
    ip = address.packed
    return message(kind, ACK | flags, head, attribute(_IFA_LOCAL, ip), attribute(_IFA_ADDRESS, ip), *more)


# Routes and rules


def add_route(
    index: int, network: Network, table: int, protocol: int, gateway: Address | None = None, *, onlink: bool = False
) -> bytes:
    """Add or replace a route through the interface: on the link, or by a gateway.

    `onlink` spares the gateway the question whether it is on the link.
    """
    more = [word(_RTA_TABLE, table), word(_RTA_OIF, index)]
    if network.prefixlen:
        more.append(attribute(_RTA_DST, network.network_address.packed))
    if gateway is not None:
        more.append(attribute(_RTA_GATEWAY, gateway.packed))
    scope = _SCOPE_LINK if gateway is None and network.version == 4 else _SCOPE_UNIVERSE
    # The attribute holds the table; the octet cannot hold numbers above 255.
    octet = table if table < 256 else 0
    flags = _RTNH_F_ONLINK if onlink else 0
    head = netlink.ROUTE.pack(
        _family(network.version), network.prefixlen, 0, 0, octet, protocol, scope, _RTN_UNICAST, flags
    )
    return message(netlink.RTM_NEWROUTE, ACK | CREATE | REPLACE, head, *more)


def add_rule(source: Address, table: int, protocol: int, priority: int) -> bytes:
    """`ip rule add from SOURCE lookup TABLE`; EEXIST if it is there."""
    return _rule(netlink.RTM_NEWRULE, CREATE | EXCLUSIVE, source, table, protocol, priority)


def delete_rule(source: Address, table: int, protocol: int, priority: int) -> bytes:
    return _rule(netlink.RTM_DELRULE, 0, source, table, protocol, priority)


def _rule(kind: int, flags: int, source: Address, table: int, protocol: int, priority: int) -> bytes:
    octet = table if table < 256 else 0
    return message(
        kind,
        ACK | flags,
        netlink.ROUTE.pack(_family(source.version), 0, source.max_prefixlen, 0, octet, 0, 0, _FR_ACT_TO_TBL, 0),
        attribute(_FRA_SRC, source.packed),
        word(_FRA_TABLE, table),
        attribute(_FRA_PROTOCOL, bytes((protocol,))),
        word(_FRA_PRIORITY, priority),
    )
