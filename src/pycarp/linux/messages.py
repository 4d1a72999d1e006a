"""Netlink requests as bytes, built with pyroute2's message classes and never sent by it.

Every request asks for an acknowledgement; `netlink.batch` joins and numbers them. pyroute2 is imported when the first
message is built, because its import takes a third of a second.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from types import SimpleNamespace
from typing import Any

from ..protocol.timing import LEASE_FOREVER
from . import netlink

Attributes = list[tuple[Any, ...]]
Interface = IPv4Interface | IPv6Interface
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REQUEST, _ACK = 0x1, 0x4
_REPLACE, _EXCLUSIVE, _CREATE, _APPEND = 0x100, 0x200, 0x400, 0x800

_IFF_UP = 0x1
_IFLA_IFNAME, _IFLA_PROTO_DOWN, _IFLA_PROP_LIST, _IFLA_ALT_IFNAME, _IFLA_PROTO_DOWN_REASON = 3, 39, 52, 53, 55
_PROTO_DOWN_REASON_MASK, _PROTO_DOWN_REASON_VALUE = 1, 2
_NUD_PERMANENT, _NTF_SELF, _NDA_LLADDR = 0x80, 0x02, 2
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200

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

_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4
_FR_ACT_TO_TBL = 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_MACVLAN_BRIDGE = "bridge"
_ADDR_GEN_NONE = 1


@functools.cache
def _classes() -> Any:
    from pyroute2.netlink import nla, nlmsg
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    class ipv4conf(nlmsg):  # type: ignore[misc]
        """A link request whose IFLA_AF_SPEC carries IPv4 settings: pyroute2's own class can only read them."""

        fields = ifinfmsg.fields
        nla_map = ((26, "IFLA_AF_SPEC", "families"),)

        class families(nla):  # type: ignore[misc]
            nla_map = ((int(socket.AF_INET), "AF_INET", "inet"),)

            class inet(nla):  # type: ignore[misc]
                nla_map = ((1, "IFLA_INET_CONF", "conf"),)

                class conf(nla):  # type: ignore[misc]
                    nla_map = tuple((number, name, "int32") for name, number in IPV4_CONF.items())

    return SimpleNamespace(link=ifinfmsg, ipv4conf=ipv4conf, address=ifaddrmsg, route=rtmsg, rule=fibmsg)


def _encode(message: Any, kind: int, options: int, attrs: Attributes, /, **fields: int) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message["header"]["type"] = kind
    message["header"]["flags"] = _REQUEST | _ACK | options
    message.encode()
    return bytes(message.data)


def _family(version: int) -> int:
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


# Links


def new_link(attrs: Attributes) -> bytes:
    """EEXIST if the name is taken."""
    return _encode(_classes().link(), netlink.RTM_NEWLINK, _CREATE | _EXCLUSIVE, attrs)


def set_link(attrs: Attributes, **fields: int) -> bytes:
    return _encode(_classes().link(), netlink.RTM_SETLINK, 0, attrs, **fields)


def link_state(index: int, up: bool) -> bytes:
    return set_link([], index=index, flags=int(up) * _IFF_UP, change=_IFF_UP)


def rename_link(index: int, name: str) -> bytes:
    return set_link([("IFLA_IFNAME", name)], index=index)


def delete_link(index: int) -> bytes:
    return _encode(_classes().link(), netlink.RTM_DELLINK, 0, [], index=index)


def add_macvlan(name: str, parent: int, mac: bytes) -> bytes:
    """A macvlan in bridge mode, down."""
    kind = [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", {"attrs": [("IFLA_MACVLAN_MODE", _MACVLAN_BRIDGE)]})]
    attrs = [
        ("IFLA_IFNAME", name),
        ("IFLA_LINK", parent),
        ("IFLA_ADDRESS", mac.hex(":")),
        ("IFLA_LINKINFO", {"attrs": kind}),
    ]
    return new_link(attrs)


def set_alias(name: str, alias: str) -> bytes:
    """By name, so that it can follow the creation in one batch: a kill in between must not leave an unmarked device."""
    return set_link([("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)])


def no_link_local(which: str | int) -> bytes:
    """addrgenmode none: the kernel makes up no IPv6 address of its own when the link goes up. By name or by index."""
    spec = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE)]})]}
    if isinstance(which, int):
        return set_link([("IFLA_AF_SPEC", spec)], index=which)
    return set_link([("IFLA_IFNAME", which), ("IFLA_AF_SPEC", spec)])


def set_mtu(index: int, mtu: int) -> bytes:
    """EINVAL where that of the interface below is smaller."""
    return set_link([("IFLA_MTU", mtu)], index=index)


def set_group(index: int, group: int) -> bytes:
    return set_link([("IFLA_GROUP", group)], index=index)


def lift_protodown(index: int) -> bytes:
    """Give an interface its carrier back, whichever program took it by protodown, and for whatever reasons.

    While reasons are there the kernel refuses to clear protodown. EOPNOTSUPP where a driver has none.
    """
    reasons = netlink.attribute(_PROTO_DOWN_REASON_MASK, b"\xff" * 4)
    reasons += netlink.attribute(_PROTO_DOWN_REASON_VALUE, bytes(4))
    attrs = netlink.attribute(_IFLA_PROTO_DOWN_REASON | netlink.NESTED, reasons)
    return _plain(netlink.RTM_SETLINK, 0, index, attrs + netlink.attribute(_IFLA_PROTO_DOWN, b"\0"))


def set_protodown(name: str) -> bytes:
    """Take an interface's carrier, by name. EOPNOTSUPP where a driver has none."""
    named = netlink.attribute(_IFLA_IFNAME, name.encode() + b"\0")
    return _plain(netlink.RTM_SETLINK, 0, 0, named + netlink.attribute(_IFLA_PROTO_DOWN, b"\1"))


def add_altname(index: int, name: str) -> bytes:
    """Another name of an interface. EEXIST if it is taken, EOPNOTSUPP before Linux 5.5."""
    return _altname(netlink.RTM_NEWLINKPROP, _CREATE | _EXCLUSIVE | _APPEND, index, name)


def delete_altname(index: int, name: str) -> bytes:
    return _altname(netlink.RTM_DELLINKPROP, 0, index, name)


def _altname(kind: int, flags: int, index: int, name: str) -> bytes:
    one = netlink.attribute(_IFLA_ALT_IFNAME, name.encode() + b"\0")
    return _plain(kind, flags, index, netlink.attribute(_IFLA_PROP_LIST | netlink.NESTED, one))


def _plain(kind: int, flags: int, index: int, attrs: bytes) -> bytes:
    """A link request, without pyroute2's class: it cannot build these."""
    body = netlink.LINK.pack(0, 0, index, 0, 0) + attrs
    return netlink.HEADER.pack(netlink.HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 0, 0) + body


def bridge_fdb(index: int, mac: bytes, present: bool) -> bytes:
    """Have a bridge take frames for this MAC itself, and flood them to no port; or end that.

    As `bridge fdb add MAC dev BRIDGE self local`. ENOENT where there is nothing to end.
    """
    body = netlink.NEIGHBOUR.pack(socket.AF_BRIDGE, index, _NUD_PERMANENT, _NTF_SELF, 0)
    body += netlink.attribute(_NDA_LLADDR, mac)
    kind, flags = (netlink.RTM_NEWNEIGH, _CREATE | _REPLACE) if present else (netlink.RTM_DELNEIGH, 0)
    return netlink.HEADER.pack(netlink.HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 0, 0) + body


def ipv4_conf(index: int, values: Mapping[str, int]) -> bytes:
    """Set the IPv4 settings of an interface (names of `IPV4_CONF`), as writing /proc/sys/net/ipv4/conf/NAME would.

    Through netlink it also works where /proc/sys is mounted read-only, as in containers.
    """
    conf = {"attrs": list(values.items())}
    spec = {"attrs": [("AF_INET", {"attrs": [("IFLA_INET_CONF", conf)]})]}
    return _encode(_classes().ipv4conf(), netlink.RTM_SETLINK, 0, [("IFLA_AF_SPEC", spec)], index=index)


# Addresses


def add_address(
    index: int, address: Interface, *, protocol: int = 0, prefix_route: bool = True, deprecated: bool = False
) -> bytes:
    """Add an address, or renew it when it is there; IPv6 without duplicate detection. The guardian sets the lifetime.

    `protocol` is IFA_PROTO. A `deprecated` address answers like any other, but the host does not choose it for
    connections that it opens.
    """
    attrs: Attributes = [("IFA_PROTO", protocol)] if protocol else []
    flags = (_IFA_F_NODAD if address.version == 6 else 0) | (0 if prefix_route else _IFA_F_NOPREFIXROUTE)
    if flags:
        attrs.append(("IFA_FLAGS", flags))
    if address.version == 4 and address.network.prefixlen < 31:
        attrs.append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    attrs.append(("IFA_CACHEINFO", {"ifa_preferred": 0 if deprecated else LEASE_FOREVER, "ifa_valid": LEASE_FOREVER}))
    return _address(netlink.RTM_NEWADDR, _CREATE | _REPLACE, index, address, attrs)


def delete_address(index: int, address: Interface) -> bytes:
    return _address(netlink.RTM_DELADDR, 0, index, address, [])


def _address(kind: int, options: int, index: int, address: Interface, attrs: Attributes) -> bytes:
    ip = str(address.ip)
    return _encode(
        _classes().address(),
        kind,
        options,
        [("IFA_LOCAL", ip), ("IFA_ADDRESS", ip), *attrs],
        family=_family(address.version),
        prefixlen=address.network.prefixlen,
        index=index,
    )


# Routes and rules


def add_route(
    index: int, network: Network, table: int, protocol: int, gateway: Address | None = None, *, onlink: bool = False
) -> bytes:
    """Add or replace a route through the interface: on the link, or by a gateway.

    `onlink` spares the gateway the question whether it is on the link.
    """
    attrs: Attributes = [("RTA_TABLE", table), ("RTA_OIF", index)]
    if network.prefixlen:
        attrs.append(("RTA_DST", str(network.network_address)))
    if gateway is not None:
        attrs.append(("RTA_GATEWAY", str(gateway)))
    return _encode(
        _classes().route(),
        netlink.RTM_NEWROUTE,
        _CREATE | _REPLACE,
        attrs,
        family=_family(network.version),
        dst_len=network.prefixlen,
        # The attribute holds the table; this byte cannot hold numbers above 255.
        table=table if table < 256 else 0,
        proto=protocol,
        scope=_SCOPE_LINK if gateway is None and network.version == 4 else _SCOPE_UNIVERSE,
        type=_RTN_UNICAST,
        flags=_RTNH_F_ONLINK if onlink else 0,
    )


def add_rule(source: Address, table: int, protocol: int, priority: int) -> bytes:
    """`ip rule add from SOURCE lookup TABLE`; EEXIST if it is there."""
    return _rule(netlink.RTM_NEWRULE, _CREATE | _EXCLUSIVE, source, table, protocol, priority)


def delete_rule(source: Address, table: int, protocol: int, priority: int) -> bytes:
    return _rule(netlink.RTM_DELRULE, 0, source, table, protocol, priority)


def _rule(kind: int, flags: int, source: Address, table: int, protocol: int, priority: int) -> bytes:
    return _encode(
        _classes().rule(),
        kind,
        flags,
        [("FRA_SRC", str(source)), ("FRA_TABLE", table), ("FRA_PROTOCOL", protocol), ("FRA_PRIORITY", priority)],
        family=_family(source.version),
        src_len=source.max_prefixlen,
        table=table if table < 256 else 0,
        action=_FR_ACT_TO_TBL,
    )
