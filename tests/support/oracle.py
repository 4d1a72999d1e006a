"""The same netlink requests as `pycarp.linux.messages`, `pycarp.lab.links` and `pycarp.linux.fib`, made by pyroute2.

A function here has the name and the arguments of the one that it is the oracle of.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Any

from pyroute2.netlink import nla, nlmsg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg, macvx_data
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from pycarp.linux.fib import Hop, Route, Rule
from pycarp.linux.messages import IPV4_CONF, Address

Attributes = Sequence[tuple[Any, ...]]
Interface = IPv4Interface | IPv6Interface

NEW, GET, DELETE, SET = 0, 2, 1, 3
LINK, ADDRESS, ROUTE, NEIGHBOUR, RULE, PROPERTY = 16, 20, 24, 28, 32, 108
REQUEST, ACK, REPLACE, EXCLUSIVE, CREATE, APPEND, DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800, 0x300
NESTED = 0x8000
FOREVER = 0xFFFFFFFF
ONLINK, UNICAST, TO_TABLE, LINK_SCOPE, OWN_PROTOCOL = 4, 1, 1, 253, 112

# It knows the first six.
macvx_data.nla_map = (*macvx_data.nla_map, ("IFLA_MACVLAN_BC_QUEUE_LEN", "uint32"))


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


class properties(nlmsg):  # type: ignore[misc]
    """What pyroute2's own class can only read, too."""

    fields = ifinfmsg.fields
    nla_map = ((52, "IFLA_PROP_LIST", "proplist"), (55, "IFLA_PROTO_DOWN_REASON", "down_reason"), (39, "DOWN", "uint8"))

    class proplist(nla):  # type: ignore[misc]
        nla_map = ((53, "IFLA_ALT_IFNAME", "asciiz"),)

    class down_reason(nla):  # type: ignore[misc]
        nla_map = ((1, "MASK", "uint32"), (2, "VALUE", "uint32"))


def encode(message: Any, kind: int, options: int, attrs: Attributes = (), /, **fields: int) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message["header"]["type"] = kind
    message["header"]["flags"] = REQUEST | options
    message.encode()
    return bytes(message.data)


def dump(wanted: int, family: int) -> bytes:
    kinds = {LINK: ifinfmsg, ADDRESS: ifaddrmsg, ROUTE: rtmsg, NEIGHBOUR: ndmsg, RULE: fibmsg}
    return encode(kinds[wanted - GET](), wanted, DUMP, family=family)


def dump_routes(family: int, table: int, index: int, protocol: int) -> bytes:
    attrs = [(name, value) for name, value in (("RTA_TABLE", table), ("RTA_OIF", index)) if value]
    octet = table if table < 256 else 0
    return encode(rtmsg(), ROUTE + GET, DUMP, attrs, family=family, table=octet, proto=protocol, type=0)


def family(version: int) -> int:
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


# Links


def new_link(attrs: Attributes) -> bytes:
    return encode(ifinfmsg(), LINK, ACK | CREATE | EXCLUSIVE, attrs)


def set_link(attrs: Attributes, message: Any = ifinfmsg, **fields: int) -> bytes:
    return encode(message(), LINK + SET, ACK, attrs, **fields)


def link_state(index: int, up: bool) -> bytes:
    return set_link([], index=index, flags=int(up), change=1)


def rename_link(index: int, name: str) -> bytes:
    return set_link([("IFLA_IFNAME", name)], index=index)


def delete_link(which: int | str) -> bytes:
    if isinstance(which, str):
        return encode(ifinfmsg(), LINK + DELETE, ACK, [("IFLA_IFNAME", which)])
    return encode(ifinfmsg(), LINK + DELETE, ACK, index=which)


def add_macvlan(name: str, parent: int, mac: bytes) -> bytes:
    mode = [("IFLA_MACVLAN_MODE", "bridge"), ("IFLA_MACVLAN_BC_QUEUE_LEN", 10_000)]
    kind = [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", {"attrs": mode})]
    attrs = [("IFLA_IFNAME", name), ("IFLA_LINK", parent), ("IFLA_ADDRESS", mac.hex(":"))]
    return new_link([*attrs, ("IFLA_LINKINFO", {"attrs": kind})])


def set_alias(name: str, alias: str) -> bytes:
    return set_link([("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)])


def no_link_local(which: str | int) -> bytes:
    spec = ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]})
    if isinstance(which, int):
        return set_link([spec], index=which)
    return set_link([("IFLA_IFNAME", which), spec])


def set_mtu(index: int, mtu: int) -> bytes:
    return set_link([("IFLA_MTU", mtu)], index=index)


def set_group(index: int, group: int) -> bytes:
    return set_link([("IFLA_GROUP", group)], index=index)


def lift_protodown(index: int) -> bytes:
    reasons = {"attrs": [("MASK", 0xFFFFFFFF), ("VALUE", 0)]}
    return set_link([("IFLA_PROTO_DOWN_REASON", reasons, NESTED), ("DOWN", 0)], properties, index=index)


def set_protodown(name: str) -> bytes:
    return set_link([("IFLA_IFNAME", name), ("IFLA_PROTO_DOWN", 1)])


def add_altname(index: int, name: str) -> bytes:
    names = [("IFLA_PROP_LIST", {"attrs": [("IFLA_ALT_IFNAME", name)]}, NESTED)]
    return encode(properties(), PROPERTY, ACK | CREATE | EXCLUSIVE | APPEND, names, index=index)


def delete_altname(index: int, name: str) -> bytes:
    names = [("IFLA_PROP_LIST", {"attrs": [("IFLA_ALT_IFNAME", name)]}, NESTED)]
    return encode(properties(), PROPERTY + DELETE, ACK, names, index=index)


def bridge_fdb(index: int, mac: bytes, present: bool) -> bytes:
    kind, flags = (NEIGHBOUR, CREATE | REPLACE) if present else (NEIGHBOUR + DELETE, 0)
    attrs = [("NDA_LLADDR", mac.hex(":"))]
    return encode(ndmsg(), kind, ACK | flags, attrs, family=socket.AF_BRIDGE, ifindex=index, state=0x80, flags=2)


def ipv4_conf(index: int, values: Mapping[str, int]) -> bytes:
    inet = {"attrs": [("IFLA_INET_CONF", {"attrs": list(values.items())})]}
    return set_link([("IFLA_AF_SPEC", {"attrs": [("AF_INET", inet)]})], ipv4conf, index=index)


# Links of a lab


def add_bridge(name: str, snooping: bool) -> bytes:
    data = [
        ("IFLA_BR_FORWARD_DELAY", 0),
        ("IFLA_BR_STP_STATE", 0),
        ("IFLA_BR_MCAST_SNOOPING", int(snooping)),
        ("IFLA_BR_NF_CALL_IPTABLES", 0),
        ("IFLA_BR_NF_CALL_IP6TABLES", 0),
        ("IFLA_BR_NF_CALL_ARPTABLES", 0),
    ]
    kind = [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": data})]
    return new_link([("IFLA_IFNAME", name), ("IFLA_LINKINFO", {"attrs": kind})])


def add_veth(name: str, mac: bytes, peer: str, peer_mac: bytes, peer_namespace: int) -> bytes:
    other = [("IFLA_IFNAME", peer), ("IFLA_ADDRESS", peer_mac.hex(":")), ("IFLA_NET_NS_FD", peer_namespace)]
    kind = [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": other})]})]
    return new_link([("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac.hex(":")), ("IFLA_LINKINFO", {"attrs": kind})])


def set_master(index: int, master: int) -> bytes:
    return set_link([("IFLA_MASTER", master)], index=index)


def bridge_port(index: int, values: Mapping[str, int]) -> bytes:
    info = {"attrs": [(f"IFLA_BRPORT_{name.upper()}", value) for name, value in values.items()]}
    return set_link([("IFLA_PROTINFO", info, NESTED)], family=int(socket.AF_BRIDGE), index=index)


# Addresses


def add_address(
    index: int, address: Interface, *, protocol: int = 0, prefix_route: bool = True, deprecated: bool = False
) -> bytes:
    attrs: list[tuple[str, Any]] = [("IFA_PROTO", protocol)] if protocol else []
    flags = (2 if address.version == 6 else 0) | (0 if prefix_route else 0x200)
    if flags:
        attrs.append(("IFA_FLAGS", flags))
    if address.version == 4 and address.network.prefixlen < 31:
        attrs.append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    attrs.append(("IFA_CACHEINFO", {"ifa_preferred": 0 if deprecated else FOREVER, "ifa_valid": FOREVER}))
    return of_address(ADDRESS, CREATE | REPLACE, index, address, attrs)


def delete_address(index: int, address: Interface) -> bytes:
    return of_address(ADDRESS + DELETE, 0, index, address, [])


def of_address(kind: int, flags: int, index: int, address: Interface, attrs: Attributes) -> bytes:
    both = [("IFA_LOCAL", str(address.ip)), ("IFA_ADDRESS", str(address.ip))]
    where = {"family": family(address.version), "prefixlen": address.network.prefixlen, "index": index}
    return encode(ifaddrmsg(), kind, ACK | flags, [*both, *attrs], **where)


# Routes and rules


def add_route(
    index: int,
    network: IPv4Network | IPv6Network,
    table: int,
    protocol: int,
    gateway: Address | None = None,
    *,
    onlink: bool = False,
) -> bytes:
    attrs: list[tuple[str, Any]] = [("RTA_TABLE", table), ("RTA_OIF", index)]
    if network.prefixlen:
        attrs.append(("RTA_DST", str(network.network_address)))
    if gateway is not None:
        attrs.append(("RTA_GATEWAY", str(gateway)))
    return encode(
        rtmsg(),
        ROUTE,
        ACK | CREATE | REPLACE,
        attrs,
        family=family(network.version),
        dst_len=network.prefixlen,
        table=table if table < 256 else 0,
        proto=protocol,
        scope=LINK_SCOPE if gateway is None and network.version == 4 else 0,
        type=UNICAST,
        flags=ONLINK if onlink else 0,
    )


def add_rule(source: Address, table: int, protocol: int, priority: int) -> bytes:
    return of_rule(RULE, CREATE | EXCLUSIVE, source, table, protocol, priority)


def delete_rule(source: Address, table: int, protocol: int, priority: int) -> bytes:
    return of_rule(RULE + DELETE, 0, source, table, protocol, priority)


def of_rule(kind: int, flags: int, source: Address, table: int, protocol: int, priority: int) -> bytes:
    attrs = [("FRA_SRC", str(source)), ("FRA_TABLE", table), ("FRA_PROTOCOL", protocol), ("FRA_PRIORITY", priority)]
    of = {"family": family(source.version), "src_len": source.max_prefixlen}
    return encode(fibmsg(), kind, ACK | flags, attrs, table=table if table < 256 else 0, action=TO_TABLE, **of)


def route_add(route: Route, table: int, source: Address | None) -> bytes:
    return of_route(ROUTE, CREATE | APPEND, route, table, source)


def route_delete(route: Route, table: int) -> bytes:
    return of_route(ROUTE + DELETE, 0, route, table, None)


def of_route(kind: int, flags: int, route: Route, table: int, source: Address | None) -> bytes:
    """Without encapsulation, metrics and a source that the route is for."""
    attrs: list[tuple[str, Any]] = [("RTA_TABLE", table)]
    if route.prefix[0]:
        attrs.append(("RTA_DST", str(route.network.network_address)))
    if route.metric:
        attrs.append(("RTA_PRIORITY", route.metric))
    if source is not None:
        attrs.append(("RTA_PREFSRC", str(source)))
    if route.preference:
        attrs.append(("RTA_PREF", route.preference))
    single = len(route.hops) == 1
    if single:
        attrs += [("RTA_OIF", route.hops[0].index), *gateway_of(route, route.hops[0])]
    elif route.hops:
        attrs.append(("RTA_MULTIPATH", [of_hop(route, hop) for hop in route.hops]))
    return encode(
        rtmsg(),
        kind,
        ACK | flags,
        attrs,
        family=route.family,
        dst_len=route.prefix[0],
        tos=route.tos,
        table=table if table < 256 else 0,
        proto=OWN_PROTOCOL,
        scope=route.scope,
        type=route.kind,
        flags=onlink_of(route, route.hops[0]) if single else 0,
    )


def gateway_of(route: Route, hop: Hop) -> Attributes:
    family = socket.AddressFamily(route.family)
    return [("RTA_GATEWAY", socket.inet_ntop(family, value)) for _kind, value in hop.attributes]


def onlink_of(route: Route, hop: Hop) -> int:
    return ONLINK if hop.attributes and route.family == socket.AF_INET else 0


def of_hop(route: Route, hop: Hop) -> dict[str, Any]:
    flags = {"oif": hop.index, "hops": hop.weight, "flags": onlink_of(route, hop)}
    return {**flags, "attrs": gateway_of(route, hop)}


def rule_add(rule: Rule) -> bytes:
    return of_policy(RULE, CREATE | EXCLUSIVE, rule, True)


def rule_delete(rule: Rule, anywhere: bool) -> bytes:
    return of_policy(RULE + DELETE, 0, rule, not anywhere)


def of_policy(kind: int, flags: int, rule: Rule, placed: bool) -> bytes:
    """Of a rule that has no selectors but its source."""
    attrs: list[tuple[str, Any]] = []
    if rule.source is not None:
        attrs.append(("FRA_SRC", str(rule.source.network_address)))
    if placed:
        attrs.append(("FRA_PRIORITY", rule.priority))
    attrs += [("FRA_TABLE", rule.table), ("FRA_PROTOCOL", rule.protocol)]
    return encode(
        fibmsg(),
        kind,
        ACK | flags,
        attrs,
        family=rule.family,
        dst_len=rule.lengths,
        src_len=0 if rule.source is None else rule.source.prefixlen,
        tos=rule.tos,
        table=rule.table if rule.table < 256 else 0,
        action=rule.action,
        flags=rule.flags,
    )
