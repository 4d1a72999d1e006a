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

from .netlink import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTM_SETLINK,
)

Interface = IPv4Interface | IPv6Interface
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REQUEST, _ACK = 0x1, 0x4
_REPLACE, _EXCLUSIVE, _CREATE = 0x100, 0x200, 0x400

IFF_UP = 0x1
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
FOREVER = 0xFFFFFFFF

# Numbers of include/uapi/linux/ip.h, IPV4_DEVCONF_*.
IPV4_CONF = {"rp_filter": 8, "arp_announce": 18, "arp_ignore": 19}

RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTNH_F_ONLINK = 4
_FR_ACT_TO_TBL = 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_MACVLAN_BRIDGE = "bridge"
_ADDR_GEN_NONE = 1
_AF_BRIDGE = 7
_NESTED = 0x8000


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
                    nla_map = tuple((number, name, "uint32") for name, number in IPV4_CONF.items())

    return SimpleNamespace(link=ifinfmsg, ipv4conf=ipv4conf, address=ifaddrmsg, route=rtmsg, rule=fibmsg)


def _encode(message: Any, kind: int, options: int, attrs: list[Any], /, **fields: int) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message["header"]["type"] = kind
    message["header"]["flags"] = _REQUEST | options
    message.encode()
    return bytes(message.data)


def _family(version: int) -> int:
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


def _text(mac: bytes) -> str:
    return mac.hex(":")


# Links


def link_state(index: int, up: bool) -> bytes:
    return _encode(_classes().link(), RTM_SETLINK, _ACK, [], index=index, flags=int(up) * IFF_UP, change=IFF_UP)


def delete_link(index: int) -> bytes:
    return _encode(_classes().link(), RTM_DELLINK, _ACK, [], index=index)


def add_macvlan(name: str, parent: int, mac: bytes) -> bytes:
    """A macvlan in bridge mode, down. EEXIST if the name is taken."""
    kind = [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", {"attrs": [("IFLA_MACVLAN_MODE", _MACVLAN_BRIDGE)]})]
    attrs = [
        ("IFLA_IFNAME", name),
        ("IFLA_LINK", parent),
        ("IFLA_ADDRESS", _text(mac)),
        ("IFLA_LINKINFO", {"attrs": kind}),
    ]
    return _encode(_classes().link(), RTM_NEWLINK, _ACK | _CREATE | _EXCLUSIVE, attrs)


def set_alias(name: str, alias: str) -> bytes:
    """By name, so that it can follow the creation in one batch: a kill in between must not leave an unmarked device."""
    return _encode(_classes().link(), RTM_SETLINK, _ACK, [("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)])


def no_link_local(name: str) -> bytes:
    """addrgenmode none: the kernel makes up no IPv6 address of its own when the link goes up."""
    spec = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE)]})]}
    return _encode(_classes().link(), RTM_SETLINK, _ACK, [("IFLA_IFNAME", name), ("IFLA_AF_SPEC", spec)])


def ipv4_conf(index: int, values: Mapping[str, int]) -> bytes:
    """Set the IPv4 settings of an interface (names of `IPV4_CONF`), as writing /proc/sys/net/ipv4/conf/NAME would.

    Through netlink it also works where /proc/sys is mounted read-only, as in containers.
    """
    conf = {"attrs": list(values.items())}
    spec = {"attrs": [("AF_INET", {"attrs": [("IFLA_INET_CONF", conf)]})]}
    return _encode(_classes().ipv4conf(), RTM_SETLINK, _ACK, [("IFLA_AF_SPEC", spec)], index=index)


# Addresses


def add_address(
    index: int,
    address: Interface,
    *,
    protocol: int = 0,
    lifetime: int | None = None,
    prefix_route: bool = True,
    deprecated: bool = False,
) -> bytes:
    """Add an address, or set its lifetime anew when it is there; IPv6 without duplicate detection.

    `lifetime` is seconds until the kernel removes it by itself, None is for ever; `protocol` is IFA_PROTO; a
    `deprecated` address answers like any other, but the host does not choose it for connections that it opens.
    """
    ip = str(address.ip)
    attrs: list[tuple[str, Any]] = [("IFA_LOCAL", ip), ("IFA_ADDRESS", ip)]
    if protocol:
        attrs.append(("IFA_PROTO", protocol))
    flags = (IFA_F_NODAD if address.version == 6 else 0) | (0 if prefix_route else IFA_F_NOPREFIXROUTE)
    if flags:
        attrs.append(("IFA_FLAGS", flags))
    if address.version == 4 and address.network.prefixlen < 31:
        attrs.append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    valid = FOREVER if lifetime is None else lifetime
    attrs.append(("IFA_CACHEINFO", {"ifa_preferred": 0 if deprecated else valid, "ifa_valid": valid}))
    return _encode(
        _classes().address(),
        RTM_NEWADDR,
        _ACK | _CREATE | _REPLACE,
        attrs,
        family=_family(address.version),
        prefixlen=address.network.prefixlen,
        index=index,
    )


def delete_address(index: int, address: Interface) -> bytes:
    ip = str(address.ip)
    return _encode(
        _classes().address(),
        RTM_DELADDR,
        _ACK,
        [("IFA_LOCAL", ip), ("IFA_ADDRESS", ip)],
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
    attrs: list[tuple[str, Any]] = [("RTA_TABLE", table), ("RTA_OIF", index)]
    if network.prefixlen:
        attrs.append(("RTA_DST", str(network.network_address)))
    if gateway is not None:
        attrs.append(("RTA_GATEWAY", str(gateway)))
    return _encode(
        _classes().route(),
        RTM_NEWROUTE,
        _ACK | _CREATE | _REPLACE,
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


def add_rule(source: Address, table: int, protocol: int, priority: int) -> bytes:
    """`ip rule add from SOURCE lookup TABLE`; EEXIST if it is there."""
    return _rule(RTM_NEWRULE, _ACK | _CREATE | _EXCLUSIVE, source, table, protocol, priority)


def delete_rule(source: Address, table: int, protocol: int, priority: int) -> bytes:
    return _rule(RTM_DELRULE, _ACK, source, table, protocol, priority)


# What only a lab needs


def add_bridge(name: str, snooping: bool) -> bytes:
    """A bridge that forwards at once and lets no firewall of the machine see its frames."""
    data = [
        ("IFLA_BR_FORWARD_DELAY", 0),
        ("IFLA_BR_STP_STATE", 0),
        ("IFLA_BR_MCAST_SNOOPING", int(snooping)),
        ("IFLA_BR_NF_CALL_IPTABLES", 0),
        ("IFLA_BR_NF_CALL_IP6TABLES", 0),
        ("IFLA_BR_NF_CALL_ARPTABLES", 0),
    ]
    kind = [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": data})]
    attrs = [("IFLA_IFNAME", name), ("IFLA_LINKINFO", {"attrs": kind})]
    return _encode(_classes().link(), RTM_NEWLINK, _ACK | _CREATE | _EXCLUSIVE, attrs)


def add_veth(name: str, mac: bytes, peer: str, peer_mac: bytes, peer_namespace: int) -> bytes:
    """A cable: one end here, the other as `peer` in the namespace behind the descriptor `peer_namespace`."""
    other = [("IFLA_IFNAME", peer), ("IFLA_ADDRESS", _text(peer_mac)), ("IFLA_NET_NS_FD", peer_namespace)]
    kind = [
        ("IFLA_INFO_KIND", "veth"),
        ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": other})]}),
    ]
    attrs = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", _text(mac)), ("IFLA_LINKINFO", {"attrs": kind})]
    return _encode(_classes().link(), RTM_NEWLINK, _ACK | _CREATE | _EXCLUSIVE, attrs)


def set_master(index: int, master: int) -> bytes:
    return _encode(_classes().link(), RTM_SETLINK, _ACK, [("IFLA_MASTER", master)], index=index)


def bridge_port(index: int, values: Mapping[str, int]) -> bytes:
    """Change a port of a bridge: names of IFLA_BRPORT_* in lower case, such as ``state`` or ``bcast_flood``."""
    # Through AF_BRIDGE: as the data of a slave link the kernel takes a new state and overrules it in the same breath.
    # Without the flag for nesting, the attribute is read as one byte of state.
    info = {"attrs": [(f"IFLA_BRPORT_{name.upper()}", value) for name, value in values.items()]}
    return _encode(
        _classes().link(), RTM_SETLINK, _ACK, [("IFLA_PROTINFO", info, _NESTED)], family=_AF_BRIDGE, index=index
    )
